"""The server's limits, as the process and its settings have them."""

import subprocess
import sys

import pytest
from pydantic import ValidationError

from shared.settings import Settings

PROGRAM = """
import resource
from services.api.http.server import allow_open_files
from shared.settings import Settings
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(allow_open_files(Settings(max_connections=1000)).max_connections, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("soft", "hard", "expected"),
    [(300, 5000, "1000 1256"), (300, 700, "444 700"), (2000, 5000, "1000 2000")],
    ids=["raised", "raised as far as it goes", "enough"],
)
def test_there_are_files_for_all_connections_or_fewer_connections(soft, hard, expected):
    program = PROGRAM.format(soft=soft, hard=hard)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == expected


def test_a_trusted_proxy_is_an_address_or_a_network():
    assert [str(one) for one in Settings(trusted_proxies="10.0.0.1, fd00::/8").trusted_networks] == [
        "10.0.0.1/32",
        "fd00::/8",
    ]
    with pytest.raises(ValidationError, match="trusted_proxies"):
        Settings(trusted_proxies="proxy.example")
