-- The ledger: every transition of a job is one call of this script, so it is atomic.
-- ARGV[1] names the operation, ARGV[2] holds its arguments as JSON; the reply is JSON. A reply {"refused": code} means
-- that the script wrote nothing. Python puts LEGAL, STAGE and DEFAULT_NEW_TOKENS (shared/contracts/jobs.py) and MAX_LOST
-- (settings) before this file, and each key (shared/ledger/keys.py) as a literal in place of its KEY name.

local time = redis.call('TIME')
local NOW = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local FEED_LENGTH = 20000
local EVENTS_LENGTH = 10000  -- of one job: more than an answer has tokens; a long training's first progress goes
local LIST_SCAN = 2000  -- one call scans at most this many jobs: a selective filter gives short pages, and blocks no other client

local function job_key(id) return KEY.job .. id end
local function waiting_key(queue) return KEY.waiting .. queue end
local function leased_key(queue) return KEY.leased .. queue end
local function ms(value) return string.format('%.3f', value) end
local NOW_MS = ms(NOW)
local function read(id, ...) return redis.call('HMGET', job_key(id), ...) end
local function refuse(code, more) more = more or {}; more.refused = code; return more end

-- Jobs of an earlier version have no `stage`; in that version the queue determines it.
local function with_stage(job)
  if job.state and not job.stage then
    job.stage = (job.queue == 'select' or job.queue == 'train') and job.queue or 'generate'
  end
  return job
end

local function load(id)
  local flat = redis.call('HGETALL', job_key(id))
  local job = { id = id }
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return with_stage(job)
end

-- The fields that transitions depend on, read by one command: each call from Lua costs as much as the command that it runs.
local FACTS = { 'state', 'stage', 'attempt', 'queue', 'tenant_id', 'ttl', 'cancel_requested', 'deadline_ms', 'lost_leases', 'ended_by', 'waits',
  'label', 'priority', 'tokens', 'bytes' }
local function facts(id)
  local job = { id = id }
  for i, value in ipairs(read(id, unpack(FACTS))) do job[FACTS[i]] = value or nil end
  return with_stage(job)
end

local function is_final(state) return next(LEGAL[state]) == nil end
local function is_held(state) return state == 'selecting' or state == 'running' end

-- Whether `attempt` still owns the job and may write.
local function is_owner(job, attempt) return job.state and is_held(job.state) and tonumber(job.attempt) == attempt end

-- The facts of the job if `attempt` owns it, else nil.
local function owned(id, attempt)
  local job = facts(id)
  return is_owner(job, attempt) and job or nil
end

-- A waiting job and the queue to which the client sends a message for it.
local function to_send(job) return { job.id, job.queue } end

-- Append an event to the job's own stream (for replay) and to the feed that every API process reads.
local function emit(id, kind, data)
  local event = redis.call('XADD', KEY.events .. id, 'MAXLEN', '~', EVENTS_LENGTH, '*', 'type', kind, 'data', data)
  redis.call('XADD', KEY.feed, 'MAXLEN', '~', FEED_LENGTH, '*', 'job', id, 'event', event, 'type', kind, 'data', data)
end

-- Jobs are listed by facts: each has an index by creation time, which ends after the last of its jobs.
local FOUND_SECONDS = 172800  -- longer than a job with a deadline lives before its `ttl` begins
local function note(tenant, id, at, ttl, fact)
  local key = KEY.found .. tenant .. ':' .. fact
  redis.call('ZADD', key, at, id)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', ms(NOW - (ttl + FOUND_SECONDS) * 1000))
  redis.call('EXPIRE', key, ttl + FOUND_SECONDS)
end

local function tenth(probability) return 'tenth:' .. math.min(9, math.floor(probability * 10)) end

local function known(value) return value ~= nil and value ~= cjson.null end

-- Notes what the selector found; `job` is a job's facts.
local function note_selection(job, selection)
  local at = redis.call('ZSCORE', KEY.jobs .. job.tenant_id, job.id)
  if not at then return end
  local found, ttl = cjson.decode(selection), tonumber(job.ttl)
  if known(found.label) then note(job.tenant_id, job.id, at, ttl, 'label:' .. found.label) end
  if found.rejected == true then note(job.tenant_id, job.id, at, ttl, 'rejected') end
  if known(found.probability) then note(job.tenant_id, job.id, at, ttl, tenth(found.probability)) end
end

local op = {}
