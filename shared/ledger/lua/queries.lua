-- Reads: one job, pages of jobs, and the depth of every queue.

local function has_consumer(queue)
  return redis.call('ZCOUNT', KEY.consumers .. queue, NOW_MS, '+inf') > 0 and '1' or '0'
end

function op.get(a)
  local job = load(a.id)
  if not job.state or (a.tenant_id ~= '' and job.tenant_id ~= a.tenant_id) then return refuse('gone') end
  if a.line ~= '' and job.key_line ~= a.line then return refuse('gone') end
  job.has_consumer = has_consumer(job.queue)
  return { job = job }
end

-- The indexes that hold every job of a list, the most selective first.
local function indexes(a)
  local found = KEY.found .. a.tenant_id .. ':'
  if a.dead then return { KEY.dead .. a.tenant_id } end
  if a.kind == 'train' then return { found .. 'training' } end
  if a.user ~= '' then return { found .. 'user:' .. a.user } end
  if a.conflict then return { found .. 'conflict' } end
  if a.feedback == true then return { found .. 'feedback' } end
  if a.rejected == true then return { found .. 'rejected' } end
  if a.disputed == true then return { found .. 'disputed' } end
  local keys = {}
  for _, label in ipairs(a.labels) do keys[#keys + 1] = found .. 'label:' .. label end
  if #keys > 0 then return keys end
  if a.line ~= '' then return { found .. 'line:' .. a.line } end
  if a.min_probability <= 0 and a.max_probability >= 1 then return { KEY.jobs .. a.tenant_id } end
  for bound = math.min(9, math.floor(a.min_probability * 10)), math.min(9, math.floor(a.max_probability * 10)) do
    keys[#keys + 1] = found .. 'tenth:' .. bound
  end
  return keys
end

-- The next jobs of all these indexes together, newest first: { id, score, index } each.
local function next_jobs(keys, from, since)
  local page = {}
  for _, key in ipairs(keys) do
    local flat = redis.call('ZREVRANGEBYSCORE', key, from, since, 'WITHSCORES', 'LIMIT', 0, 100)
    for i = 1, #flat, 2 do page[#page + 1] = { flat[i], flat[i + 1], key } end
  end
  if #keys > 1 then table.sort(page, function(one, other) return tonumber(one[2]) > tonumber(other[2]) end) end
  return page
end

-- What a list reads of each job, besides the times of its states: no body, no result, no feedback, unless it was asked for.
local LISTED = { 'tenant_id', 'kind', 'state', 'stage', 'queue', 'attempt', 'first_attempt', 'lost_leases', 'release', 'label', 'key', 'key_line',
  'cancel_requested', 'selection', 'progress', 'error', 'trains' }

local function load_listed(id, names)
  local job = { id = id }
  for i, value in ipairs(read(id, unpack(names))) do job[names[i]] = value or nil end
  return with_stage(job)
end

local function is_one_of(labels, label)
  for _, one in ipairs(labels) do
    if one == label then return true end
  end
  return #labels == 0
end

local function matches(job, a)
  if (a.state ~= '' and job.state ~= a.state) or (a.kind ~= '' and job.kind ~= a.kind) then return false end
  if (a.line ~= '' and job.key_line ~= a.line) or (a.key ~= '' and job.key ~= a.key) then return false end
  if known(a.feedback) and a.feedback ~= (redis.call('HEXISTS', job_key(job.id), 'feedback') == 1) then return false end
  if a.conflict and not redis.call('ZSCORE', index_key(a.tenant_id, 'conflict'), job.id) then return false end
  if known(a.disputed) and a.disputed ~= (redis.call('ZSCORE', index_key(a.tenant_id, 'disputed'), job.id) ~= false) then return false end
  local by_probability = a.min_probability > 0 or a.max_probability < 1
  if #a.labels == 0 and not known(a.rejected) and not by_probability then return true end
  local selection = job.selection and cjson.decode(job.selection) or {}
  local label = job.label ~= '' and job.label or selection.label
  if not is_one_of(a.labels, label) or (known(a.rejected) and a.rejected ~= (selection.rejected == true)) then return false end
  local sure = selection.probability
  return not by_probability or known(sure) and sure >= a.min_probability and sure <= a.max_probability
end

function op.list(a)
  local keys, names = indexes(a), { unpack(LISTED) }
  for _, name in ipairs(a.include) do names[#names + 1] = name end
  local jobs, from, last, seen, size = {}, a.before, a.before, 0, 0
  repeat
    local page = next_jobs(keys, from, a.since)
    for i = 1, math.min(#page, 100) do
      local id, score, key = unpack(page[i])
      local job = load_listed(id, names)
      if not job.state then
        redis.call('ZREM', key, id)  -- the job has expired: remove it from the index
      elseif #jobs < a.limit and matches(job, a) then
        job.has_consumer = has_consumer(job.queue)
        jobs[#jobs + 1] = job
        last = '(' .. score
      end
      from = '(' .. score
    end
    size = #page
    seen = seen + math.min(size, 100)
  until size == 0 or #jobs >= a.limit or seen >= LIST_SCAN
  if #jobs < a.limit then last = size > 0 and from or '' end
  return { jobs = jobs, next = last }
end

-- How sure a selector was of a tenant's jobs since a time: of every n-th of them, newest first, so that there are `sample` in
-- all. One call looks at `limit` of them, from the job at the place `from` on.
function op.confidences(a)
  local key = KEY.jobs .. a.tenant_id
  local count = redis.call('ZCOUNT', key, a.since, '+inf')
  local step, at, seen, of_others = math.max(1, math.ceil(count / a.sample)), a.from, 0, 0
  local sure, between = {}, {}
  while at < count and seen < a.limit do
    local stored = read(redis.call('ZREVRANGE', key, at, at)[1], 'selection')[1]
    local selection = stored and cjson.decode(stored) or {}
    if known(selection.confidence) and selection.selector ~= a.selector then of_others = of_others + 1
    elseif known(selection.confidence) and selection.ambiguous == true then between[#between + 1] = selection.confidence
    elseif known(selection.confidence) then sure[#sure + 1] = selection.confidence end
    at, seen = at + step, seen + 1
  end
  return { count = count, confidences = sure, ambiguous = between, of_others = of_others, next = at < count and at or -1 }
end

-- A slice of a tenant's jobs, newest first: what those of them need that have not ended, or may be replayed.
function op.unfinished(a)
  local flat = redis.call('ZREVRANGEBYSCORE', KEY.jobs .. a.tenant_id, a.before, '-inf', 'WITHSCORES', 'LIMIT', 0, LIST_SCAN)
  local releases, trainings = {}, {}
  for i = 1, #flat, 2 do
    local state, kind, release, dead = unpack(read(flat[i], 'state', 'kind', 'release', 'dead'))
    if state and (dead == '1' or not is_final(state)) then
      if kind == 'train' then trainings[#trainings + 1] = load(flat[i]) elseif release ~= '' then releases[release] = flat[i] end
    end
  end
  return { releases = releases, trainings = trainings, next = #flat == 2 * LIST_SCAN and '(' .. flat[#flat] or '' }
end

local function counts(key)
  local found, flat = {}, redis.call('HGETALL', key)
  for i = 1, #flat, 2 do found[flat[i]] = tonumber(flat[i + 1]) end
  return found
end

-- Counts the jobs and live consumers of every queue; `states` counts jobs by state since the ledger began.
function op.gauges(a)
  local queues = {}
  for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
    redis.call('ZREMRANGEBYSCORE', KEY.consumers .. queue, '-inf', NOW_MS)
    local waiting, running, consumers = redis.call('ZCARD', waiting_key(queue)), redis.call('ZCARD', leased_key(queue)), redis.call('ZCARD', KEY.consumers .. queue)
    if waiting + running + consumers == 0 and (queue:find('@', 1, true) or queue == 'generate.*') then
      redis.call('SREM', KEY.queues, queue)  -- of a base model, or of any group: no longer served, or not yet again
    else
      queues[#queues + 1] = { queue, waiting, running, consumers }
    end
  end
  local states = {}
  for name, number in pairs(counts(KEY.states)) do states[name] = not name:find(':', 1, true) and number or nil end  -- not the owners' counts
  return { queues = queues, states = states, given_up = counts(KEY.given_up), held = counts(KEY.held) }
end

-- How many of a queue's waiting jobs are this tenant's: those in its lanes, and those that are not due for one yet.
local function waiting_of(queue, tenant)
  local count = 0
  for _, priority in ipairs({ 'interactive', 'batch' }) do
    for _, label in ipairs(redis.call('ZRANGE', tenants_of(queue, priority) .. ':' .. tenant, 0, -1)) do
      count = count + redis.call('ZCARD', lane(queue, priority, tenant, label))
    end
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', waiting_key(queue), '-inf', '(+inf', 'LIMIT', 0, LIST_SCAN)) do
    if read(id, 'tenant_id')[1] == tenant then count = count + 1 end
  end
  return count
end

local function running_of(queue, tenant)
  local count = 0
  for _, id in ipairs(redis.call('ZRANGE', leased_key(queue), 0, LIST_SCAN - 1)) do
    if read(id, 'tenant_id')[1] == tenant then count = count + 1 end
  end
  return count
end

-- One tenant's part of every queue, who serves it and what those say of themselves, and how many jobs came in each minute.
function op.board(a)
  local queues, processes, came = {}, {}, {}
  for _, queue in ipairs(redis.call('SMEMBERS', KEY.queues)) do
    local owners = redis.call('ZRANGEBYSCORE', KEY.consumers .. queue, NOW_MS, '+inf')
    for _, owner in ipairs(owners) do processes[owner] = redis.call('GET', KEY.process .. owner) or nil end
    queues[#queues + 1] = { queue, waiting_of(queue, a.tenant_id), running_of(queue, a.tenant_id), owners }
  end
  local minute = math.floor(NOW / 60000)
  for i = a.minutes, 1, -1 do
    local from = (minute - i + 1) * 60000
    came[#came + 1] = { from, redis.call('ZCOUNT', KEY.jobs .. a.tenant_id, from, '(' .. from + 60000) }
  end
  return { queues = queues, processes = processes, came = came }
end
