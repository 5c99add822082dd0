-- Attempts, their leases, and the jobs to send again.

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

-- `try` identifies this call: a client that lost the reply repeats the call, and gets the same attempt.
-- A worker that runs other jobs beside it is refused a job's last try: if it crashed the process, they would be lost too.
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
  if job.waits then return refuse('waiting') end  -- the message is older than the job's wait for other jobs
  if tonumber(job.deadline_ms) > 0 and tonumber(job.deadline_ms) < NOW then
    fail_late(job)
    return refuse('finished')
  end
  local lost = tonumber(job.lost_leases)
  if a.beside_others and lost > 0 and lost + 1 >= MAX_LOST then return refuse('last_try') end
  local lease_until = ms(NOW + a.lease_ms)
  leave_queue(job)
  redis.call('ZADD', leased_key(job.queue), lease_until, job.id)
  move(job, STAGE[job.stage].runs, { attempt = tonumber(job.attempt) + 1, owner = a.owner, try = a.try, lease_until = lease_until })
  return { job = job }
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

function op.leave_queues(a)
  redis.call('DEL', KEY.process .. a.owner)
  for _, queue in ipairs(a.queues) do redis.call('ZREM', KEY.consumers .. queue, a.owner) end
  return {}
end

-- Ends expired leases, fails jobs that waited past their deadline, and returns the jobs to send again.
function op.expire(a)
  local again = {}
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

-- Lists the waiting jobs that were sent before `before`, oldest first; a job listed twice has lost its message.
function op.waiting_before(a)
  local before = a.before ~= '' and '(' .. a.before or ms(NOW - a.grace_ms)
  return { ids = redis.call('ZRANGEBYSCORE', waiting_key(a.queue), '-inf', before, 'LIMIT', 0, a.limit) }
end

function op.mark_sent(a)
  local again = {}
  for _, id in ipairs(a.ids) do
    if redis.call('ZSCORE', waiting_key(a.queue), id) then
      wait_in(id, a.queue)
      local job = facts(id)
      if job.state then again[#again + 1] = to_send(job) end
    end
  end
  return { again = again }
end
