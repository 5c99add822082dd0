-- The ledger: every transition of a job is one call of a script, so it is atomic.
-- A script is one operation `op.name` and the definitions that it needs (shared/ledger/script.py): so each definition begins
-- at the start of a line. ARGV[1] holds the operation's arguments as JSON; the reply is JSON. A reply {"refused": code} means
-- that the script wrote nothing. Python puts the tables and limits of shared/contracts/jobs.py, SETTLED_AT_ONCE, SELECTIONS_KEPT, SKETCH_DAYS,
-- MAX_LOST and USAGE_DAYS (settings) before these files, and each key (shared/ledger/keys.py) as a literal in place of its KEY name.

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
  'label', 'priority', 'tokens', 'key_line', 'noted', 'bytes', 'rollout' }
local function facts(id)
  local job = { id = id }
  for i, value in ipairs(read(id, unpack(FACTS))) do job[FACTS[i]] = value or nil end
  return with_stage(job)
end

local function is_final(state) return not LEGAL:find(' ' .. state .. '>', 1, true) end
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

-- Jobs are listed by facts (`facts_of` in calls/lifecycle.py): each fact has an index by creation time. A job's field `noted`
-- holds that time and the facts, so that the job leaves its indexes when it expires.
local function index_key(tenant, fact) return KEY.found .. tenant .. ':' .. fact end

-- Adds a job to the index of each fact; returns the job's new `noted`.
local function note(tenant, id, noted, new)
  local at = noted:match('^[^|]+')
  for _, fact in ipairs(new) do redis.call('ZADD', index_key(tenant, fact), at, id) end
  return table.concat({ noted, unpack(new) }, '|')
end

local function known(value) return value ~= nil and value ~= cjson.null end
