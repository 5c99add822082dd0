"""Every key of the ledger's Redis, in one place: clients build names here, and the script is given the same table."""

from enum import StrEnum


class LedgerKey(StrEnum):
    """Names of keys; one that ends in a colon is followed by what it belongs to."""

    JOB = "sb:job:"
    """Job id: the job's hash."""
    EVENTS = "sb:events:"
    """Job id: the stream of the job's events."""
    FEED = "sb:feed"
    """Stream of all jobs' events, cut to its newest ones; every API process reads it."""
    JOBS = "sb:jobs:"
    """Tenant: its jobs by the time of their creation."""
    DEAD = "sb:dead:"
    """Tenant: its dead letters."""
    STATES = "sb:states"
    """Jobs by state since the ledger began."""
    GIVEN_UP = "sb:given_up"
    """Jobs that the ledger itself ended, by the error's code."""
    DEADLINES = "sb:deadlines"
    """Waiting jobs by their deadline."""
    ENDS = "sb:ends"
    """Ended jobs by the time at which they are forgotten."""
    AFTER = "sb:after:"
    """Job id: jobs that wait for it."""
    BLOCKERS = "sb:blockers:"
    """Job id: jobs that it waits for."""

    QUEUES = "sb:queues"
    """Every queue that had a job or a consumer."""
    WAITING = "sb:waiting:"
    """Queue: waiting jobs by the time at which they were sent last."""
    LEASED = "sb:leased:"
    """Queue: running jobs by the time at which their lease runs out."""
    CONSUMERS = "sb:consumers:"
    """Queue: its consumers by the time until which they are believed to live."""
    PROCESS = "sb:process:"
    """Owner: what a process says of itself; gone with its last heartbeat's time."""
    WRITER = "sb:writer:"
    """Writer: the number of its last batch of events."""
    RECONCILER = "sb:reconciler"
    """Owner of the lock that lets one process reconcile."""

    TENANTS = "sb:tenants"
    """Tenants that have or had a current release."""
    RELEASE = "sb:release:"
    """Tenant: id of its current release."""
    PROMOTIONS = "sb:promotions:"
    """Tenant: every move of its release pointer."""
    ADAPTERS = "sb:adapters:"
    """Tenant: its adapters' manifests by `label@n`."""
    DATASETS = "sb:datasets:"
    """Tenant: its data sets' manifests."""
    RELEASES = "sb:releases:"
    """Tenant: its releases' manifests by id."""
    INDEX = "sb:index:"
    """Kind and tenant: by what a manifest can be looked up."""
    VERSIONS = "sb:versions:"
    """Tenant: the last version number of each label."""
    FEEDBACK = "sb:feedback:"
    """Tenant: the data-set row that each judged job makes."""
    BASE_MODEL = "sb:base_model"
    """Id of the base model that was served last."""

    API_KEYS = "sb:keys"
    """API keys' records by id."""
    IDEMPOTENCY = "sb:idem:"
    """Tenant and key: the answer to a request that changes something other than jobs."""
    LIMITS = "sb:limits:"
    """Counts of rate limits, named by the library that keeps them."""

    def of(self, *owners: str) -> str:
        """The key of one owner, `LedgerKey.JOB.of("job_1")`."""
        return self + ":".join(owners)

    @property
    def pattern(self) -> str:
        """What matches every key of this name, as Redis' access rules and SCAN take it."""
        return f"{self}*" if self.endswith(":") else str(self)


def lua_table() -> str:
    """The names as the Lua table `KEY`."""
    names = ", ".join(f"{key.name.lower()} = '{key}'" for key in LedgerKey)
    return f"local KEY = {{ {names} }}\n"
