"""Logs of processes that go on writing while their file is emptied."""

import subprocess
import sys

from services.cli.local.logs import rotate

ENDLESS = "import itertools\nfor n in itertools.count(): print(n, flush=True)"


def numbers(*logs):
    return [int(line) for log in logs for line in log.read_text().splitlines()[:-1] if line]


def test_a_process_goes_on_in_its_emptied_log_and_what_it_wrote_before_stays_once(tmp_path):
    log, old = tmp_path / "worker.log", tmp_path / "worker.log.1"
    with log.open("ab") as out, subprocess.Popen([sys.executable, "-c", ENDLESS], stdout=out) as process:
        for _ in range(3):
            while log.stat().st_size <= 20_000:
                assert process.poll() is None
            rotate([log], 20_000)
        while log.stat().st_size < 1_000:
            assert process.poll() is None
        process.kill()
    before, after = numbers(old), numbers(log)
    assert len(before) > 2_000
    assert before == list(range(before[0], before[0] + len(before)))
    assert after == list(range(after[0], after[0] + len(after)))
    assert after[0] > before[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["worker.log", "worker.log.1"]


def test_a_log_that_is_not_full_is_left_alone_and_one_that_is_missing_is_no_error(tmp_path):
    log = tmp_path / "api.log"
    log.write_text("a line\n")
    rotate([tmp_path / "none.log", log], 20)
    assert log.read_text() == "a line\n"


def test_where_the_copy_fails_the_log_is_emptied_all_the_same(tmp_path):
    log = tmp_path / "api.log"
    log.write_text("x" * 100)
    (tmp_path / "api.log.1").mkdir()
    rotate([log], 20)
    assert log.read_text() == ""
