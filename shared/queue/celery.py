"""The Celery configuration: a message only wakes a worker; ledger and lease decide what runs."""

import kombu.transport.redis
from celery import Celery

from shared.settings import Settings

# Otherwise a lost connection would return all running messages to the queue, and write them to files.
kombu.transport.redis.Channel.do_restore = False


def make_celery(settings: Settings, name: str) -> Celery:
    """Return a Celery application; docs/decisions/0002 has the measurements behind its configuration."""
    app = Celery(name, broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # Redeliver no unacknowledged messages: the ledger's lease decides what runs again, and when.
            "ack_emulation": False,
            # The ledger decides who is next, so messages have one priority: a worker polls one list a queue, not four.
            "priority_steps": [0],
            "socket_keepalive": True,
            "health_check_interval": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_create_missing_queues=True,
    )
    return app
