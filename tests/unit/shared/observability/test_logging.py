"""What a log line looks like, from our code and from libraries."""

import json
import subprocess
import sys

SCRIPT = """
import logging, structlog, threading
from shared.observability.logging import configure_logging
configure_logging("api")
with structlog.contextvars.bound_contextvars(job_id="job_1", release="rel_1"):
    structlog.get_logger().info("job_accepted", label="fin.sa")
thread = threading.Thread(target=lambda: structlog.get_logger().warning("from_a_thread"))
thread.start()
thread.join()
logging.getLogger("library").warning("careful %s", "now")
def fail(token="local-s3cret"):
    return 1 / 0
try:
    fail()
except ZeroDivisionError:
    structlog.get_logger().exception("crashed")
structlog.get_logger().debug("not shown")
"""


def test_every_line_is_json_with_service_and_context():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["job_accepted", "from_a_thread", "careful now", "crashed"]
    assert {line["service"] for line in lines} == {"api"}
    assert (lines[0]["job_id"], lines[0]["release"], lines[0]["level"]) == ("job_1", "rel_1", "info")
    assert lines[3]["exception"][0]["exc_type"] == "ZeroDivisionError"
    assert lines[3]["exception"][0]["frames"][-1]["name"] == "fail"
    assert "local-s3cret" not in done.stderr  # locals hold passwords and what users write
    assert done.stdout == ""
