-- The order in which a queue's waiting jobs are taken. A job stands in the lane of its priority, tenant and label, first in,
-- first out. Interactive jobs go before batch jobs, which get every fifth turn. Among the tenants of a priority, and among
-- the labels of a tenant, the one with the lowest mark is next; a job that is taken raises both its marks by its cost (an
-- only tenant's or label's mark stays: no order depends on it).
-- KEY.waiting holds every waiting job: the score of one in a lane is +inf, that of any other is the time at which it is due
-- for its lane. So jobs of an earlier version, with the time of their message as the score, are due at once.

local INTERACTIVE_PER_BATCH = 4
local DUE_AT_ONCE = 50  -- one call admits at most this many due jobs, 20 us each
local MAX_SKIPPED = 100  -- one call passes over at most this many jobs; each of them leaves a message for another call

-- Jobs of an earlier version have neither `priority` nor `tokens`: both follow from the body.
local function with_priority(job)
  if job.priority then return job end
  local is_json, body = pcall(cjson.decode, read(job.id, 'body')[1] or '')
  if not is_json or type(body) ~= 'table' then body = {} end
  local params = type(body.params) == 'table' and body.params or {}
  job.priority = body.priority == 'batch' and 'batch' or 'interactive'
  job.tokens = tonumber(params.max_new_tokens) or DEFAULT_NEW_TOKENS
  redis.call('HSET', job_key(job.id), 'priority', job.priority, 'tokens', job.tokens)
  return job
end

-- Holds the marks of tenants; with ':' and a tenant behind it, those of its labels.
local function tenants_of(queue, priority) return KEY.turns .. queue .. ':' .. priority end

-- A lane's jobs by the time at which they came.
local function lane(queue, priority, tenant, label)
  return KEY.lane .. queue .. ':' .. priority .. ':' .. tenant .. ':' .. label
end

local function lane_of(job) return lane(job.queue, job.priority, job.tenant_id, job.label or '') end
local function cost_of(job) return job.stage == 'generate' and tonumber(job.tokens) or 1 end

-- Whoever comes stands behind the one that is next by its own cost: coming and going often wins no turns.
local function add_to_turns(turns, member, cost)
  local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
  redis.call('ZADD', turns, 'NX', tonumber(first[2] or 0) + cost, member)
end

local function enter_lane(job, came_ms)
  with_priority(job)
  local jobs, tenants, cost = lane_of(job), tenants_of(job.queue, job.priority), cost_of(job)
  redis.call('ZADD', waiting_key(job.queue), '+inf', job.id)
  redis.call('ZADD', jobs, came_ms, job.id)
  if redis.call('ZCARD', jobs) > 1 then return end
  add_to_turns(tenants .. ':' .. job.tenant_id, job.label or '', cost)
  add_to_turns(tenants, job.tenant_id, cost)
end

local function leave_lane(job)
  with_priority(job)
  local jobs, tenants = lane_of(job), tenants_of(job.queue, job.priority)
  local labels = tenants .. ':' .. job.tenant_id
  redis.call('ZREM', jobs, job.id)
  if redis.call('EXISTS', jobs) == 0 then redis.call('ZREM', labels, job.label or '') end
  if redis.call('EXISTS', labels) == 0 then redis.call('ZREM', tenants, job.tenant_id) end
end

local function admit_due(queue)
  local due = redis.call('ZRANGEBYSCORE', waiting_key(queue), '-inf', NOW_MS, 'WITHSCORES', 'LIMIT', 0, DUE_AT_ONCE)
  for i = 1, #due, 2 do
    local job = facts(due[i])
    redis.call('ZREM', waiting_key(queue), job.id)
    if job.state then enter_lane(job, due[i + 1]) end
  end
  return #due > 0
end

local function is_batch_next(queue)
  return redis.call('EXISTS', tenants_of(queue, 'interactive')) == 0
    or tonumber(redis.call('HGET', KEY.interactive_run, queue) or 0) >= INTERACTIVE_PER_BATCH
end

-- The member of `turns` that is next, and whether it is the only one: no order depends on the mark of the only one.
local function next_of(turns)
  local two = redis.call('ZRANGE', turns, 0, 1)
  return two[1], two[2] == nil
end

local function end_turn(turns, member, cost, is_only, has_more)
  if not has_more then
    redis.call('ZREM', turns, member)
  elseif not is_only then
    redis.call('ZINCRBY', turns, cost, member)
  end
end

local function count_run(queue, priority)
  if priority == 'batch' then
    redis.call('HDEL', KEY.interactive_run, queue)
  else
    redis.call('HINCRBY', KEY.interactive_run, queue, 1)
  end
end

-- Takes the next job out of its lane, not out of KEY.waiting; nil where all lanes are empty.
local function pop_lane(queue)
  local has_batch = redis.call('EXISTS', tenants_of(queue, 'batch')) == 1
  local priority = has_batch and is_batch_next(queue) and 'batch' or 'interactive'
  local tenants = tenants_of(queue, priority)
  local tenant, is_only_tenant = next_of(tenants)
  if not tenant then return nil end
  local labels = tenants .. ':' .. tenant
  local label, is_only_label = next_of(labels)
  label = label or ''
  local jobs = lane(queue, priority, tenant, label)
  local job = load(redis.call('ZPOPMIN', jobs)[1] or '')
  local cost = job.state and cost_of(job) or 0
  local has_more = redis.call('EXISTS', jobs) == 1
  end_turn(labels, label, cost, is_only_label, has_more)
  end_turn(tenants, tenant, cost, is_only_tenant, has_more or not is_only_label)
  if has_batch then count_run(queue, priority) end
  return job
end
