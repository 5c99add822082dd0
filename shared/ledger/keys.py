"""All keys of the ledger in Redis: clients build key names here, and the Lua script gets the same names."""

import re
from enum import StrEnum


class LedgerKey(StrEnum):
    """Names of keys; a name that ends in a colon is a prefix, followed by the key's owner."""

    JOB = "sb:job:"
    """Per job: its fields, as a hash."""
    EVENTS = "sb:events:"
    """Per job: the stream of its events."""
    FEED = "sb:feed"
    """Stream of all jobs' newest events; every API process reads it."""
    JOBS = "sb:jobs:"
    """Per tenant: its jobs by creation time."""
    FOUND = "sb:facts:"
    """Per tenant and fact (label, rejected, tenth of probability, feedback, line of keys, user): its jobs by age."""
    DEAD = "sb:dead:"
    """Per tenant: its dead letters."""
    CONVERSATION = "sb:talk:"
    """Per tenant and conversation of a line of keys: the label last answered (`time|probability|label`); expires."""
    STATES = "sb:states"
    """Number of jobs by state, since the ledger began; by tenant and by line of keys, of those that have not ended."""
    USAGE = "sb:usage:"
    """Per tenant and day (UTC, days since 1970): what each line of keys used of each label; expires."""
    GIVEN_UP = "sb:given_up"
    """Number of jobs that the ledger itself ended, by error code."""
    DEADLINES = "sb:deadlines"
    """Waiting jobs by their deadline."""
    ENDS = "sb:ends"
    """Jobs that a process of an earlier version ended, by the time at which they expire."""
    KEPT = "sb:kept:"
    """Per tenant: what is kept of ended jobs (`job|bytes|end`), by the time at which it is forgotten."""
    HELD = "sb:held"
    """Per tenant: the bytes that its jobs may take, from their creation until they are forgotten."""
    AFTER = "sb:after:"
    """Per job: the jobs that wait for it."""
    BLOCKERS = "sb:blockers:"
    """Per job: the jobs that it waits for."""
    SETTLING = "sb:settling"
    """Ended jobs (`state|id`), by the time of their end, for which other jobs still wait that need not."""

    QUEUES = "sb:queues"
    """Every queue that ever had a job or a consumer."""
    WAITING = "sb:waiting:"
    """Per queue: waiting jobs; +inf for those in a lane, else the time at which one is due for its lane."""
    LANE = "sb:lane:"
    """Per queue, priority, tenant and label: waiting jobs by the time at which they came."""
    TURNS = "sb:turns:"
    """Per queue and priority: tenants with waiting jobs by their marks; per tenant of these, its labels likewise."""
    INTERACTIVE_RUN = "sb:interactive_run"
    """Per queue: the interactive jobs taken since the last batch job while a batch job waited."""
    TAKEN = "sb:taken:"
    """Per call that took a job: that job, for a while."""
    LEASED = "sb:leased:"
    """Per queue: running jobs by the expiry time of their lease."""
    CONSUMERS = "sb:consumers:"
    """Per queue: its consumers by the time at which their presence expires."""
    PROCESS = "sb:process:"
    """Per process: what it reports about itself; expires unless a heartbeat renews it."""
    WRITER = "sb:writer:"
    """Per event writer: the number of its last batch."""
    RECONCILER = "sb:reconciler"
    """Lock that lets one process reconcile; holds that process's name."""

    BATCH = "sb:batch:"
    """Per batch: its record, and the number of its last lease."""
    BATCHES = "sb:batches:"
    """Per tenant: its batches by creation time."""
    OPEN_BATCHES = "sb:open_batches"
    """Batches that have not ended, by the time at which their lease ends."""

    TENANTS = "sb:tenants"
    """Tenants that have or had a current release."""
    RELEASE = "sb:release:"
    """Per tenant: the id of its current release."""
    PROMOTIONS = "sb:promotions:"
    """Per tenant: every move of its release pointer."""
    ADAPTERS = "sb:adapters:"
    """Per tenant: its adapters' manifests by `label@n`, the label with its domain."""
    DATASETS = "sb:datasets:"
    """Per tenant: its data sets' manifests."""
    RELEASES = "sb:releases:"
    """Per tenant: its releases' manifests by id."""
    TEMPLATES = "sb:templates:"
    """Per tenant: the prompt templates that operators added, by name."""
    ALIASES = "sb:aliases:"
    """Per tenant: other names for models, by the name as a URL writes it."""
    RETIREMENTS = "sb:retirements:"
    """Per tenant: the dates from which on adapters may not be named, by `label@n`."""
    FILES = "sb:files:"
    """Per tenant: the records of its files by id."""
    INDEX = "sb:index:"
    """Per kind and tenant: the index by which manifests are looked up."""
    VERSIONS = "sb:versions:"
    """Per tenant: the last version number of each label, with its domain."""
    FEEDBACK = "sb:feedback:"
    """Per tenant: for each job with feedback, the data-set row made from it."""

    FEEDBACK_USERS = "sb:feedback_users:"
    """Per tenant: whose job the row is from (`user's hash|line of keys`), by job, where the job named a user."""
    USER_KEY = "sb:user_key"
    """Key of the hashes of users, where the settings have none."""

    API_KEYS = "sb:keys"
    """Records of API keys by id."""
    IDEMPOTENCY = "sb:idem:"
    """Per tenant and idempotency key: the stored answer to a request that creates no job."""
    PROBE = "sb:probe"
    """What whoever asks whether the ledger takes writes has written; expires."""
    LIMITS = "sb:limits:"
    """Counts of rate limits; the rate-limit library names these keys."""

    def of(self, *owners: str) -> str:
        """Return the key of one owner, as in `LedgerKey.JOB.of("job_1")`."""
        return self + ":".join(owners)

    @property
    def pattern(self) -> str:
        """Return the pattern of all keys with this name, for Redis' access rules and SCAN."""
        return f"{self}*" if self.endswith(":") else str(self)


def with_key_names(script: str) -> str:
    """Return a Lua script with each `KEY.name` replaced by that key as a literal.

    Redis runs a script from its first line at every call: a table of all keys would be built anew each time.
    """
    return re.sub(r"\bKEY\.(\w+)", lambda found: f"'{LedgerKey[found[1].upper()]}'", script)
