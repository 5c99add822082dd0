-- The life of a job from creation to end: its states, and the jobs that wait for it.

-- Notes new facts of the job in `fields`, to be written by `move`.
local function add_facts(job, fields, new)
  if job.noted and #new > 0 then fields.noted = note(job.tenant_id, job.id, job.noted, new) end
end

-- The counts of a job's tenant and line of keys: they count it until it ends.
local function owners(job)
  local names, line = { 'tenant:' .. job.tenant_id }, job.key_line or ''
  if line ~= '' then names[2] = 'line:' .. line end
  return names
end

-- Counts a job from one state to another, and `by` for its owners, by one read and one write. No count falls below 0, as it
-- would by jobs from before owners were counted.
local function count_owned(job, from, to, by)
  local names, changes, set = { from, to, unpack(owners(job)) }, { -1, 1, by, by }, {}
  for i, number in ipairs(redis.call('HMGET', KEY.states, unpack(names))) do
    set[2 * i - 1] = names[i]; set[2 * i] = math.max(0, (number or 0) + changes[i])
  end
  redis.call('HSET', KEY.states, unpack(set))
end

-- Writes the new state and `fields` to Redis and into `job`.
local function move(job, to, fields)
  local from, set = job.state, {}
  if not LEGAL:find(' ' .. from .. '>' .. to .. ' ', 1, true) then error('illegal transition ' .. from .. ' -> ' .. to) end
  fields.state, fields['at_' .. to] = to, NOW_MS
  for name, value in pairs(fields) do
    set[#set + 1] = name; set[#set + 1] = value
    job[name] = value
  end
  redis.call('HSET', job_key(job.id), unpack(set))
  if is_final(to) then
    count_owned(job, from, to, -1)
  else
    redis.call('HINCRBY', KEY.states, from, -1)
    redis.call('HINCRBY', KEY.states, to, 1)
  end
  emit(job.id, 'state', cjson.encode({ state = to, label = fields.label, error = fields.error and cjson.decode(fields.error) }))
end

local function is_late(job) return tonumber(job.deadline_ms) > 0 and tonumber(job.deadline_ms) <= NOW end

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

local settle  -- settles the dependents of ended jobs (dependents.lua)

local function unblock(id)
  for _, other in ipairs(redis.call('SMEMBERS', KEY.blockers .. id)) do redis.call('SREM', KEY.after .. other, id) end
  redis.call('DEL', KEY.blockers .. id)
end

-- Ends a job, but settles nobody who waits for it; returns whether anybody does.
local function end_job(job, state, fields)
  if job.waits then unblock(job.id) end
  leave_queue(job)
  if tonumber(job.deadline_ms) > 0 then redis.call('ZREM', KEY.deadlines, job.id) end
  move(job, state, fields)
  count_usage(job, state)
  if fields.dead then
    redis.call('ZADD', KEY.dead .. job.tenant_id, NOW_MS, job.id)  -- kept until it is replayed or dropped
  else
    keep_for(job)
  end
  notify_end(job, fields.dead)
  note_trial(job, state)
  local has_dependents = redis.call('EXISTS', KEY.after .. job.id) == 1
  if has_dependents then redis.call('ZADD', KEY.settling, NOW_MS, state .. '|' .. job.id) end
  return has_dependents
end

-- Returns the jobs that wait for a worker now, having waited for this one or for others that ended.
local function finish(job, state, fields)
  return end_job(job, state, fields) and settle() or {}
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
  -- op.expire removes a deadline that passes during the attempt.
  if is_late(job) then redis.call('ZADD', KEY.deadlines, job.deadline_ms, job.id) end
end

-- Ends an attempt; the job waits for a worker again, at once or after a pause, or ends if it was cancelled meanwhile.
local function wait_again(job, fields, pause_ms)
  if job.cancel_requested == '1' then
    finish(job, 'cancelled', {})
    return { cancelled = true }
  end
  end_attempt(job, fields)
  if pause_ms then
    redis.call('ZADD', waiting_key(job.queue), ms(NOW + pause_ms), job.id)
    return {}
  end
  wait_in_queue(job)
  return { send = to_send(job) }
end

local function is_reached(limit, number) return limit > 0 and number >= limit end

-- The counts that a new job meets and adds to, by one read: of waiting jobs in all queues, of its tenant's and its line's.
local function counts_for(a)
  local counts, names = {}, { 'queued', 'routed', unpack(owners(a)) }
  for i, number in ipairs(redis.call('HMGET', KEY.states, unpack(names))) do counts[names[i]] = tonumber(number or 0) end
  return counts, names
end

-- Who has as many jobs as it may: all together, waiting for a worker or for other jobs; or one owner.
local function without_room(a, counts, names)
  local total, tenant, line = unpack(a.max_waiting)
  if is_reached(total, counts.queued + counts.routed) then return 'all' end
  if is_reached(tenant, counts[names[3]]) then return 'tenant' end
  return is_reached(line, counts[names[4]] or 0) and 'key'
end

-- The counts with a new job, by one write.
local function count_new(counts, names, state)
  local set = { state, counts[state] + 1 }
  for i = 3, #names do set[#set + 1] = names[i]; set[#set + 1] = counts[names[i]] + 1 end
  redis.call('HSET', KEY.states, unpack(set))
end

local function block(id, others, waits)
  redis.call('HSET', job_key(id), 'waits', waits)
  for _, other in ipairs(others) do
    redis.call('SADD', KEY.after .. other, id)
    redis.call('SADD', KEY.blockers .. id, other)
  end
end

-- Adds a job and those that it waits for, directly or through others, to `seen`, and stops above MAX_BEFORE of them.
local function look_before(id, seen)
  local todo = { id }
  while #todo > 0 and seen.count <= MAX_BEFORE do
    local current = table.remove(todo)
    if not seen.jobs[current] then
      seen.jobs[current], seen.count = true, seen.count + 1
      for _, other in ipairs(redis.call('SMEMBERS', KEY.blockers .. current)) do todo[#todo + 1] = other end
    end
  end
end

-- The unfinished jobs that a new one waits for, or why it may not.
local function blockers_of(a)
  local blockers, seen = {}, { jobs = {}, count = 0 }
  for _, other in ipairs(a.after) do
    local state, tenant = unpack(read(other, 'state', 'tenant_id'))
    if not state or tenant ~= a.tenant_id then return nil, refuse('dependency_unknown', { id = other }) end
    if not is_final(state) then
      blockers[#blockers + 1] = other
      look_before(other, seen)
      if seen.count > MAX_BEFORE then return nil, refuse('too_many_before') end
      if redis.call('SCARD', KEY.after .. other) >= MAX_DEPENDENTS then return nil, refuse('too_many_dependents', { id = other }) end
    elseif state ~= 'succeeded' then
      return nil, refuse('dependency_failed', { id = other })
    end
  end
  return blockers
end

function op.create(a)
  local known = redis.call('HGET', job_key(a.id), 'fingerprint')
  if known then return { existing = true, same = known == a.fingerprint } end
  local counts, counted = counts_for(a)
  local full = without_room(a, counts, counted)
  if full then return refuse('overloaded', { by = full }) end
  if a.release ~= '' and redis.call('GET', KEY.release .. a.tenant_id) ~= (a.current_release or a.release) then
    return refuse('release_moved')
  end
  if a.current_release and not redis.call('HGET', KEY.releases .. a.tenant_id, a.release) then return refuse('release_gone') end
  if rollout_moved(a) then return refuse('release_moved') end
  local blockers, refused = blockers_of(a)
  if refused then return refused end
  if is_over_budget(a.tenant_id, a.bytes, a.max_held) then return refuse('over_budget', { wait_ms = room_in_ms(a) }) end
  local state, deadline_ms = STAGE[a.stage].waits, a.deadline > 0 and ms(NOW + a.deadline * 1000) or 0
  redis.call('HSET', job_key(a.id), 'id', a.id, 'tenant_id', a.tenant_id, 'kind', a.kind, 'state', state, 'stage', a.stage,
    'queue', a.queue, 'body', a.body, 'release', a.release, 'label', a.label, 'fingerprint', a.fingerprint, 'attempt', 0,
    'lost_leases', 0, 'cancel_requested', 0, 'ttl', a.ttl, 'deadline_ms', deadline_ms, 'priority', a.priority, 'tokens', a.tokens,
    'key', a.key, 'key_line', a.key_line, 'noted', note(a.tenant_id, a.id, NOW_MS, a.facts), 'bytes', a.bytes,
    'at_queued', NOW_MS, 'at_' .. state, NOW_MS)
  if a.trace ~= '' then redis.call('HSET', job_key(a.id), 'trace', a.trace) end
  if a.trial then redis.call('HSET', job_key(a.id), 'rollout', a.trial[1], 'shadow', a.trial[3]) end
  if a.trains ~= '' then redis.call('HSET', job_key(a.id), 'trains', a.trains) end
  redis.call('ZADD', KEY.jobs .. a.tenant_id, NOW_MS, a.id)
  count_new(counts, counted, state)
  if a.deadline > 0 then redis.call('ZADD', KEY.deadlines, deadline_ms, a.id) end
  if #blockers == 0 then wait_in_queue(a) else block(a.id, blockers, 'success') end
  if a.conversation ~= '' then keep_label(a.tenant_id, a.conversation, a.kept) end
  emit(a.id, 'state', cjson.encode({ state = state, label = a.label }))
  return { existing = false, send = #blockers == 0 and to_send(a) or nil }
end

function op.route(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  for _, event in ipairs(a.events) do emit(a.id, event[1], event[2]) end
  local fields = { stage = a.stage, queue = a.queue, label = a.label, selection = a.selection, lost_leases = 0, first_attempt = a.attempt + 1 }
  add_facts(job, fields, a.facts)
  local moved = wait_again(job, fields)
  if a.conversation ~= '' and moved.send then keep_label(job.tenant_id, a.conversation, a.kept) end
  if moved.send then note_seen(job, a.seen) end
  return moved
end

-- What `op.route` noted of a conversation.
function op.kept_label(a) return { kept = redis.call('GET', KEY.conversation .. a.tenant_id .. ':' .. a.conversation) } end

-- A repeated call of the attempt that ended the job succeeds; the reconciler sends the jobs that the first one released.
function op.finish(a)
  local job = facts(a.id)
  if tonumber(job.ended_by or 0) == a.attempt then return { released = {} } end
  if not is_owner(job, a.attempt) then return refuse('stale') end
  a.fields.ended_by = a.attempt
  add_facts(job, a.fields, a.facts)
  job.used = a.used
  if (job.label or '') == '' then job.label = a.label end
  for _, event in ipairs(a.events) do emit(a.id, event[1], event[2]) end
  note_seen(job, a.seen)
  return { released = finish(job, a.state, a.fields) }
end

-- A worker that has to stop, or may not do a job, returns it; these leases are not lost, so they are not counted. One that can
-- do no job now asks for a pause, after which another one may take it (the reconciler sends for it).
function op.release_unfinished(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  return wait_again(job, { queue = a.queue }, a.pause_ms)
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
  if redis.call('ZSCORE', KEY.settling, 'failed|' .. a.id) then return refuse('settling') end
  local state = STAGE[job.stage].waits
  redis.call('ZREM', KEY.dead .. job.tenant_id, a.id)
  redis.call('HDEL', job_key(a.id), 'dead', 'error', 'at_failed')
  redis.call('HSET', job_key(a.id), 'state', state, 'lost_leases', 0, 'cancel_requested', 0, 'deadline_ms', 0, 'at_' .. state, NOW_MS)
  count_owned(job, 'failed', state, 1)
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
