"""All names of queues, tasks and channels: services reach each other by these names, never by import."""

from enum import StrEnum

from shared.contracts.jobs import Stage

SELECT_QUEUE = "select"
TRAIN_QUEUE = "train"
BASE_GROUP = "base"
"""The group for requests without an adapter; at least one worker must serve it."""

RELEASE_CHANNEL = "sb:hint:release"
CANCEL_CHANNEL = "sb:hint:cancel"
DEFAULT_TENANT = "default"


class TaskName(StrEnum):
    """Celery task names; the message is always a `JobMessage`."""

    SELECT = "signalbox.select"
    GENERATE = "signalbox.generate"
    TRAIN = "signalbox.train"


def generate_queue(group: str) -> str:
    """Return the queue that workers of `group` consume."""
    return f"generate.{group}"


def start_one(queue: str) -> str:
    """Return what to do where nothing consumes the queue."""
    kind, _, group = queue.partition(".")
    command = f": signalbox worker --group {group}" if group else ": signalbox trainer" if kind == TRAIN_QUEUE else ""
    return f"start one{command}"


def task_of(queue: str) -> TaskName:
    """Return the task of the service that consumes a queue."""
    return TaskName[Stage(queue.partition(".")[0]).name]
