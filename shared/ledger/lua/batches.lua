-- Batches: a record each, which whoever holds its lease writes, and the jobs of its lines.
-- KEY.batch holds the record, its owner's tenant and line, and `fence`, the number of its last lease: a write under an older
-- one is refused. KEY.open_batches holds every batch that has not ended, by the time at which its lease ends.

local BATCH_SECONDS = 30 * 24 * 3600  -- an ended batch is shown for so long

local function batch_key(id) return KEY.batch .. id end

local function batch_of(id)
  local record, cancelling = unpack(redis.call('HMGET', batch_key(id), 'record', 'cancelling_ms'))
  return record and { record = record, cancelling_ms = cancelling or '' }
end

local function sees(id, tenant, line)
  local owner, owners_line = unpack(redis.call('HMGET', batch_key(id), 'tenant_id', 'line'))
  return owner == tenant and (line == '' or owners_line == line)
end

function op.batch_create(a)
  local known = redis.call('HGET', batch_key(a.id), 'fingerprint')
  if known then return { existing = true, same = known == a.fingerprint } end
  local open = 0
  for _, id in ipairs(redis.call('ZRANGE', KEY.open_batches, 0, -1)) do
    if redis.call('HGET', batch_key(id), 'tenant_id') == a.tenant_id then open = open + 1 end
  end
  if open >= a.most_open then return refuse('too_many_batches') end
  redis.call('HSET', batch_key(a.id), 'record', a.record, 'tenant_id', a.tenant_id, 'line', a.line, 'fingerprint', a.fingerprint, 'fence', 0)
  redis.call('ZADD', KEY.batches .. a.tenant_id, NOW_MS, a.id)
  redis.call('ZADD', KEY.open_batches, NOW_MS, a.id)  -- the oldest is taken first
  return { existing = false }
end

function op.batch_get(a)
  if not sees(a.id, a.tenant_id, a.line) then return refuse('gone') end
  return batch_of(a.id)
end

-- A page of a tenant's batches, newest first, those after the one that is named; ids of forgotten ones go on the way.
function op.batch_list(a)
  local key, found, from, seen = KEY.batches .. a.tenant_id, {}, '+inf', 0
  if a.after ~= '' then
    local at = redis.call('ZSCORE', key, a.after)
    if not at then return refuse('cursor_unknown') end
    from = '(' .. at
  end
  repeat
    local page = redis.call('ZREVRANGEBYSCORE', key, from, '-inf', 'WITHSCORES', 'LIMIT', 0, 100)
    for i = 1, #page, 2 do
      from, seen = '(' .. page[i + 1], seen + 1
      if redis.call('EXISTS', batch_key(page[i])) == 0 then
        redis.call('ZREM', key, page[i])
      elseif #found <= a.limit and sees(page[i], a.tenant_id, a.line) then
        found[#found + 1] = batch_of(page[i])
      end
    end
  until #page < 200 or #found > a.limit or seen >= LIST_SCAN
  return { batches = found }
end

function op.batch_cancel(a)
  if not sees(a.id, a.tenant_id, a.line) then return refuse('gone') end
  if redis.call('ZSCORE', KEY.open_batches, a.id) then redis.call('HSETNX', batch_key(a.id), 'cancelling_ms', NOW_MS) end
  return batch_of(a.id)
end

-- Forgets a batch that has ended.
function op.forget_batch(a)
  if not sees(a.id, a.tenant_id, '') or redis.call('ZSCORE', KEY.open_batches, a.id) then return {} end
  redis.call('DEL', batch_key(a.id))
  redis.call('ZREM', KEY.batches .. a.tenant_id, a.id)
  return {}
end

-- Leases one batch that nobody holds.
function op.batch_take(a)
  local id = redis.call('ZRANGEBYSCORE', KEY.open_batches, '-inf', NOW_MS, 'LIMIT', 0, 1)[1]
  if not id then return {} end
  redis.call('ZADD', KEY.open_batches, ms(NOW + a.lease_ms), id)
  local taken = batch_of(id)
  taken.fence = redis.call('HINCRBY', batch_key(id), 'fence', 1)
  return { taken = taken }
end

-- Writes the record (where it is not empty) and renews the lease; a batch that `ended` is open no more.
function op.batch_write(a)
  if tonumber(redis.call('HGET', batch_key(a.id), 'fence') or -1) ~= a.fence then return refuse('stale') end
  if not a.ended and not redis.call('ZSCORE', KEY.open_batches, a.id) then return refuse('stale') end
  if a.record ~= '' then redis.call('HSET', batch_key(a.id), 'record', a.record) end
  if a.ended then
    if redis.call('ZREM', KEY.open_batches, a.id) == 1 then
      notify(redis.call('HGET', batch_key(a.id), 'tenant_id'), a.id, { a.event }, { id = a.id })
    end
    redis.call('EXPIRE', batch_key(a.id), BATCH_SECONDS)
  else
    redis.call('ZADD', KEY.open_batches, ms(NOW + a.lease_ms), a.id)
  end
  return { cancelling_ms = redis.call('HGET', batch_key(a.id), 'cancelling_ms') or '' }
end

-- The state of each of these jobs ('' for one that is not there), and the first of those that have ended, whole.
function op.look(a)
  local states, ended = {}, {}
  for i, id in ipairs(a.ids) do
    states[i] = redis.call('HGET', job_key(id), 'state') or ''
    if states[i] ~= '' and is_final(states[i]) and #ended < a.most then ended[#ended + 1] = load(id) end
  end
  return { states = states, ended = ended }
end

-- Forgets ended jobs whose answers stand elsewhere, also dead letters, and gives back what they took.
function op.forget_jobs(a)
  for _, id in ipairs(a.ids) do
    local job = load(id)
    if job.state and job.tenant_id == a.tenant_id and is_final(job.state) then
      local kept = table.concat({ id, job.bytes or 0, job['at_' .. job.state], job.noted }, '|')
      local was_kept = redis.call('ZREM', KEY.kept .. a.tenant_id, kept)
      if was_kept + redis.call('ZREM', KEY.dead .. a.tenant_id, id) > 0 then hold(a.tenant_id, -(job.bytes or 0)) end
      redis.call('DEL', job_key(id), KEY.events .. id)
      leave_indexes(a.tenant_id, id, job.noted or '')
    end
  end
  return {}
end
