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

-- Whether a job of this line of keys (of any, where it is empty) may be forgotten. Trainings stay: they hold nothing of whom
-- requests come from.
local function is_theirs(job, line)
  return job.state and job.stage ~= 'train' and (line == '' or job.key_line == line)
end

-- Forgets a job that has ended, cancels and forgets one that waits, tells one that is held to end; `told` counts them.
local function forget_job(job, told, is_dry)
  local was_final = is_final(job.state)
  if was_final then told.forgotten = told.forgotten + 1 else told.cancelled = told.cancelled + 1 end
  if is_dry then return end
  if is_held(job.state) then
    redis.call('HSET', job_key(job.id), 'cancel_requested', 1, 'ttl', FORGET_SECONDS)
    redis.call('PUBLISH', 'sb:hint:cancel', job.id)
  else
    if not was_final then finish(job, 'cancelled', {}) end
    forget_ended(job)
  end
end

-- Forgets a slice of the jobs with a fact, newest first.
function op.forget_found(a)
  local index = index_key(a.tenant_id, a.fact)
  local flat = redis.call('ZREVRANGEBYSCORE', index, a.before, '-inf', 'WITHSCORES', 'LIMIT', 0, a.limit)
  local told = { forgotten = 0, cancelled = 0, next = #flat == 2 * a.limit and '(' .. flat[#flat] or '' }
  for i = 1, #flat, 2 do
    local job = facts(flat[i])
    if is_theirs(job, a.line) then forget_job(job, told, a.is_dry) end
  end
  local conversation = a.fact:match('^talk:(.*)$')
  if conversation and not a.is_dry then redis.call('DEL', KEY.conversation .. a.tenant_id .. ':' .. conversation) end
  return told
end

function op.forget_one(a)
  local job, told = facts(a.id), { forgotten = 0, cancelled = 0, next = '' }
  if job.tenant_id == a.tenant_id and is_theirs(job, a.line) then forget_job(job, told, a.is_dry) end
  return told
end
