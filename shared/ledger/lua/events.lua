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
  if job.noted then redis.call('ZADD', index_key(a.tenant_id, 'feedback'), job.noted:match('^[^|]+'), a.id) end
  redis.call('HSET', job_key(a.id), 'feedback', a.feedback, 'feedback_count', a.before + 1)
  if a.row ~= '' then redis.call('HSET', KEY.feedback .. a.tenant_id, a.id, a.row) else redis.call('HDEL', KEY.feedback .. a.tenant_id, a.id) end
  -- The row outlives the job, so what tells whose it is does, too.
  local user = ('|' .. (job.noted or '')):match('|user:([^|]+)')
  if a.row ~= '' and user then redis.call('HSET', KEY.feedback_users .. a.tenant_id, a.id, user .. '|' .. (job.key_line or '')) end
  return {}
end

-- Forgets the feedback on a job, and the data-set row made from it, which outlives the job.
function op.forget_feedback(a)
  local found = redis.call('HDEL', KEY.feedback .. a.tenant_id, a.id)
  redis.call('HDEL', KEY.feedback_users .. a.tenant_id, a.id)
  if read(a.id, 'tenant_id')[1] == a.tenant_id then
    found = found + redis.call('HDEL', job_key(a.id), 'feedback', 'feedback_count')
    redis.call('ZREM', KEY.found .. a.tenant_id .. ':feedback', a.id)
  end
  if found == 0 then return refuse('gone') end
  return {}
end
