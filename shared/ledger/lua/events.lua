-- Events of attempts, and feedback on finished jobs.

-- A writer numbers its batches, so that a batch sent again after a lost reply is not written twice.
function op.append(a)
  local key, is_repeated = KEY.writer .. a.writer, false
  if a.writer ~= '' then
    is_repeated = tonumber(redis.call('GET', key) or 0) >= a.batch
    redis.call('SET', key, a.batch, 'EX', 600)  -- longer than any client retries
  end
  local standing = {}
  for i, item in ipairs(a.items) do
    local id, attempt, kind, data = item[1], item[2], item[3], item[4]
    standing[i] = owned(id, attempt) and 'held' or 'stale'
    if standing[i] == 'held' and not is_repeated then
      if kind == 'progress' then redis.call('HSET', job_key(id), 'progress', data) end
      emit(id, kind, data)
    end
  end
  return { standing = standing }
end

-- Forgets the data-set row made from a job's feedback; returns how many there were.
local function forget_row(a)
  redis.call('HDEL', KEY.feedback_sources .. a.tenant_id, a.id)
  return redis.call('HDEL', KEY.feedback .. a.tenant_id, a.id)
end

-- Forgets all that was said of a job itself; returns how much there was.
local function forget_said(a)
  for _, fact in ipairs({ 'feedback', 'conflict' }) do redis.call('ZREM', index_key(a.tenant_id, fact), a.id) end
  return redis.call('HDEL', job_key(a.id), 'feedback', 'feedback_count')
end

function op.feedback(a)
  local job = facts(a.id)
  if job.tenant_id ~= a.tenant_id then return refuse('gone') end
  if not is_final(job.state) then return refuse('unfinished') end
  local count, old, dead = unpack(read(a.id, 'feedback_count', 'feedback', 'dead'))
  if tonumber(count or (old and 1) or 0) ~= a.before then return refuse('moved') end
  local more = #a.feedback - #(old or '')
  if is_over_budget(a.tenant_id, more, a.max_held) then return refuse('over_budget', { wait_ms = room_in_ms(a) }) end
  if dead then
    redis.call('HINCRBY', job_key(a.id), 'bytes', more)
  else
    local at = NOW + redis.call('PTTL', job_key(a.id))
    give_back_at(ms(at), { a.id .. ':' .. a.before, more, ms(at - tonumber(job.ttl) * 1000) }, a.tenant_id)
  end
  if a.after == 0 then
    forget_said(a)
  else
    if job.noted then
      local at = job.noted:match('^[^|]+')
      redis.call('ZADD', index_key(a.tenant_id, 'feedback'), at, a.id)
      if a.conflict then redis.call('ZADD', index_key(a.tenant_id, 'conflict'), at, a.id) else redis.call('ZREM', index_key(a.tenant_id, 'conflict'), a.id) end
    end
    redis.call('HSET', job_key(a.id), 'feedback', a.feedback, 'feedback_count', a.after)
  end
  if (job.rollout or '') ~= '' then
    add_trial(a.tenant_id, job.rollout, { job = a.id, release = read(a.id, 'release')[1], label = job.label, judged = a.judged })
  end
  if a.row ~= '' then
    -- The row outlives the job, so what tells whose it is does, too.
    redis.call('HSET', KEY.feedback .. a.tenant_id, a.id, a.row)
    redis.call('HSET', KEY.feedback_sources .. a.tenant_id, a.id, a.source)
  else
    forget_row(a)
  end
  return {}
end

-- Forgets the feedback on a job, and the data-set row made from it, which outlives the job.
function op.forget_feedback(a)
  local found = forget_row(a)
  if read(a.id, 'tenant_id')[1] == a.tenant_id then found = found + forget_said(a) end
  if found == 0 then return refuse('gone') end
  return {}
end
