"""How a worker or trainer that a person starts joins the system that runs in the data folder."""

import contextlib
import os
from collections.abc import Iterator

from services.cli.local.folder_lock import FILE, make_private
from services.cli.local.run_state import RunState
from shared.errors import Unavailable
from shared.settings import Settings


@contextlib.contextmanager
def joined(account: str) -> Iterator[None]:
    """Run with the settings of that system, as one of its accounts, and end with it: its lock's file is held open.

    Where the environment names a ledger it names the system, too. Raises `Unavailable` where neither is there.
    """
    settings = Settings()
    if "redis_url" in settings.model_fields_set:
        yield
        return
    environment = RunState(settings.data_dir).read().get("joining", {}).get(account)
    if environment is None:
        raise Unavailable(
            "nothing_runs", f"no system runs in {settings.data_dir}: start `signalbox up`, or set SIGNALBOX_REDIS_URL"
        )
    for name, value in environment.items():
        os.environ.setdefault(name, value)
    make_private(settings.data_dir)
    with (settings.data_dir / FILE).open():
        yield
