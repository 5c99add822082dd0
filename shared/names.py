"""All names of queues, tasks and channels: services reach each other by these names, never by import."""

from enum import StrEnum

SELECT_QUEUE = "select"
TRAIN_QUEUE = "train"
BASE_GROUP = "base"
"""The group for requests without an adapter; at least one worker must serve it."""
ANY_GROUP = "*"
"""The group of workers that serve, besides their own, each group of a current release that nobody serves."""

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


def queue_on_base(queue: str, base_model: str) -> str:
    """Return the queue of those jobs of a queue that a process with another base model has left to others."""
    return f"{queue}@{base_model}"


def base_of_queue(queue: str) -> tuple[str, str]:
    """Return the plain queue, and the base model's pin; the pin is empty where the queue is a plain one."""
    plain, _, base_model = queue.partition("@")
    return plain, base_model


def task_of(queue: str) -> TaskName:
    """Return the task of the service that consumes a queue."""
    plain, _ = base_of_queue(queue)
    return TaskName[plain.partition(".")[0].upper()]
