-- Reads: one job, pages of jobs, and the depth of every queue.

local function has_consumer(queue)
  return redis.call('ZCOUNT', KEY.consumers .. queue, NOW_MS, '+inf') > 0 and '1' or '0'
end

function op.get(a)
  local job = load(a.id)
  if not job.state or (a.tenant_id ~= '' and job.tenant_id ~= a.tenant_id) then return refuse('gone') end
  job.has_consumer = has_consumer(job.queue)
  return { job = job }
end

function op.list(a)
  local key = a.dead and KEY.dead .. a.tenant_id or KEY.jobs .. a.tenant_id
  local jobs, from, last, seen, size = {}, a.before, a.before, 0, 0
  repeat
    local page = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', 0, 100)
    for i = 1, #page, 2 do
      local job = load(page[i])
      if not job.state then
        redis.call('ZREM', key, page[i])  -- the job has expired: remove it from the index
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

local function counts(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end
  return found
end

-- Counts the jobs and live consumers of every queue; `states` counts jobs by state since the ledger began.
function op.gauges(a)
  local queues = {}
  for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
    redis.call('ZREMRANGEBYSCORE', KEY.consumers .. queue, '-inf', NOW_MS)
    local waiting, running, consumers = redis.call('ZCARD', waiting_key(queue)), redis.call('ZCARD', leased_key(queue)), redis.call('ZCARD', KEY.consumers .. queue)
    if waiting + running + consumers == 0 and queue:find('@', 1, true) then
      redis.call('SREM', KEY.queues, queue)  -- the queue of a base model that is no longer served, or not yet again
    else
      queues[#queues + 1] = { queue, waiting, running, consumers }
    end
  end
  return { queues = queues, states = counts(KEY.states), given_up = counts(KEY.given_up) }
end
