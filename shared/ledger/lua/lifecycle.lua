-- The life of a job from creation to end: its states, and the jobs that wait for it.

-- Writes the new state and `fields` to Redis and into `job`.
local function move(job, to, fields)
  local from, set = job.state, {}
  if not LEGAL[from][to] then error('illegal transition ' .. from .. ' -> ' .. to) end
  fields.state, fields['at_' .. to] = to, NOW_MS
  for name, value in pairs(fields) do
    set[#set + 1] = name; set[#set + 1] = value
    job[name] = value
  end
  redis.call('HSET', job_key(job.id), unpack(set))
  if fields.selection then note_selection(job, fields.selection) end
  redis.call('HINCRBY', KEY.states, from, -1)
  redis.call('HINCRBY', KEY.states, to, 1)
  emit(job.id, 'state', cjson.encode({ state = to, label = fields.label, error = fields.error and cjson.decode(fields.error) }))
end

local function wait_in_queue(job)
  redis.call('SADD', KEY.queues, job.queue)
  enter_lane(job, NOW_MS)
end

local function leave_queue(job)
  if is_held(job.state) then
    redis.call('ZREM', leased_key(job.queue), job.id)
  elseif redis.call('ZREM', waiting_key(job.queue), job.id) == 1 then
    leave_lane(job)
  end
end

local function block(id, other)
  redis.call('SADD', KEY.after .. other, id)
  redis.call('SADD', KEY.blockers .. id, other)
end

local finish  -- mutual recursion: finishing a job may fail the jobs that wait for it, which finishes them

-- A job created with `after` needs the success of those jobs; a job that called `wait_for` needs only their end.
local function release_dependents(id, state)
  local waiting, released = redis.call('SMEMBERS', KEY.after .. id), {}
  if #waiting == 0 then return released end
  table.sort(waiting)  -- the order in which the server holds a set must decide nothing
  for _, next_id in ipairs(waiting) do
    redis.call('SREM', KEY.blockers .. next_id, id)
    local next_job = facts(next_id)
    if next_job.state and not is_held(next_job.state) and not is_final(next_job.state) then
      if state ~= 'succeeded' and next_job.waits ~= 'end' then
        local why = { code = 'dependency_failed', detail = 'job ' .. id .. ' ended as ' .. state .. '; submit this one again after mending that one', retryable = false }
        finish(next_job, 'failed', { error = cjson.encode(why) })
      elseif redis.call('SCARD', KEY.blockers .. next_id) == 0 then
        redis.call('HDEL', job_key(next_id), 'waits')
        wait_in_queue(next_job)
        released[#released + 1] = to_send(next_job)
      end
    end
  end
  redis.call('DEL', KEY.after .. id)
  return released
end

-- Returns the jobs that waited only for this one.
function finish(job, state, fields)
  leave_queue(job)
  if tonumber(job.deadline_ms) > 0 then redis.call('ZREM', KEY.deadlines, job.id) end
  move(job, state, fields)
  if fields.dead then
    redis.call('ZADD', KEY.dead .. job.tenant_id, NOW_MS, job.id)  -- kept until it is replayed or dropped
  else
    keep_for(job)
  end
  return release_dependents(job.id, state)
end

local function fail(job, code, detail, dead)
  local why = cjson.encode({ code = code, detail = detail, retryable = dead or false })
  redis.call('HINCRBY', KEY.given_up, code, 1)
  finish(job, 'failed', dead and { error = why, dead = '1' } or { error = why })
end

local function fail_late(job)
  fail(job, 'deadline_exceeded', 'the deadline passed while the job waited; give it more time or scale its group')
end

-- Ends an attempt but not its job; the caller has to put the job into a queue, or block it.
local function end_attempt(job, fields)
  leave_queue(job)
  fields.owner = ''
  move(job, STAGE[fields.stage or job.stage].waits, fields)
  local deadline = job.deadline_ms
  if tonumber(deadline) > 0 then redis.call('ZADD', KEY.deadlines, deadline, job.id) end  -- op.expire removes it if it passes during the attempt
end

-- Ends an attempt; the job waits for a worker again, or ends if it was cancelled during the attempt.
local function wait_again(job, fields)
  if job.cancel_requested == '1' then
    finish(job, 'cancelled', {})
    return { cancelled = true }
  end
  end_attempt(job, fields)
  wait_in_queue(job)
  return { send = to_send(job) }
end

-- Counts the jobs of all queues that wait for a worker or for other jobs.
local function waiting_count()
  local count = 0
  for _, number in ipairs(redis.call('HMGET', KEY.states, 'queued', 'routed')) do count = count + tonumber(number or 0) end
  return count
end

function op.create(a)
  local known = redis.call('HGET', job_key(a.id), 'fingerprint')
  if known then return { existing = true, same = known == a.fingerprint } end
  if a.max_waiting > 0 and waiting_count() >= a.max_waiting then return refuse('overloaded') end
  if a.release ~= '' and redis.call('GET', KEY.release .. a.tenant_id) ~= a.release then return refuse('release_moved') end
  local blockers = {}
  for _, other in ipairs(a.after) do
    local state, tenant = unpack(read(other, 'state', 'tenant_id'))
    if not state or tenant ~= a.tenant_id then return refuse('dependency_unknown', { id = other }) end
    if not is_final(state) then
      blockers[#blockers + 1] = other
    elseif state ~= 'succeeded' then
      return refuse('dependency_failed', { id = other })
    end
  end
  if is_over_budget(a.tenant_id, a.bytes, a.max_held) then return refuse('over_budget', { wait_ms = room_in_ms(a) }) end
  local state, deadline_ms = STAGE[a.stage].waits, a.deadline > 0 and ms(NOW + a.deadline * 1000) or 0
  redis.call('HSET', job_key(a.id), 'id', a.id, 'tenant_id', a.tenant_id, 'kind', a.kind, 'state', state, 'stage', a.stage,
    'queue', a.queue, 'body', a.body, 'release', a.release, 'label', a.label, 'fingerprint', a.fingerprint, 'attempt', 0,
    'lost_leases', 0, 'cancel_requested', 0, 'ttl', a.ttl, 'deadline_ms', deadline_ms, 'priority', a.priority, 'tokens', a.tokens,
    'bytes', a.bytes, 'at_queued', NOW_MS, 'at_' .. state, NOW_MS)
  if a.label ~= '' then note(a.tenant_id, a.id, NOW_MS, a.ttl, 'label:' .. a.label) end
  if a.key ~= '' then
    redis.call('HSET', job_key(a.id), 'key', a.key, 'key_line', a.key_line)
    note(a.tenant_id, a.id, NOW_MS, a.ttl, 'line:' .. a.key_line)
  end
  if a.trace ~= '' then redis.call('HSET', job_key(a.id), 'trace', a.trace) end
  redis.call('ZADD', KEY.jobs .. a.tenant_id, NOW_MS, a.id)
  redis.call('HINCRBY', KEY.states, state, 1)
  if a.deadline > 0 then redis.call('ZADD', KEY.deadlines, deadline_ms, a.id) end
  for _, other in ipairs(blockers) do block(a.id, other) end
  if #blockers == 0 then wait_in_queue(a) end
  emit(a.id, 'state', cjson.encode({ state = state, label = a.label }))
  return { existing = false, send = #blockers == 0 and to_send(a) or nil }
end

function op.route(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  for _, event in ipairs(a.events) do emit(a.id, event[1], event[2]) end
  return wait_again(job, { stage = a.stage, queue = a.queue, label = a.label, selection = a.selection, lost_leases = 0, first_attempt = a.attempt + 1 })
end

-- A repeated call of the attempt that ended the job succeeds; the reconciler sends the jobs that the first one released.
function op.finish(a)
  local job = facts(a.id)
  if tonumber(job.ended_by or 0) == a.attempt then return { released = {} } end
  if not is_owner(job, a.attempt) then return refuse('stale') end
  a.fields.ended_by = a.attempt
  for _, event in ipairs(a.events) do emit(a.id, event[1], event[2]) end
  return { released = finish(job, a.state, a.fields) }
end

-- A worker that has to stop, or may not do a job, returns it; these leases are not lost, so they are not counted.
function op.release_unfinished(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  return wait_again(job, { queue = a.queue })
end

-- Whether a job waits for another one, directly or through other jobs.
local function waits_for(id, target)
  local seen, todo = {}, { id }
  while #todo > 0 do
    local current = table.remove(todo)
    if current == target then return true end
    if not seen[current] then
      seen[current] = true
      for _, other in ipairs(redis.call('SMEMBERS', KEY.blockers .. current)) do todo[#todo + 1] = other end
    end
  end
  return false
end

-- A running job waits until each of `jobs` has ended, in whatever state; it occupies no worker meanwhile.
function op.wait_for(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  local blockers = {}
  for _, other in ipairs(a.jobs) do
    local state, tenant = unpack(read(other, 'state', 'tenant_id'))
    if state and tenant == job.tenant_id and not is_final(state) then
      if waits_for(other, a.id) then return refuse('wait_cycle', { id = other }) end
      blockers[#blockers + 1] = other
    end
  end
  if #blockers == 0 or job.cancel_requested == '1' then return wait_again(job, {}) end
  end_attempt(job, { waits = 'end' })
  for _, other in ipairs(blockers) do block(a.id, other) end
  return { blocked = true }
end

function op.cancel(a)
  local job = facts(a.id)
  if not job.state or job.tenant_id ~= a.tenant_id then return refuse('gone') end
  if is_final(job.state) then return { state = job.state } end
  redis.call('HSET', job_key(a.id), 'cancel_requested', 1)
  if is_held(job.state) then
    redis.call('PUBLISH', 'sb:hint:cancel', a.id)
  else
    finish(job, 'cancelled', {})
  end
  return { state = job.state }
end

-- Restarts a dead letter as the same job: its attempt number goes on, its count of lost leases returns to 0.
function op.replay(a)
  local job = load(a.id)
  if job.tenant_id ~= a.tenant_id or job.dead ~= '1' then return refuse('gone') end
  local state = STAGE[job.stage].waits
  redis.call('ZREM', KEY.dead .. job.tenant_id, a.id)
  redis.call('HDEL', job_key(a.id), 'dead', 'error', 'at_failed')
  redis.call('HSET', job_key(a.id), 'state', state, 'lost_leases', 0, 'cancel_requested', 0, 'deadline_ms', 0, 'at_' .. state, NOW_MS)
  redis.call('HINCRBY', KEY.states, 'failed', -1)
  redis.call('HINCRBY', KEY.states, state, 1)
  wait_in_queue(job)
  emit(a.id, 'state', cjson.encode({ state = state, replayed = true }))
  return { send = to_send(job) }
end

-- A dropped dead letter is kept as long as any other ended job, counted from now.
function op.drop(a)
  local job = load(a.id)
  if job.tenant_id ~= a.tenant_id or job.dead ~= '1' then return refuse('gone') end
  redis.call('ZREM', KEY.dead .. job.tenant_id, a.id)
  redis.call('HDEL', job_key(a.id), 'dead')
  keep_for(job)
  return {}
end
