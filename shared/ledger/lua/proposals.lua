-- Proposals: KEY.proposals holds a tenant's records, each as `number|record`; a write counts only where it carries the next
-- number. KEY.learner holds what its traffic may do and how far its log is reviewed; whoever has the lease of KEY.learners
-- follows the log, under the number `fence`. Each write adds to the audit log in the same call.

local MAX_AUDIT = 10000  -- entries of a tenant, some 300 bytes each

local function note_audit(tenant, entries)
  for _, entry in ipairs(entries) do
    redis.call('XADD', KEY.audit .. tenant, 'MAXLEN', '~', MAX_AUDIT, '*', 'entry', entry)
  end
end

-- Lets a policy hold, and whose key carries it out; with `only_new`, where none does yet.
function op.follow_log(a)
  local key = KEY.learner .. a.tenant_id
  if a.only_new and redis.call('HEXISTS', key, 'policy') == 1 then return {} end
  redis.call('HSET', key, 'policy', a.policy, 'key', a.key)
  redis.call('ZADD', KEY.learners, NOW_MS, a.tenant_id)
  note_audit(a.tenant_id, a.audit)
  return {}
end

function op.learner(a)
  local policy, key, learning = unpack(redis.call('HMGET', KEY.learner .. a.tenant_id, 'policy', 'key', 'learning'))
  return { policy = policy or '', key = key or '', learning = learning or '' }
end

-- Leases one tenant's log that nobody follows.
function op.take_learner(a)
  local tenant = redis.call('ZRANGEBYSCORE', KEY.learners, '-inf', NOW_MS, 'LIMIT', 0, 1)[1]
  if not tenant then return {} end
  redis.call('ZADD', KEY.learners, ms(NOW + a.lease_ms), tenant)
  return { taken = { tenant_id = tenant, fence = redis.call('HINCRBY', KEY.learner .. tenant, 'fence', 1) } }
end

-- Writes how far the log is reviewed, where it changed, and renews the lease.
function op.write_learner(a)
  local key = KEY.learner .. a.tenant_id
  if tonumber(redis.call('HGET', key, 'fence')) ~= a.fence then return refuse('stale') end
  redis.call('ZADD', KEY.learners, ms(NOW + a.lease_ms), a.tenant_id)
  if a.learning ~= '' then redis.call('HSET', key, 'learning', a.learning) end
  note_audit(a.tenant_id, a.audit)
  return {}
end

-- Writes a proposal if nobody has written it since it was read: `version` is the number that it gets.
function op.write_proposal(a)
  local key = KEY.proposals .. a.tenant_id
  local stored = redis.call('HGET', key, a.id)
  local version = stored and tonumber(stored:match('^%d+')) or 0
  if a.version ~= version + 1 then return refuse('moved') end
  redis.call('HSET', key, a.id, ('%d|'):format(a.version) .. a.record)
  if #a.drop > 0 then redis.call('HDEL', key, unpack(a.drop)) end
  note_audit(a.tenant_id, a.audit)
  if a.event ~= '' then notify(a.tenant_id, a.id, { a.event }, { id = a.id, kind = a.kind, state = a.state, release = a.release }) end
  return {}
end

function op.proposals(a)
  local found = {}
  for _, stored in ipairs(redis.call('HVALS', KEY.proposals .. a.tenant_id)) do found[#found + 1] = stored:match('|(.*)') end
  return { proposals = found }
end

function op.proposal(a)
  local stored = redis.call('HGET', KEY.proposals .. a.tenant_id, a.id)
  return { proposal = stored and stored:match('|(.*)') or '' }
end
