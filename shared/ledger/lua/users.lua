-- Forgets what is kept of whom jobs name: a user, a line of keys, a conversation.

local FORGET_SECONDS = 5  -- how long a job that a worker held is kept after its end, for whoever waits for it

local function forget_ended(job)
  if read(job.id, 'dead')[1] then  -- what others keep gives its bytes back at its time (op.forget)
    redis.call('ZREM', KEY.dead .. job.tenant_id, job.id)
    hold(job.tenant_id, -tonumber(job.bytes or 0))
  end
  redis.call('DEL', job_key(job.id), KEY.events .. job.id)
  leave_indexes(job.tenant_id, job.id, job.noted)
end

-- A slice of the jobs with a fact, newest first: ended ones are forgotten, waiting ones cancelled and forgotten, held ones told
-- to end. Trainings stay: they hold nothing of whom requests come from.
function op.forget_found(a)
  local index = index_key(a.tenant_id, a.fact)
  local flat = redis.call('ZREVRANGEBYSCORE', index, a.before, '-inf', 'WITHSCORES', 'LIMIT', 0, a.limit)
  local forgotten, cancelled = 0, 0
  for i = 1, #flat, 2 do
    local job = facts(flat[i])
    if job.state and job.stage ~= 'train' and (a.line == '' or job.key_line == a.line) then
      local was_final = is_final(job.state)
      if was_final then forgotten = forgotten + 1 else cancelled = cancelled + 1 end
      if a.is_dry then
        -- only counted
      elseif is_held(job.state) then
        redis.call('HSET', job_key(job.id), 'cancel_requested', 1, 'ttl', FORGET_SECONDS)
        redis.call('PUBLISH', 'sb:hint:cancel', job.id)
      else
        if not was_final then finish(job, 'cancelled', {}) end
        forget_ended(job)
      end
    end
  end
  local conversation = a.fact:match('^talk:(.*)$')
  if conversation and not a.is_dry then redis.call('DEL', KEY.conversation .. a.tenant_id .. ':' .. conversation) end
  return { forgotten = forgotten, cancelled = cancelled, next = #flat == 2 * a.limit and '(' .. flat[#flat] or '' }
end
