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
  for _, queue in ipairs(a.queues) do
    local served = redis.call('ZCOUNT', KEY.consumers .. queue, NOW_MS, '+inf') > 0
    if not (served or a.force) then return refuse('no_consumer', { queue = queue }) end
  end
  -- The metrics list these queues from now on, so that one without a consumer is seen before a job waits in it.
  for _, queue in ipairs(a.queues) do redis.call('SADD', KEY.queues, queue) end
  redis.call('SET', pointer, a.release)
  redis.call('SADD', KEY.tenants, a.tenant_id)
  redis.call('RPUSH', log, cjson.encode({ release = a.release, from = current, at_ms = NOW_MS, by = a.by, key = a.key }))
  redis.call('PUBLISH', 'sb:hint:release', a.tenant_id)
  return {}
end
