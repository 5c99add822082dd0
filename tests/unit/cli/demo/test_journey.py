from types import SimpleNamespace

from services.cli.demo.journey import Queue


class Trainings:
    """A client of a system that has these training jobs."""

    def __init__(self, *jobs):
        self._jobs = [SimpleNamespace(id=name, trains=trains, is_final=ended) for name, trains, ended in jobs]
        self.queued = []

    def jobs(self, *, kind, limit):
        return self._jobs

    def estimate(self, **body):
        return body

    def train(self, **body):
        self.queued.append(body)
        return SimpleNamespace(id=f"new_{len(self.queued)}")


def adapter(label):
    return {"kind": "adapter.train", "label": label, "dataset": f"{label}.train"}


def trains(label):
    return {"kind": "adapter.train", "labels": [label]}


def test_what_an_interrupted_demo_left_under_way_is_followed_and_not_queued_again():
    client = Trainings(("job_1", trains("bank.cards"), False))
    queue = Queue(client)
    queue.add("bank.cards", adapter("bank.cards"))
    queue.add("bank.loans", adapter("bank.loans"))
    assert queue.titles == {"job_1": "bank.cards", "new_1": "bank.loans"}
    assert client.queued == queue.estimates == [adapter("bank.loans")]


def test_what_has_ended_is_queued_again():
    client = Trainings(("job_1", trains("bank.cards"), True))
    queue = Queue(client)
    queue.add("bank.cards", adapter("bank.cards"))
    assert queue.titles == {"new_1": "bank.cards"}


def test_a_selector_over_other_labels_is_another_job():
    known = {"kind": "selector.train", "labels": ["a.b", "a.c"]}
    queue = Queue(Trainings(("job_1", known, False)))
    queue.add("selector", {"kind": "selector.train", "labels": {"a.c": "x", "a.b": "y"}})
    queue.add("other", {"kind": "selector.train", "labels": {"a.c": "x"}})
    assert list(queue.titles) == ["job_1", "new_1"]
