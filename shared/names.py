"""Every queue, task and channel name, in one place: a service talks to another by these, never by import."""

from enum import StrEnum

from shared.contracts.jobs import Stage

SELECT_QUEUE = "select"
TRAIN_QUEUE = "train"
BASE_GROUP = "base"
"""The group that answers what no adapter does; some worker must name it among its groups."""

RELEASE_CHANNEL = "sb:hint:release"
CANCEL_CHANNEL = "sb:hint:cancel"
DEFAULT_TENANT = "default"


class TaskName(StrEnum):
    """Celery task names; the message is always a `JobMessage`."""

    SELECT = "signalbox.select"
    GENERATE = "signalbox.generate"
    TRAIN = "signalbox.train"


def generate_queue(group: str) -> str:
    """The queue that workers of `group` consume."""
    return f"generate.{group}"


def task_of(stage: Stage) -> TaskName:
    """The task that does a stage."""
    return TaskName[stage.name]
