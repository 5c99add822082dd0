"""23: each line of a batch is answered once, whoever is killed meanwhile."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from signalbox import SignalboxError

from tests.chaos.faults import Faults, kill_a_busy_worker, kill_the_api
from tests.chaos.material import text_for
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, Plan, World, until

T = TypeVar("T")
_AGAIN_SECONDS = 0.3


def plan(size: Size) -> Plan:
    """Workers on the echo engine; all serve all groups."""
    return Plan(
        workers=("bank,travel,base",) * size.workers,
        lease_seconds=size.lease_seconds,
        max_lost_leases=size.max_lost_leases,
    )


def prove(world: World, size: Size) -> Outcome:
    """Kill workers, the API and the process that runs batches while a batch is at work."""
    rows = "".join(f"{json.dumps(_line(number, size.words))}\n" for number in range(size.lines))
    file = _asked(lambda: world.client.upload_file(rows.encode(), "rows.jsonl", idempotency_key=f"file-{id(rows)}"))
    batch_id = _asked(lambda: world.client.create_batch(file.id, idempotency_key=f"batch-{id(rows)}")).id
    acts = {
        "worker_kills": lambda: kill_a_busy_worker(world) is not None,
        "api_kills": lambda: kill_the_api(world),
        "batch_worker_kills": lambda: world.kill(world.child("api-worker")),
    }
    counts = {name: getattr(size, name) for name in acts}
    with Faults(acts, counts, size.seconds, world.random) as faults:
        faults.join(size.seconds * 2)
        was_at_work = not _asked(lambda: world.client.batch(batch_id)).is_final
        batch = until(lambda: _ended(world, batch_id), size.patience_seconds)
    told = _told(world, batch) if batch else Counter()
    wanted = {f"row-{number}" for number in range(size.lines)}
    outcome = Outcome({**faults.injected, "lines": size.lines})
    said = f"{batch.status}, {batch.request_counts}" if batch else "not ended"
    outcome.at_most("batch_kill_lost", len(wanted - set(told)), 0, spread=said)
    outcome.at_most("batch_kill_doubled", sum(count - 1 for count in told.values()), 0)
    outcome.at_most("batch_lines_of_nobody", len(set(told) - wanted), 0)
    outcome.at_most("batch_lines_failed", batch.request_counts["failed"] if batch else size.lines, 0)
    outcome.at_least("batch_kills", sum(faults.injected.values()), sum(counts.values()))
    outcome.at_least("batch_was_at_work_at_the_last_kill", int(was_at_work), 1)
    return outcome


def _line(number: int, words: int) -> dict[str, object]:
    label = LABELS[number % len(LABELS)]
    messages = [{"role": "user", "content": text_for(label, number, words)}]
    body = {"model": label if number % 3 else "auto", "messages": messages, "max_tokens": words}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def _told(world: World, batch: object) -> Counter[str]:
    """How often each line stands in the output file or the error file."""
    ids = [batch.output_file_id, batch.error_file_id]  # type: ignore[attr-defined]
    texts = [_asked(lambda one=one: world.client.file_content(one)) for one in ids if one]  # type: ignore[misc]
    return Counter(json.loads(line)["custom_id"] for text in texts for line in text.splitlines())


def _ended(world: World, batch_id: str) -> object | None:
    batch = _asked(lambda: world.client.batch(batch_id))
    return batch if batch.is_final else None


def _asked(ask: Callable[[], T]) -> T:
    """The answer of an API that may be away for a moment."""
    for _ in range(200):
        try:
            return ask()
        except SignalboxError:
            threading.Event().wait(_AGAIN_SECONDS)
    return ask()


PROMISE = Promise(23, "A batch's lines are answered once", plan, prove)
