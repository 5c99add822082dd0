-- Attempts and how long they may stay silent; what was lost, and has to be sent again.

-- An attempt whose lease ran out: back to where it waited, or to the dead letters after MAX_LOST of them.
-- Answers whether the job waits.
local function lose_lease(job)
  local lost = tonumber(job.lost_leases) + 1
  if lost >= MAX_LOST and job.cancel_requested ~= '1' then
    redis.call('HSET', job_key(job.id), 'lost_leases', lost)
    fail(job, 'attempts_exhausted', lost .. ' workers in a row went silent over this job; look at the dead letters, then replay it', true)
    return false
  end
  return not wait_again(job, { lost_leases = lost }).cancelled
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
  if job.waits then return refuse('waiting') end  -- a message from before it waited for other jobs
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

-- One call a beat and process: its leases live on, and its presence in the queues it serves.
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

-- Leases that ran out, deadlines that passed in a queue: what has to be sent again.
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
      redis.call('ZREM', KEY.deadlines, id)  -- a running job's deadline is its engine's to keep
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
      local job = facts(id)
      if job.state then again[#again + 1] = to_send(job) end
    end
  end
  return { again = again }
end
