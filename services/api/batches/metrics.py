"""Metrics of the batch worker, at its metrics port."""

from prometheus_client import Counter, Gauge

LINES = Counter("signalbox_batch_lines", "Lines of batches whose answers are stored", ["outcome"])
AT_WORK = Gauge("signalbox_batches_at_work", "Batches that this process has under a lease")
for _outcome in ("completed", "failed"):
    LINES.labels(_outcome)  # a rate needs a zero before the first line
