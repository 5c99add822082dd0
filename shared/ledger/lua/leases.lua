-- Attempts, their leases, and the jobs to send again.

local ASIDE_LEASES = 4  -- how many leases' time a process has to start a last try that is set aside for it

-- Ends an attempt whose lease expired: the job waits again, or becomes a dead letter after MAX_LOST lost leases.
-- Returns whether the job waits.
local function lose_lease(job)
  local lost = tonumber(job.lost_leases) + 1
  if lost >= MAX_LOST and job.cancel_requested ~= '1' then
    redis.call('HSET', job_key(job.id), 'lost_leases', lost)
    fail(job, 'attempts_exhausted', lost .. ' workers in a row went silent over this job; look at the dead letters, then replay it', true)
    return false
  end
  return not wait_again(job, { lost_leases = lost }).cancelled
end

local function is_last_try(job)
  local lost = tonumber(job.lost_leases)
  return lost > 0 and lost + 1 >= MAX_LOST
end

-- Starts an attempt at a job that stands in no queue any more.
local function start_attempt(job, a)
  local lease_until = ms(NOW + a.lease_ms)
  redis.call('ZADD', leased_key(job.queue), lease_until, job.id)
  move(job, STAGE[job.stage].runs, { attempt = tonumber(job.attempt) + 1, owner = a.owner, try = a.try, lease_until = lease_until })
  return { job = job }
end

local function holds(job, a) return job.state and is_held(job.state) and job.owner == a.owner and job.try == a.try end

-- Takes the job whose turn it is. A job's last try is set aside instead, and `alone` names it: the worker runs other jobs
-- beside it, which would be lost too if it crashed the process.
-- `try` identifies this call: a client that lost the reply repeats the call, and gets the same attempt.
function op.acquire_next(a)
  local taken = redis.call('GET', KEY.taken .. a.try)
  if taken then
    local job = load(taken)
    return holds(job, a) and { job = job } or {}
  end
  for _ = 1, MAX_SKIPPED do
    local job = pop_lane(a.queue) or admit_due(a.queue) and pop_lane(a.queue)
    if not job then return {} end
    if redis.call('ZREM', waiting_key(a.queue), job.id) == 1 and job.state then
      if is_late(job) then
        fail_late(job)
      elseif is_last_try(job) then
        redis.call('ZADD', waiting_key(a.queue), ms(NOW + ASIDE_LEASES * a.lease_ms), job.id)
        return { alone = job.id }
      else
        redis.call('SET', KEY.taken .. a.try, job.id, 'EX', 60)  -- longer than a client tries again
        return start_attempt(job, a)
      end
    end
  end
  return {}
end

-- Takes one job, whosever turn it is; a repeated call gets the same attempt.
function op.acquire(a)
  local job = load(a.id)
  if not job.state then return refuse('gone') end
  if is_final(job.state) then return refuse('finished') end
  if job.queue ~= a.queue then return refuse('moved') end
  if is_held(job.state) then
    if holds(job, a) then return { job = job } end
    if tonumber(job.lease_until) > NOW then return refuse('leased') end
    if not lose_lease(job) then return refuse('finished') end
  end
  if job.waits then return refuse('waiting') end
  if is_late(job) then
    fail_late(job)
    return refuse('finished')
  end
  leave_queue(job)
  return start_attempt(job, a)
end

-- Renews a process's leases and its presence in the queues that it serves; one call per process and heartbeat.
function op.heartbeat(a)
  redis.call('SET', KEY.process .. a.owner, a.info, 'PX', math.ceil(a.lease_ms))
  for _, queue in ipairs(a.queues) do
    redis.call('SADD', KEY.queues, queue)
    redis.call('ZADD', KEY.consumers .. queue, ms(NOW + a.lease_ms), a.owner)
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

-- Lets one process reconcile.
function op.lead(a)
  local leader = redis.call('GET', KEY.reconciler)
  if leader and leader ~= a.owner then return { leading = 'no' } end
  redis.call('SET', KEY.reconciler, a.owner, 'PX', math.ceil(a.ttl_ms))
  return { leading = leader and 'still' or 'anew' }
end

function op.leave_queues(a)
  redis.call('DEL', KEY.process .. a.owner)
  for _, queue in ipairs(a.queues) do redis.call('ZREM', KEY.consumers .. queue, a.owner) end
  return {}
end

-- Ends expired leases, fails jobs that waited past their deadline, and returns the jobs to send again.
function op.expire(a)
  local again = {}
  admit_due(a.queue)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leased_key(a.queue), '-inf', NOW_MS, 'LIMIT', 0, a.limit)) do
    local job = facts(id)
    if not job.state then
      redis.call('ZREM', leased_key(a.queue), id)
    elseif lose_lease(job) then
      again[#again + 1] = to_send(job)
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEY.deadlines, '-inf', NOW_MS, 'LIMIT', 0, a.limit)) do
    local job = facts(id)
    if job.state == 'queued' or job.state == 'routed' then
      fail_late(job)
    else
      redis.call('ZREM', KEY.deadlines, id)  -- the engine enforces the deadline of a running job
    end
  end
  return { again = again }
end
