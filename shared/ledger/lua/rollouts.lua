-- Rollouts: one a tenant at a time. KEY.rollout holds what those need who accept and end jobs, the record, which whoever holds the
-- lease writes, and `fence`, the number of its last lease: a write under an older one is refused. KEY.open_rollouts holds the
-- tenants by the time at which the lease ends.

local MAX_TRIALS = 50000  -- of one rollout, some 250 bytes each, until its controller has counted them
local MAX_ENDED = 200
local TRIALS_SECONDS = 24 * 3600

local function rollout_key(tenant) return KEY.rollout .. tenant end

-- Whether a job was made for another share than the rollout has now, or for one that is over.
local function rollout_moved(a)
  if not a.trial then return false end
  local rollout, share = unpack(a.trial)
  local id, percent = unpack(redis.call('HMGET', rollout_key(a.tenant_id), 'id', 'percent'))
  return id ~= rollout or tonumber(percent) ~= share
end

local function add_trial(tenant, rollout, fields)
  if redis.call('HGET', rollout_key(tenant), 'id') ~= rollout then return end
  redis.call('XADD', KEY.trials .. rollout, 'MAXLEN', '~', MAX_TRIALS, '*', 'trial', cjson.encode(fields))
end

-- Notes how a job of a rollout ended.
local function note_trial(job, state)
  if (job.rollout or '') == '' then return end
  local names = { 'release', 'selection', 'at_queued', 'at_routed', 'at_running' }
  local release, selection, queued, routed, running = unpack(read(job.id, unpack(names)))
  local told = selection and cjson.decode(selection) or {}
  add_trial(job.tenant_id, job.rollout, {
    job = job.id, release = release, state = state, ended = NOW, queued = tonumber(queued), routed = tonumber(routed or 0) or nil,
    running = tonumber(running or 0) or nil, rejected = told.rejected == true, tokens = job.used and job.used[2] or 0,
  })
end

function op.begin_rollout(a)
  local key = rollout_key(a.tenant_id)
  local open = redis.call('HGET', key, 'id')
  if open then return open == a.id and {} or refuse('open', { id = open }) end
  local current = redis.call('GET', KEY.release .. a.tenant_id) or ''
  if current ~= a.current then return refuse('stale_parent', { current = current }) end
  if not redis.call('HGET', KEY.releases .. a.tenant_id, a.release) then return refuse('gone') end
  redis.call('HSET', key, 'id', a.id, 'release', a.release, 'record', a.record, 'fence', 0, 'percent', 0)
  redis.call('ZADD', KEY.open_rollouts, NOW_MS, a.tenant_id)
  redis.call('PUBLISH', 'sb:hint:release', a.tenant_id)  -- workers make ready
  notify(a.tenant_id, a.id, { 'rollout.started' }, { id = a.id, release = a.release })
  return {}
end

-- A tenant's open rollout and those that have ended, oldest first.
function op.rollouts(a)
  local open = redis.call('HGET', rollout_key(a.tenant_id), 'record')
  return { open = open or '', ended = redis.call('LRANGE', KEY.rollouts .. a.tenant_id, 0, -1) }
end

-- Leases one rollout that nobody holds.
function op.take_rollout(a)
  local tenant = redis.call('ZRANGEBYSCORE', KEY.open_rollouts, '-inf', NOW_MS, 'LIMIT', 0, 1)[1]
  if not tenant then return {} end
  redis.call('ZADD', KEY.open_rollouts, ms(NOW + a.lease_ms), tenant)
  local fence = redis.call('HINCRBY', rollout_key(tenant), 'fence', 1)
  local record, asked = unpack(redis.call('HMGET', rollout_key(tenant), 'record', 'asked'))
  return { taken = { record = record, asked = asked or '', fence = fence } }
end

-- Writes the record with its share, renews the lease, and takes off what was asked if the record answers it.
function op.write_rollout(a)
  local key = rollout_key(a.tenant_id)
  local id, fence, percent, asked = unpack(redis.call('HMGET', key, 'id', 'fence', 'percent', 'asked'))
  if id ~= a.id or tonumber(fence) ~= a.fence then return refuse('stale') end
  if asked and asked == a.answered then
    redis.call('HDEL', key, 'asked')
    asked = nil
  end
  redis.call('ZADD', KEY.open_rollouts, ms(NOW + a.lease_ms), a.tenant_id)
  if a.record == '' then return { asked = asked or '' } end
  local may = asked and 0 or a.percent  -- what is asked stops the candidate's requests at once
  redis.call('HSET', key, 'record', a.record, 'percent', may)
  redis.call('XTRIM', KEY.trials .. a.id, 'MINID', '~', a.cursor)
  if tonumber(percent) ~= may or a.ended then redis.call('PUBLISH', 'sb:hint:release', a.tenant_id) end
  if a.event ~= '' then notify(a.tenant_id, a.id, { a.event }, { id = a.id, release = a.release, why = a.why }) end
  if a.ended then
    redis.call('RPUSH', KEY.rollouts .. a.tenant_id, a.record)
    redis.call('LTRIM', KEY.rollouts .. a.tenant_id, -MAX_ENDED, -1)
    redis.call('DEL', key)
    redis.call('ZREM', KEY.open_rollouts, a.tenant_id)
    redis.call('EXPIRE', KEY.trials .. a.id, TRIALS_SECONDS)
  end
  return { asked = asked or '' }
end

-- Asks the controller for something; what stops the candidate's requests does so at once.
function op.ask_rollout(a)
  local key = rollout_key(a.tenant_id)
  if redis.call('HGET', key, 'id') ~= a.id then return refuse('gone') end
  redis.call('HSET', key, 'asked', a.asked)
  if a.stops then
    redis.call('HSET', key, 'percent', 0)
    redis.call('PUBLISH', 'sb:hint:release', a.tenant_id)
  end
  return {}
end

-- Notes what a candidate's selector says of a job that the current release answers.
function op.note_shadow(a)
  if read(a.id, 'rollout')[1] == a.rollout then add_trial(a.tenant_id, a.rollout, a.seen) end
  return {}
end
