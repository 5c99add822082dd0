-- The ledger: every transition of a job is one call of this script, so it happens whole or not at all.
-- ARGV[1] names the operation, ARGV[2] holds its arguments as JSON; the reply is JSON. LEGAL and MAX_LOST come
-- from Python (shared/contracts/jobs.py, settings). A reply {"refused": code} means that nothing was written.

local time = redis.call('TIME')
local NOW = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local FEED_LENGTH = 20000
local LIST_SCAN = 2000  -- one call looks at no more: a rare filter gives short pages with a cursor, and blocks nobody

local function job_key(id) return 'sb:job:' .. id end
local function waiting_key(queue) return 'sb:waiting:' .. queue end
local function leased_key(queue) return 'sb:leased:' .. queue end
local function ms(value) return string.format('%.3f', value) end
local NOW_MS = ms(NOW)
local function read(id, ...) return redis.call('HMGET', job_key(id), ...) end
local function refuse(code, more) more = more or {}; more.refused = code; return more end

local function load(id)
  local flat = redis.call('HGETALL', job_key(id))
  local job = {}
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return job
end

-- What transitions are decided by, read in one go: every call out of Lua costs as much as the command it runs.
local FACTS = { 'state', 'attempt', 'queue', 'tenant_id', 'ttl', 'cancel_requested', 'deadline_ms', 'lost_leases', 'ended_by' }
local function facts(id)
  local job = { id = id }
  for i, value in ipairs(read(id, unpack(FACTS))) do job[FACTS[i]] = value end
  return job
end

local function is_final(state) return next(LEGAL[state]) == nil end
local function is_held(state) return state == 'selecting' or state == 'running' end

-- Announce a fact: to the job's own stream (for replay) and to the one feed every API process reads.
local function emit(id, kind, data)
  local event = redis.call('XADD', 'sb:events:' .. id, '*', 'type', kind, 'data', data)
  redis.call('XADD', 'sb:feed', 'MAXLEN', '~', FEED_LENGTH, '*', 'job', id, 'event', event, 'type', kind, 'data', data)
end

-- Writes the new state and `fields`, into `job` as well.
local function move(job, to, fields)
  local from, set = job.state, {}
  if not LEGAL[from][to] then error('illegal transition ' .. from .. ' -> ' .. to) end
  fields.state, fields['at_' .. to] = to, NOW_MS
  for name, value in pairs(fields) do
    set[#set + 1] = name; set[#set + 1] = value
    job[name] = value
  end
  redis.call('HSET', job_key(job.id), unpack(set))
  redis.call('HINCRBY', 'sb:states', from, -1)
  redis.call('HINCRBY', 'sb:states', to, 1)
  emit(job.id, 'state', cjson.encode({ state = to, label = fields.label, error = fields.error and cjson.decode(fields.error) }))
end

local function wait_in(id, queue)
  redis.call('SADD', 'sb:queues', queue)
  redis.call('ZADD', waiting_key(queue), NOW_MS, id)
end

local function leave_queue(job)
  redis.call('ZREM', is_held(job.state) and leased_key(job.queue) or waiting_key(job.queue), job.id)
end

-- An ended job is kept for `ttl` seconds; `sb:ends` tells when the tenant's index may forget it too.
local function keep_for(id, tenant, ttl)
  redis.call('EXPIRE', job_key(id), ttl)
  redis.call('EXPIRE', 'sb:events:' .. id, ttl)
  redis.call('ZADD', 'sb:ends', ms(NOW + ttl * 1000 + 1), tenant .. '|' .. id)  -- 1: EXPIRE cuts off fractions
end

-- Each new job takes a few expired ones out of the indexes, so they stay as small as what they name.
local function forget_expired()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', 'sb:ends', '-inf', NOW_MS, 'LIMIT', 0, 4)) do
    local tenant, id = member:match('^(.*)|([^|]*)$')
    redis.call('ZREM', 'sb:ends', member)
    if redis.call('EXISTS', job_key(id)) == 0 then redis.call('ZREM', 'sb:jobs:' .. tenant, id) end
  end
end

local finish  -- a finished job releases those that wait for it, or fails them, which finishes them in turn

local function release_dependents(id, state)
  local waiting, released = redis.call('SMEMBERS', 'sb:after:' .. id), {}
  if #waiting == 0 then return released end
  for _, next_id in ipairs(waiting) do
    redis.call('SREM', 'sb:blockers:' .. next_id, id)
    local next_job = facts(next_id)
    if next_job.state == 'queued' then
      if state ~= 'succeeded' then
        local why = { code = 'dependency_failed', detail = 'job ' .. id .. ' ended as ' .. state .. '; submit this one again after mending that one', retryable = false }
        finish(next_job, 'failed', { error = cjson.encode(why) }, 0)
      elseif redis.call('SCARD', 'sb:blockers:' .. next_id) == 0 then
        wait_in(next_id, next_job.queue)
        released[#released + 1] = { next_id, next_job.queue, NOW_MS }
      end
    end
  end
  redis.call('DEL', 'sb:after:' .. id)
  return released
end

-- Answers the jobs that only a success sets free.
function finish(job, state, fields, ttl)
  leave_queue(job)
  if tonumber(job.deadline_ms) > 0 then redis.call('ZREM', 'sb:deadlines', job.id) end
  move(job, state, fields)
  if fields.dead then
    redis.call('ZADD', 'sb:dead:' .. job.tenant_id, NOW_MS, job.id)  -- kept until it is replayed or dropped
  else
    keep_for(job.id, job.tenant_id, ttl > 0 and ttl or tonumber(job.ttl))
  end
  return release_dependents(job.id, state)
end

local function fail(job, code, detail, dead)
  local why = cjson.encode({ code = code, detail = detail, retryable = dead or false })
  redis.call('HINCRBY', 'sb:given_up', code, 1)
  finish(job, 'failed', dead and { error = why, dead = '1' } or { error = why }, 0)
end

local function waiting_state(queue) return queue:sub(1, 9) == 'generate.' and 'routed' or 'queued' end

-- An attempt is over and its job is not: it waits in `queue`, or ends where somebody cancelled it meanwhile.
local function wait_again(job, queue, fields)
  if job.cancel_requested == '1' then
    finish(job, 'cancelled', {}, 0)
    return { cancelled = true }
  end
  leave_queue(job)
  fields.owner = ''
  move(job, waiting_state(queue), fields)
  local deadline = job.deadline_ms
  if tonumber(deadline) > 0 then redis.call('ZADD', 'sb:deadlines', deadline, job.id) end  -- gone if it passed meanwhile
  wait_in(job.id, queue)
  return { queue = queue, sent_ms = NOW_MS }
end

-- An attempt whose lease ran out: back to where it waited, or to the dead letters after MAX_LOST of them.
-- Answers whether the job waits.
local function lose_lease(job)
  local lost = tonumber(job.lost_leases) + 1
  if lost >= MAX_LOST and job.cancel_requested ~= '1' then
    redis.call('HSET', job_key(job.id), 'lost_leases', lost)
    fail(job, 'attempts_exhausted', lost .. ' workers in a row went silent over this job; look at the dead letters, then replay it', true)
    return false
  end
  return not wait_again(job, job.queue, { lost_leases = lost }).cancelled
end

-- Whether `attempt` still has the job and may write.
local function is_owner(job, attempt) return is_held(job.state) and tonumber(job.attempt) == attempt end

-- The facts of a job that `attempt` owns; nothing where it does not.
local function owned(id, attempt)
  local job = facts(id)
  return is_owner(job, attempt) and job or nil
end

-- Jobs of all queues that wait for a worker, or for other jobs.
local function waiting_count()
  local count = 0
  for _, number in ipairs(redis.call('HMGET', 'sb:states', 'queued', 'routed')) do count = count + tonumber(number or 0) end
  return count
end

local op = {}

function op.create(a)
  local known = redis.call('HGET', job_key(a.id), 'fingerprint')
  if known then return { existing = true, same = known == a.fingerprint } end
  if a.max_waiting > 0 and waiting_count() >= a.max_waiting then return refuse('overloaded') end
  if a.release ~= '' and redis.call('GET', 'sb:release:' .. a.tenant_id) ~= a.release then return refuse('release_moved') end
  for _, other in ipairs(a.after) do
    local state, tenant = unpack(read(other, 'state', 'tenant_id'))
    if not state or tenant ~= a.tenant_id then return refuse('dependency_unknown', { id = other }) end
    if is_final(state) and state ~= 'succeeded' then return refuse('dependency_failed', { id = other }) end
  end
  forget_expired()
  redis.call('HSET', job_key(a.id), 'id', a.id, 'tenant_id', a.tenant_id, 'kind', a.kind, 'state', a.state, 'queue', a.queue,
    'body', a.body, 'release', a.release, 'label', a.label, 'fingerprint', a.fingerprint, 'attempt', 0, 'lost_leases', 0,
    'cancel_requested', 0, 'ttl', a.ttl, 'deadline_ms', a.deadline > 0 and ms(NOW + a.deadline * 1000) or 0,
    'at_queued', NOW_MS, 'at_' .. a.state, NOW_MS)
  if a.trace ~= '' then redis.call('HSET', job_key(a.id), 'trace', a.trace) end
  redis.call('ZADD', 'sb:jobs:' .. a.tenant_id, NOW_MS, a.id)
  redis.call('HINCRBY', 'sb:states', a.state, 1)
  if a.deadline > 0 then redis.call('ZADD', 'sb:deadlines', ms(NOW + a.deadline * 1000), a.id) end
  local blocked = false
  for _, other in ipairs(a.after) do
    if not is_final(read(other, 'state')[1]) then
      blocked = true
      redis.call('SADD', 'sb:after:' .. other, a.id)
      redis.call('SADD', 'sb:blockers:' .. a.id, other)
    end
  end
  if not blocked then wait_in(a.id, a.queue) end
  emit(a.id, 'state', cjson.encode({ state = a.state, label = a.label }))
  return { existing = false, blocked = blocked, sent_ms = NOW_MS }
end

-- `try` names this call: a client that lost the answer sends it once more, and gets the same attempt.
-- Whoever works beside others is refused a job's last try: should it end its process again, they would go with it.
function op.acquire(a)
  local job = load(a.id)
  if not job.state then return refuse('gone') end
  if is_final(job.state) then return refuse('finished') end
  if job.queue ~= a.queue then return refuse('moved') end
  if is_held(job.state) then
    if job.owner == a.owner and job.try == a.try then return { job = job } end
    if tonumber(job.lease_until) > NOW then return refuse('leased') end
    if not lose_lease(job) then return refuse('finished') end
  end
  if tonumber(job.deadline_ms) > 0 and tonumber(job.deadline_ms) < NOW then
    fail(job, 'deadline_exceeded', 'the deadline passed while the job waited; give it more time or scale its group')
    return refuse('finished')
  end
  local lost = tonumber(job.lost_leases)
  if a.beside_others and lost > 0 and lost + 1 >= MAX_LOST then return refuse('last_try') end
  local lease_until = ms(NOW + a.lease_ms)
  leave_queue(job)
  redis.call('ZADD', leased_key(job.queue), lease_until, job.id)
  local state, attempt = job.queue == 'select' and 'selecting' or 'running', tonumber(job.attempt) + 1
  move(job, state, { attempt = attempt, owner = a.owner, try = a.try, lease_until = lease_until })
  return { job = job }
end

-- One call a beat and process: its leases live on, and its presence in the queues it serves.
function op.heartbeat(a)
  redis.call('SET', 'sb:process:' .. a.owner, a.info, 'PX', math.ceil(a.lease_ms))
  for _, queue in ipairs(a.queues) do
    redis.call('SADD', 'sb:queues', queue)
    redis.call('ZADD', 'sb:consumers:' .. queue, ms(NOW + a.lease_ms), a.owner)
  end
  local standing = {}
  for i, item in ipairs(a.items) do
    local id, attempt = item[1], item[2]
    local job = owned(id, attempt)
    if not job then
      standing[i] = 'stale'
    else
      redis.call('HSET', job_key(id), 'lease_until', ms(NOW + a.lease_ms))
      redis.call('ZADD', leased_key(job.queue), ms(NOW + a.lease_ms), id)
      standing[i] = job.cancel_requested == '1' and 'cancel' or 'held'
    end
  end
  return { standing = standing }
end

function op.leave_queues(a)
  redis.call('DEL', 'sb:process:' .. a.owner)
  for _, queue in ipairs(a.queues) do redis.call('ZREM', 'sb:consumers:' .. queue, a.owner) end
  return {}
end

-- A batch that comes again, its answer lost, is not written again: a writer counts its batches.
function op.append(a)
  local key, is_repeated = 'sb:writer:' .. a.writer, false
  if a.writer ~= '' then
    is_repeated = tonumber(redis.call('GET', key) or 0) >= a.batch
    redis.call('SET', key, a.batch, 'EX', 600)  -- longer than any client goes on trying
  end
  local standing = {}
  for i, item in ipairs(a.items) do
    local id, attempt, kind, data = item[1], item[2], item[3], item[4]
    standing[i] = owned(id, attempt) and 'held' or 'stale'
    if standing[i] == 'held' and not is_repeated then
      if kind == 'progress' then redis.call('HSET', job_key(id), 'progress', data) end
      emit(id, kind, data)
    end
  end
  return { standing = standing }
end

function op.route(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  return wait_again(job, a.queue, { queue = a.queue, label = a.label, selection = a.selection, lost_leases = 0, first_attempt = a.attempt + 1 })
end

-- Where the answer was lost, the attempt that wrote the end hears so again; the reconciler sends what it set free.
function op.finish(a)
  local job = facts(a.id)
  if tonumber(job.ended_by or 0) == a.attempt then return { released = {} } end
  if not is_owner(job, a.attempt) then return refuse('stale') end
  a.fields.ended_by = a.attempt
  for _, event in ipairs(a.events) do emit(a.id, event[1], event[2]) end
  return { released = finish(job, a.state, a.fields, a.ttl) }
end

-- A worker that must stop returns what it holds: no lease was lost, so none is counted.
function op.release_unfinished(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  return wait_again(job, job.queue, {})
end

function op.cancel(a)
  local job = facts(a.id)
  if not job.state or job.tenant_id ~= a.tenant_id then return refuse('gone') end
  if is_final(job.state) then return { state = job.state } end
  redis.call('HSET', job_key(a.id), 'cancel_requested', 1)
  if is_held(job.state) then
    redis.call('PUBLISH', 'sb:hint:cancel', a.id)
  else
    finish(job, 'cancelled', {}, 0)
  end
  return { state = job.state }
end

local function has_consumer(queue)
  return redis.call('ZCOUNT', 'sb:consumers:' .. queue, NOW_MS, '+inf') > 0 and '1' or '0'
end

function op.get(a)
  local job = load(a.id)
  if not job.state or (a.tenant_id ~= '' and job.tenant_id ~= a.tenant_id) then return refuse('gone') end
  job.has_consumer = has_consumer(job.queue)
  return { job = job }
end

function op.list(a)
  local key = a.dead and 'sb:dead:' .. a.tenant_id or 'sb:jobs:' .. a.tenant_id
  local jobs, from, last, seen, size = {}, a.before, a.before, 0, 0
  repeat
    local page = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', 0, 100)
    for i = 1, #page, 2 do
      local job = load(page[i])
      if not job.state then
        redis.call('ZREM', key, page[i])  -- expired: the index forgets it when somebody looks
      elseif #jobs < a.limit and (a.state == '' or job.state == a.state) and (a.kind == '' or job.kind == a.kind) then
        job.has_consumer = has_consumer(job.queue)
        jobs[#jobs + 1] = job
        last = '(' .. page[i + 1]
      end
      from = '(' .. page[i + 1]
    end
    size = #page
    seen = seen + size / 2
  until size == 0 or #jobs >= a.limit or seen >= LIST_SCAN
  if #jobs < a.limit then last = size > 0 and from or '' end
  return { jobs = jobs, next = last }
end

-- Leases that ran out, deadlines that passed in a queue: what has to be sent again.
function op.expire(a)
  local again = {}
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leased_key(a.queue), '-inf', NOW_MS, 'LIMIT', 0, a.limit)) do
    local job = facts(id)
    if not job.state then
      redis.call('ZREM', leased_key(a.queue), id)
    elseif lose_lease(job) then
      again[#again + 1] = { id, a.queue, NOW_MS }
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'sb:deadlines', '-inf', NOW_MS, 'LIMIT', 0, a.limit)) do
    local job = facts(id)
    if job.state == 'queued' or job.state == 'routed' then
      fail(job, 'deadline_exceeded', 'the deadline passed while the job waited; give it more time or scale its group')
    else
      redis.call('ZREM', 'sb:deadlines', id)  -- a running job's deadline is its engine's to keep
    end
  end
  return { again = again }
end

-- Jobs whose message was sent before `before`, oldest first: lost, when seen so twice.
function op.waiting_before(a)
  local before = a.before ~= '' and '(' .. a.before or ms(NOW - a.grace_ms)
  return { ids = redis.call('ZRANGEBYSCORE', waiting_key(a.queue), '-inf', before, 'LIMIT', 0, a.limit) }
end

function op.mark_sent(a)
  local again = {}
  for _, id in ipairs(a.ids) do
    if redis.call('ZSCORE', waiting_key(a.queue), id) then
      wait_in(id, a.queue)
      again[#again + 1] = { id, a.queue, NOW_MS }
    end
  end
  return { again = again }
end

-- A dead letter starts anew as the same job: its attempts go on counting, its lost leases do not.
function op.replay(a)
  local tenant, queue, dead = unpack(read(a.id, 'tenant_id', 'queue', 'dead'))
  if tenant ~= a.tenant_id or dead ~= '1' then return refuse('gone') end
  local state = waiting_state(queue)
  redis.call('ZREM', 'sb:dead:' .. tenant, a.id)
  redis.call('HDEL', job_key(a.id), 'dead', 'error', 'at_failed')
  redis.call('HSET', job_key(a.id), 'state', state, 'lost_leases', 0, 'cancel_requested', 0, 'deadline_ms', 0, 'at_' .. state, NOW_MS)
  redis.call('HINCRBY', 'sb:states', 'failed', -1)
  redis.call('HINCRBY', 'sb:states', state, 1)
  wait_in(a.id, queue)
  emit(a.id, 'state', cjson.encode({ state = state, replayed = true }))
  return { queue = queue, sent_ms = NOW_MS }
end

-- A dead letter that nobody wants any more is kept as long as any other job that ended, from now on.
function op.drop(a)
  local tenant, dead, ttl = unpack(read(a.id, 'tenant_id', 'dead', 'ttl'))
  if tenant ~= a.tenant_id or dead ~= '1' then return refuse('gone') end
  redis.call('ZREM', 'sb:dead:' .. tenant, a.id)
  redis.call('HDEL', job_key(a.id), 'dead')
  keep_for(a.id, tenant, tonumber(ttl))
  return {}
end

function op.feedback(a)
  local tenant, state = unpack(read(a.id, 'tenant_id', 'state'))
  if tenant ~= a.tenant_id then return refuse('gone') end
  if not is_final(state) then return refuse('unfinished') end
  redis.call('HSET', job_key(a.id), 'feedback', a.feedback)
  redis.call('HSET', 'sb:feedback:' .. tenant, a.id, a.row)
  return {}
end

local function counts(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end
  return found
end

-- Depth of every queue and its live consumers; `states` counts jobs by state since the ledger began.
function op.gauges(a)
  local queues = {}
  for _, queue in ipairs(redis.call('SMEMBERS', 'sb:queues')) do
    redis.call('ZREMRANGEBYSCORE', 'sb:consumers:' .. queue, '-inf', NOW_MS)
    queues[#queues + 1] = { queue, redis.call('ZCARD', waiting_key(queue)), redis.call('ZCARD', leased_key(queue)), redis.call('ZCARD', 'sb:consumers:' .. queue) }
  end
  return { queues = queues, states = counts('sb:states'), given_up = counts('sb:given_up') }
end

-- The current release moves by compare-and-set; a move that was made already, its answer lost, is no conflict.
function op.move_release(a)
  if a.job ~= '' and not owned(a.job, a.attempt) then return refuse('stale') end
  local pointer, log = 'sb:release:' .. a.tenant_id, 'sb:promotions:' .. a.tenant_id
  local current = redis.call('GET', pointer) or ''
  if current == a.release then
    local last = cjson.decode(redis.call('LINDEX', log, -1) or '{}')
    if last.release == a.release and last.from == a.expected and last.by == a.by then return {} end
  end
  if current ~= a.expected then return refuse('stale_parent', { current = current }) end
  for _, queue in ipairs(a.queues) do
    local served = redis.call('ZCOUNT', 'sb:consumers:' .. queue, NOW_MS, '+inf') > 0
    if not (served or a.force) then return refuse('no_consumer', { queue = queue }) end
  end
  -- A queue that nobody serves is seen as such from here on, not only once a job waits in it.
  for _, queue in ipairs(a.queues) do redis.call('SADD', 'sb:queues', queue) end
  redis.call('SET', pointer, a.release)
  redis.call('SADD', 'sb:tenants', a.tenant_id)
  redis.call('RPUSH', log, cjson.encode({ release = a.release, from = current, at_ms = NOW_MS, by = a.by }))
  redis.call('PUBLISH', 'sb:hint:release', a.tenant_id)
  return {}
end

return cjson.encode(op[ARGV[1]](cjson.decode(ARGV[2])))
