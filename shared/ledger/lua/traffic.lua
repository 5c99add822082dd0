-- Traffic: each selection is noted in a stream, which one process at a time reads in its turn. What it makes of the entries
-- counts with the place up to which it has read, in one write: so each entry counts once, however many processes end.
-- KEY.traffic holds `fence`, the number of the last turn (a write under an older one is refused), `until_ms`, when that turn
-- ends, and `cursor`, the last entry that was counted.

-- Notes a selection, where one was made. No job waits for its count: a user of Redis from before may not write here.
local function note_seen(job, seen)
  if seen == '' then return end
  redis.pcall('XADD', KEY.selections, 'MAXLEN', '~', SELECTIONS_KEPT, '*', 'tenant', job.tenant_id, 'job', job.id, 'seen', seen)
end

-- Gives a turn to whoever asks while nobody has one; with `if_new` only where an entry waits.
function op.take_turn(a)
  local ends, cursor = unpack(redis.call('HMGET', KEY.traffic, 'until_ms', 'cursor'))
  ends, cursor = tonumber(ends or 0), cursor or '0-0'
  if ends > NOW or (a.if_new and #redis.call('XRANGE', KEY.selections, '(' .. cursor, '+', 'COUNT', 1) == 0) then return {} end
  redis.call('HSET', KEY.traffic, 'until_ms', ms(NOW + a.lease_ms))
  return { fence = redis.call('HINCRBY', KEY.traffic, 'fence', 1), cursor = cursor, was_lost = ends > 0 }
end

-- Writes what a turn made, and renews it; a lease of 0 ends it. Nothing is written where a tenant's policy is another one
-- by now than the rows were made by.
function op.write_traffic(a)
  if tonumber(redis.call('HGET', KEY.traffic, 'fence') or -1) ~= a.fence then return refuse('stale') end
  for _, one in ipairs(a.policies) do
    if (redis.call('HGET', KEY.traffic_policies, one[1]) or '') ~= one[2] then return refuse('policy_moved') end
  end
  for _, part in ipairs(a.added) do redis.call('HSET', KEY.traffic_parts .. part[1], part[2], part[3]) end
  for _, part in ipairs(a.removed) do redis.call('HDEL', KEY.traffic_parts .. part[1], part[2]) end
  for _, sketch in ipairs(a.sketches) do
    local key = KEY.sketches .. sketch[1] .. ':' .. string.format('%d', sketch[2])
    redis.call('HSET', key, sketch[3], sketch[4])
    redis.call('EXPIRE', key, SKETCH_DAYS * 86400)
  end
  redis.call('HSET', KEY.traffic, 'until_ms', a.lease_ms > 0 and ms(NOW + a.lease_ms) or 0)
  if a.cursor ~= '' then
    redis.call('HSET', KEY.traffic, 'cursor', a.cursor)
    redis.call('XTRIM', KEY.selections, 'MINID', '~', a.cursor)
  end
  return {}
end
