-- What the jobs of a tenant take of the ledger, and when it is given back. A job states its bytes when it is created; they
-- count until it is forgotten: at its time, or before that, oldest end first, where the ledger or the tenant needs the room.

-- `%d`: Redis writes minus zero as `-0`, which is no integer to it.
local function hold(tenant, bytes) return redis.call('HINCRBY', KEY.held, tenant, string.format('%d', bytes)) end

-- KEY.kept holds the time at which bytes are given back: those of a job, or of what belongs to it. `kept` is a list: what,
-- its bytes, the time of the job's end, by which the job is told from one made anew under its id, and for a job what it noted.
local function give_back_at(at_ms, kept, tenant)
  redis.call('ZADD', KEY.kept .. tenant, at_ms, table.concat(kept, '|'))
end

-- An ended job is kept for `ttl` seconds.
local function keep_for(job)
  redis.call('EXPIRE', job_key(job.id), job.ttl)
  redis.call('EXPIRE', KEY.events .. job.id, job.ttl)
  give_back_at(ms(NOW + tonumber(job.ttl) * 1000), { job.id, job.bytes or 0, NOW_MS, job.noted }, job.tenant_id)
end

local TALK = 'talk:'
local TALK_SECONDS = 24 * 3600
local TALK_BYTES = 400  -- the key with its value, its place in KEY.kept, and what Redis adds

-- Notes the label that a conversation was last answered with. Each answer counts its bytes for a day.
local function keep_label(tenant, conversation, kept)
  redis.call('SET', KEY.conversation .. tenant .. ':' .. conversation, NOW_MS .. '|' .. kept, 'EX', TALK_SECONDS)
  hold(tenant, TALK_BYTES)
  give_back_at(ms(NOW + TALK_SECONDS * 1000), { TALK .. conversation, TALK_BYTES, NOW_MS }, tenant)
end

-- Forgets a conversation's label, unless it was answered again after that time.
local function forget_label(tenant, conversation, at)
  local key = KEY.conversation .. tenant .. ':' .. conversation
  local kept = redis.call('GET', key)
  if kept and tonumber(kept:match('^[^|]+')) <= tonumber(at) then redis.call('DEL', key) end
end

local HOOK = 'hook:'

-- Forgets a webhook's delivery (`endpoint:id`), unless it is made again since that time.
local function forget_delivery(name, at)
  if redis.call('HGET', KEY.delivery .. name, 'ended') ~= at then return end
  local endpoint, id = name:match('^([^:]*):(.*)$')
  redis.call('DEL', KEY.delivery .. name)
  redis.call('ZREM', KEY.deliveries .. endpoint, id)
end

local function leave_indexes(tenant, id, noted)
  redis.call('ZREM', KEY.jobs .. tenant, id)
  for fact in (noted .. '|feedback|conflict'):gmatch('|([^|]+)') do redis.call('ZREM', index_key(tenant, fact), id) end
end

local KEPT = '^([^|]*)|(-?%d+)|([%d.]+)|?(.*)$'

-- Whether there is no room for this much more; the count is as before then.
local function is_over_budget(tenant, bytes, most)
  if hold(tenant, bytes) <= most or most == 0 then return false end
  hold(tenant, -bytes)
  return true
end

-- Milliseconds until the tenant's oldest ended job may be forgotten; 0 where none has ended.
local function room_in_ms(a)
  local first = redis.call('ZRANGE', KEY.kept .. a.tenant_id, 0, 0)[1]
  return first and math.max(0, tonumber((select(3, first:match(KEPT)))) + a.min_ms - NOW) or 0
end

-- Forgets ended jobs of a tenant: those whose time is over, and where more `bytes` have to be freed, the oldest of those
-- that ended `min_ms` ago. Repeat the call until `count` is less than `limit`.
function op.forget(a)
  local kept, count, freed, early = KEY.kept .. a.tenant_id, 0, 0, 0
  local next_ones = redis.call('ZRANGE', kept, 0, a.limit - 1, 'WITHSCORES')
  for i = 1, #next_ones, 2 do
    local id, bytes, ended, noted = next_ones[i]:match(KEPT)
    local is_due = tonumber(next_ones[i + 1]) <= NOW
    if not is_due and (freed >= a.bytes or tonumber(ended) > NOW - a.min_ms) then break end
    redis.call('ZREM', kept, next_ones[i])
    if id:sub(1, #TALK) == TALK then forget_label(a.tenant_id, id:sub(#TALK + 1), ended) end
    if id:sub(1, #HOOK) == HOOK then forget_delivery(id:sub(#HOOK + 1), ended) end
    local created = redis.call('HGET', job_key(id), 'at_queued')
    if not created or tonumber(created) <= tonumber(ended) then
      redis.call('DEL', job_key(id), KEY.events .. id)
      leave_indexes(a.tenant_id, id, noted)
    end
    count, freed, early = count + 1, freed + tonumber(bytes), early + (is_due and 0 or 1)
  end
  hold(a.tenant_id, -freed)
  return { count = count, freed = freed, early = early }
end

-- Takes over the jobs that processes of an earlier version ended.
function op.adopt_ended(a)
  local ends = redis.call('ZRANGE', KEY.ends, 0, a.limit - 1, 'WITHSCORES')
  for i = 1, #ends, 2 do
    local tenant, id = ends[i]:match('^(.*)|([^|]*)$')
    redis.call('ZREM', KEY.ends, ends[i])
    give_back_at(ends[i + 1], { id, read(id, 'bytes')[1] or 0, NOW_MS }, tenant)
    hold(tenant, 0)  -- lists the tenant
  end
  return {}
end
