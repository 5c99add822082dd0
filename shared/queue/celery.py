"""The Celery profile: a message is only the way to a worker; the ledger holds the truth, the lease is the clock."""

import kombu.transport.redis
from celery import Celery

from shared.settings import Settings

# A cut connection would otherwise put all that is in flight back on the queue while it runs, and write it to files.
kombu.transport.redis.Channel.do_restore = False


def make_celery(settings: Settings, name: str) -> Celery:
    """A Celery application with the profile that the measurements of docs/decisions/0002 asked for."""
    app = Celery(name, broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        broker_transport_options={
            # No second copy of unacknowledged messages: the ledger's lease decides what runs again, and when.
            "ack_emulation": False,
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
