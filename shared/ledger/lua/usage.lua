-- What was used: one hash for each tenant and day (UTC), a field for each line of keys and label, kept for USAGE_DAYS.

local MAX_USED = 2000  -- fields of a day, about 100 bytes each; then a line's further labels count together
local COUNTED = { succeeded = 1, failed = 2, rejected = 3 }

-- Counts an ended job, and the tokens of its prompt and its answers (`job.used`); the value has the numbers of answered,
-- failed and rejected jobs, then those of tokens: one read and one write, where each number of its own would take a write.
local function count_usage(job, state)
  local at = COUNTED[state]
  if not at or job.stage == 'train' then return end
  local key, line = KEY.usage .. job.tenant_id .. ':' .. math.floor(NOW / 86400000), job.key_line or ''
  local field = line .. '|' .. (job.label or '')
  local known, size = redis.call('HGET', key, field), nil
  if not known then
    size = redis.call('HLEN', key)
    if size >= MAX_USED then
      field = line .. '|*'
      known = redis.call('HGET', key, field)
    end
  end
  local numbers, used = {}, job.used or { 0, 0 }
  for number in (known or '0 0 0 0 0'):gmatch('%d+') do numbers[#numbers + 1] = tonumber(number) end
  numbers[at], numbers[4], numbers[5] = numbers[at] + 1, numbers[4] + used[1], numbers[5] + used[2]
  redis.call('HSET', key, field, string.format('%d %d %d %d %d', unpack(numbers)))
  if size == 0 then redis.call('EXPIRE', key, USAGE_DAYS * 86400) end
end

function op.usage(a)
  local flat = redis.call('HGETALL', KEY.usage .. a.tenant_id .. ':' .. a.day)
  local used = {}
  for i = 1, #flat, 2 do used[flat[i]] = flat[i + 1] end
  return { used = used }
end
