local function is_served(queue)
  return redis.call('ZCOUNT', KEY.consumers .. queue, NOW_MS, '+inf') > 0
end

-- The queue by whose consumers a queue is served: a worker of the group `*` takes up what a release names and nobody serves.
local function served_by(queue)
  local any = 'generate.*'
  if queue:sub(1, 9) == 'generate.' and not is_served(queue) and is_served(any) then return any end
  return queue
end

-- The base models that live consumers of a queue serve: each also consumes `queue@base`. Consumers of older versions
-- state none.
local function bases_served(queue)
  local found, prefix = {}, queue .. '@'
  for _, other in ipairs(redis.call('SMEMBERS', KEY.queues)) do
    if other:sub(1, #prefix) == prefix and is_served(other) then found[#found + 1] = other:sub(#prefix + 1) end
  end
  return found
end

-- What a live consumer of a queue, with this base model, says that it takes of adapters, where that is less than needed: it
-- would fail their jobs. A user from before consumers were asked may not read it; then nothing is known.
local function takes_less(queue, base_model, need)
  for _, owner in ipairs(redis.call('ZRANGEBYSCORE', KEY.consumers .. queue, NOW_MS, '+inf')) do
    local told = redis.pcall('GET', KEY.process .. owner)
    local known = type(told) == 'string' and cjson.decode(told) or {}
    local lora = (known.base_model == nil or known.base_model == base_model) and known.lora
    local most = lora and lora.max_rank or 0
    if lora and ((most > 0 and need.rank > most) or (need.dora and not lora.dora)) then return lora end
  end
end

-- Moves the release pointer by compare-and-set; a move repeated after a lost reply is no conflict.
function op.move_release(a)
  if a.job ~= '' and not owned(a.job, a.attempt) then return refuse('stale') end
  local pointer, log = KEY.release .. a.tenant_id, KEY.promotions .. a.tenant_id
  local current = redis.call('GET', pointer) or ''
  if current == a.release then
    local last = cjson.decode(redis.call('LINDEX', log, -1) or '{}')
    if last.release == a.release and last.from == a.expected and last.by == a.by then return {} end
  end
  if current ~= a.expected then return refuse('stale_parent', { current = current }) end
  if not redis.call('HGET', KEY.releases .. a.tenant_id, a.release) then return refuse('gone') end
  for _, queue in ipairs(a.force and {} or a.queues) do
    local by = served_by(queue)
    if not is_served(by) then return refuse('no_consumer', { queue = queue }) end
    local bases = bases_served(by)
    for _, base in ipairs(a.bases[queue] or { '' }) do
      if #bases > 0 and not is_served(by .. '@' .. base) then
        return refuse('other_base', { queue = queue, base = base, served = bases })
      end
      local lora = a.needs[queue] and takes_less(by, base, a.needs[queue])
      if lora then return refuse('adapter_above', { queue = queue, max_rank = lora.max_rank or 0 }) end
    end
  end
  -- The metrics list these queues from now on, so that one without a consumer is seen before a job waits in it.
  for _, queue in ipairs(a.queues) do redis.call('SADD', KEY.queues, queue) end
  redis.call('SET', pointer, a.release)
  redis.call('SADD', KEY.tenants, a.tenant_id)
  redis.call('RPUSH', log, cjson.encode({ release = a.release, from = current, at_ms = NOW_MS, by = a.by, key = a.key }))
  redis.call('PUBLISH', 'sb:hint:release', a.tenant_id)
  notify(a.tenant_id, a.release, { a.is_back and 'release.rolled_back' or 'release.promoted' }, { id = a.release, from = current ~= '' and current or nil })
  return {}
end

-- Removes a release's record, unless the pointer is there; together with the check above, it never gets there afterwards.
function op.remove_release(a)
  if redis.call('GET', KEY.release .. a.tenant_id) == a.release then return refuse('current') end
  local open, candidate = unpack(redis.call('HMGET', KEY.rollout .. a.tenant_id, 'id', 'release'))
  if candidate == a.release then return refuse('rolled_out', { rollout = open }) end
  redis.call('HDEL', KEY.releases .. a.tenant_id, a.release)
  return {}
end
