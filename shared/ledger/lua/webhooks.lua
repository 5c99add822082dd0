-- Webhooks: what ends or moves is noted for each endpoint that wants to know, in the same call, and delivered by whoever
-- claims it. KEY.webhooks holds a tenant's endpoints with the names of the events that each wants, none while it is disabled:
-- the one thing that the end of a job reads of a tenant without webhooks.
-- An undelivered delivery is due at its score in KEY.undelivered: its next try, or while it is claimed the end of the claim.

local MAX_UNDELIVERED = 10000  -- of one endpoint
local DELIVERY_BYTES = 1000  -- a delivery with its places in the lists
local DUE_OF_DISABLED = 100  -- one call looks at most at this many

local function delivery_key(endpoint, id) return KEY.delivery .. endpoint .. ':' .. id end

local function wants(names, event)
  return names:find(' ' .. event .. ' ', 1, true) or names:find(' * ', 1, true) or names:find(' ' .. event:match('^[^.]+') .. '.* ', 1, true)
end

-- An endpoint comes when the first of its deliveries is due.
local function schedule(endpoint)
  local first = redis.call('ZRANGE', KEY.undelivered .. endpoint, 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', KEY.due, first[2], endpoint) else redis.call('ZREM', KEY.due, endpoint) end
end

-- Gives a delivery up that was not made; the endpoint counts it.
local function drop_delivery(tenant, endpoint, id)
  redis.call('ZREM', KEY.undelivered .. endpoint, id)
  redis.call('ZREM', KEY.deliveries .. endpoint, id)
  redis.call('DEL', delivery_key(endpoint, id))
  redis.call('HINCRBY', KEY.webhook .. endpoint, 'dropped', 1)
  hold(tenant, -DELIVERY_BYTES)
end

local function make_due(tenant, endpoint, id)
  local waiting = KEY.undelivered .. endpoint
  if redis.call('ZCARD', waiting) >= MAX_UNDELIVERED then
    drop_delivery(tenant, endpoint, redis.call('ZREVRANGE', waiting, 0, 0)[1])  -- the one that has failed most often
  end
  redis.call('ZADD', waiting, NOW_MS, id)
  redis.call('ZADD', KEY.due, 'LT', NOW_MS, endpoint)
  hold(tenant, DELIVERY_BYTES)
end

local function note_delivery(endpoint, id, event, data, state)
  redis.call('HSET', delivery_key(endpoint, id), 'id', id, 'type', event, 'data', cjson.encode(data), 'state', state, 'attempts', 0,
    'created', NOW_MS, 'due', NOW_MS)
  redis.call('ZADD', KEY.deliveries .. endpoint, NOW_MS, id)
end

-- What ended is forgotten after `keep_ms`, or earlier where the tenant's jobs need the room (op.forget).
local function end_delivery(tenant, endpoint, id, state, keep_ms)
  redis.call('ZREM', KEY.undelivered .. endpoint, id)
  redis.call('HSET', delivery_key(endpoint, id), 'state', state, 'ended', NOW_MS)
  give_back_at(ms(NOW + keep_ms), { HOOK .. endpoint .. ':' .. id, DELIVERY_BYTES, NOW_MS }, tenant)
end

local function event_id(event, subject) return 'evt_' .. redis.sha1hex(event .. subject .. NOW_MS):sub(1, 24) end

-- Notes events about a job, a release or an endpoint for each of the tenant's endpoints that wants them.
local function notify(tenant, subject, events, data)
  local endpoints = redis.call('HGETALL', KEY.webhooks .. tenant)
  for i = 1, #endpoints, 2 do
    for _, event in ipairs(events) do
      if wants(endpoints[i + 1], event) then
        local id = event_id(event, subject)
        note_delivery(endpoints[i], id, event, data, 'waiting')
        make_due(tenant, endpoints[i], id)
      end
    end
  end
end

local function is_fine_tuning(job)
  return job.stage == 'train' and (read(job.id, 'trains')[1] or ''):find('"fine_tuning":true', 1, true)
end

-- Notes the end of a job; that of a fine-tuning job by OpenAI's name, too.
local function notify_end(job, is_dead)
  local events = { 'job.' .. (is_dead and 'dead' or job.state) }
  if is_fine_tuning(job) then events[2] = 'fine_tuning.job.' .. job.state end
  notify(job.tenant_id, job.id, events, { id = job.id, state = job.state, label = job.label ~= '' and job.label or nil })
end

local function disable(tenant, endpoint, why, keep_ms)
  local id = event_id('endpoint.disabled', endpoint)
  redis.call('HSET', KEY.webhook .. endpoint, 'enabled', '0', 'disabled_at', NOW_MS, 'disabled_reason', why)
  redis.call('HSET', KEY.webhooks .. tenant, endpoint, '')
  note_delivery(endpoint, id, 'endpoint.disabled', { id = endpoint, reason = why }, 'noted')
  hold(tenant, DELIVERY_BYTES)
  end_delivery(tenant, endpoint, id, 'noted', keep_ms)
  notify(tenant, endpoint, { 'endpoint.disabled' }, { id = endpoint, reason = why })
end

local function has(a) return redis.call('HEXISTS', KEY.webhooks .. a.tenant_id, a.id) == 1 end

function op.add_webhook(a)
  if redis.call('HLEN', KEY.webhooks .. a.tenant_id) >= a.most then return refuse('too_many') end
  redis.call('HSET', KEY.webhook .. a.id, 'id', a.id, 'tenant_id', a.tenant_id, 'enabled', '1', 'dropped', 0, 'created', NOW_MS, 'updated', NOW_MS)
  for name, value in pairs(a.fields) do redis.call('HSET', KEY.webhook .. a.id, name, value) end
  redis.call('HSET', KEY.webhooks .. a.tenant_id, a.id, a.fields.events)
  hold(a.tenant_id, 0)  -- lists the tenant
  return {}
end

-- Changes fields of an endpoint, if its secret is the one that the caller knows. One that is enabled tries all that waits at
-- once.
function op.change_webhook(a)
  if not has(a) then return refuse('gone') end
  local key = KEY.webhook .. a.id
  if a.secret ~= '' and redis.call('HGET', key, 'secret') ~= a.secret then return refuse('moved') end
  local was_enabled = redis.call('HGET', key, 'enabled')
  redis.call('HSET', key, 'updated', NOW_MS)
  for name, value in pairs(a.fields) do redis.call('HSET', key, name, value) end
  local enabled, events = unpack(redis.call('HMGET', key, 'enabled', 'events'))
  redis.call('HSET', KEY.webhooks .. a.tenant_id, a.id, enabled == '1' and events or '')
  if enabled == '1' and was_enabled == '0' then
    redis.call('HDEL', key, 'failing_since', 'disabled_at', 'disabled_reason')
    redis.call('ZUNIONSTORE', KEY.undelivered .. a.id, 1, KEY.undelivered .. a.id, 'WEIGHTS', 0)
    schedule(a.id)
  elseif enabled == '0' and was_enabled == '1' then
    redis.call('HSET', key, 'disabled_at', NOW_MS)
  end
  return {}
end

function op.remove_webhook(a)
  if not has(a) then return refuse('gone') end
  local waiting = redis.call('ZRANGE', KEY.undelivered .. a.id, 0, -1)
  for _, id in ipairs(waiting) do redis.call('DEL', delivery_key(a.id, id)) end
  hold(a.tenant_id, -#waiting * DELIVERY_BYTES)
  redis.call('ZREM', KEY.due, a.id)
  redis.call('HDEL', KEY.webhooks .. a.tenant_id, a.id)
  redis.call('DEL', KEY.webhook .. a.id, KEY.undelivered .. a.id, KEY.deliveries .. a.id)
  return {}
end

local function hash(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

-- A tenant's endpoints, or the one of this id.
function op.webhooks(a)
  local found = {}
  for _, id in ipairs(a.id == '' and redis.call('HKEYS', KEY.webhooks .. a.tenant_id) or { a.id }) do
    local hook = hash(KEY.webhook .. id)
    if hook.tenant_id == a.tenant_id then
      hook.waiting = redis.call('ZCARD', KEY.undelivered .. id)
      found[#found + 1] = hook
    end
  end
  return { webhooks = found }
end

-- A page of an endpoint's deliveries, newest first.
function op.deliveries(a)
  if not has(a) then return refuse('gone') end
  local flat = redis.call('ZREVRANGEBYSCORE', KEY.deliveries .. a.id, a.before, '-inf', 'WITHSCORES', 'LIMIT', 0, a.limit)
  local found = {}
  for i = 1, #flat, 2 do found[#found + 1] = hash(delivery_key(a.id, flat[i])) end
  return { deliveries = found, next = #found == a.limit and '(' .. flat[#flat] or '' }
end

-- Makes a delivery anew, under the same id, by which its receiver tells that it knows it.
function op.replay_delivery(a)
  local key = delivery_key(a.id, a.delivery)
  local state = has(a) and redis.call('HGET', key, 'state')
  if not state or state == 'noted' then return refuse('gone') end
  if redis.call('HGET', KEY.webhook .. a.id, 'enabled') ~= '1' then return refuse('disabled') end
  redis.call('HSET', key, 'state', 'waiting', 'attempts', 0, 'due', NOW_MS)
  redis.call('HDEL', key, 'ended')
  if state ~= 'waiting' then make_due(a.tenant_id, a.id, a.delivery) end
  redis.call('ZADD', KEY.undelivered .. a.id, NOW_MS, a.delivery)
  schedule(a.id)
  return { delivery = hash(key) }
end

-- What waits for a disabled endpoint waits to its end: it goes on if the endpoint is enabled before.
local function postpone(hook, endpoint, max_age_ms)
  local waiting = KEY.undelivered .. endpoint
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', NOW_MS, 'LIMIT', 0, DUE_OF_DISABLED)) do
    local last = tonumber(redis.call('HGET', delivery_key(endpoint, id), 'created') or 0) + max_age_ms
    if last <= NOW then drop_delivery(hook.tenant_id, endpoint, id) else redis.call('ZADD', waiting, ms(last), id) end
  end
end

-- Claims due deliveries for a while: few of each endpoint, one of an endpoint that only failed for `patient_ms`. `busy` counts
-- those that the caller has under way.
function op.claim_deliveries(a)
  local claimed = {}
  for _, endpoint in ipairs(redis.call('ZRANGEBYSCORE', KEY.due, '-inf', NOW_MS, 'LIMIT', 0, a.endpoints)) do
    local hook, waiting = hash(KEY.webhook .. endpoint), KEY.undelivered .. endpoint
    local is_failing = NOW - tonumber(hook.failing_since or NOW_MS) >= a.patient_ms
    local room = math.min(a.limit - #claimed, (is_failing and 1 or a.at_once) - (a.busy[endpoint] or 0))
    if hook.enabled ~= '1' then
      postpone(hook, endpoint, a.max_age_ms)
    elseif room > 0 then
      for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting, '-inf', NOW_MS, 'LIMIT', 0, room)) do
        redis.call('ZADD', waiting, ms(NOW + a.lease_ms), id)
        claimed[#claimed + 1] = { hook, hash(delivery_key(endpoint, id)) }
      end
    end
    schedule(endpoint)
  end
  return { claimed = claimed }
end

-- Notes how a try went: made, to be tried again after a pause, or given up (a pause below 0). An endpoint that is `gone`, or
-- that only failed for `max_age_ms`, is disabled.
function op.settle_delivery(a)
  local key, webhook = delivery_key(a.id, a.delivery), KEY.webhook .. a.id
  if redis.call('HGET', key, 'state') ~= 'waiting' then return { disabled = false } end  -- ended meanwhile, or its endpoint deleted
  local tenant, enabled, since = unpack(redis.call('HMGET', webhook, 'tenant_id', 'enabled', 'failing_since'))
  redis.call('HSET', key, 'tried', NOW_MS, 'status', a.status, 'error', a.error)
  redis.call('HINCRBY', key, 'attempts', 1)
  if a.made then
    end_delivery(tenant, a.id, a.delivery, 'delivered', a.keep_ms)
    redis.call('HDEL', webhook, 'failing_since')
  elseif a.pause_ms < 0 then
    end_delivery(tenant, a.id, a.delivery, 'failed', a.keep_ms)
  else
    redis.call('HSET', key, 'due', ms(NOW + a.pause_ms))
    redis.call('ZADD', KEY.undelivered .. a.id, ms(NOW + a.pause_ms), a.delivery)
  end
  schedule(a.id)
  if a.made or enabled ~= '1' then return { disabled = false } end
  if not since then redis.call('HSET', webhook, 'failing_since', NOW_MS) end
  local is_over = a.gone or NOW - tonumber(since or NOW_MS) >= a.max_age_ms
  if is_over then disable(tenant, a.id, a.gone and 'the endpoint answered 410 Gone' or 'every delivery has failed for three days', a.keep_ms) end
  return { disabled = is_over }
end
