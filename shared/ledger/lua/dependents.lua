-- The jobs that wait for other jobs. Where one ends, KEY.settling holds it until all its dependents are settled: a call does
-- as many as SETTLED_AT_ONCE, and the reconciler goes on.

local left = SETTLED_AT_ONCE  -- 0.1 to 0.3 ms each

-- The dependents of an ended job to settle next.
local function next_dependents(id)
  local key = KEY.after .. id
  if redis.call('SCARD', key) > MAX_DEPENDENTS then return redis.call('SRANDMEMBER', key, left) end
  local members = redis.call('SMEMBERS', key)
  table.sort(members)  -- the order in which the server holds a set must decide nothing
  return members
end

-- A job created with `after` needs the success of those jobs; a job that called `wait_for` needs only their end.
-- Returns the job where it waits for a worker now.
local function settle_one(id, ended, state)
  redis.call('SREM', KEY.after .. ended, id)
  redis.call('SREM', KEY.blockers .. id, ended)
  local job = facts(id)
  if not job.state or is_held(job.state) or is_final(job.state) then return nil end
  if state ~= 'succeeded' and job.waits ~= 'end' then
    local why = { code = 'dependency_failed', detail = 'job ' .. ended .. ' ended as ' .. state .. '; submit this one again after mending that one', retryable = false }
    end_job(job, 'failed', { error = cjson.encode(why) })
  elseif redis.call('SCARD', KEY.blockers .. id) == 0 then
    redis.call('HDEL', job_key(id), 'waits')
    wait_in_queue(job)
    return job
  end
end

-- Settles dependents until none or no time is left, those of jobs that end thereby too; returns the jobs to send.
function settle()
  local released = {}
  while left > 0 do
    local ended = redis.call('ZRANGE', KEY.settling, 0, 0)[1]
    if not ended then break end
    local state, id = ended:match('^(%a+)|(.*)$')
    local dependents = next_dependents(id)
    local count = math.min(left, #dependents)
    for i = 1, count do
      local job = settle_one(dependents[i], id, state)
      if job then released[#released + 1] = to_send(job) end
    end
    left = left - math.max(1, count)
    if redis.call('EXISTS', KEY.after .. id) == 0 then redis.call('ZREM', KEY.settling, ended) end
  end
  return released
end

function op.settle(a)
  return { released = settle(), more = redis.call('EXISTS', KEY.settling) == 1 }
end

-- A running job waits until each of `jobs` has ended, in whatever state; it occupies no worker meanwhile. Where more than
-- MAX_BEFORE would stand before it, it waits for the first ones alone: its next attempt calls again.
function op.wait_for(a)
  local job = owned(a.id, a.attempt)
  if not job then return refuse('stale') end
  local blockers, seen = {}, { jobs = {}, count = 0 }
  for _, other in ipairs(a.jobs) do
    local state, tenant = unpack(read(other, 'state', 'tenant_id'))
    if state and tenant == job.tenant_id and not is_final(state) then
      look_before(other, seen)
      if seen.jobs[a.id] then return refuse('wait_cycle', { id = other }) end
      if seen.count > MAX_BEFORE and #blockers == 0 then return refuse('too_many_before') end
      if seen.count > MAX_BEFORE then break end
      blockers[#blockers + 1] = other
    end
  end
  if #blockers == 0 or job.cancel_requested == '1' then return wait_again(job, {}) end
  end_attempt(job, {})
  block(a.id, blockers, 'end')
  return { blocked = true }
end
