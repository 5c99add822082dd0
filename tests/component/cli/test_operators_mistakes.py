"""No command shows a traceback for an operator's mistake: each ends with a sentence that says what to mend.

A traceback is an exception that leaves `main`; no test here is content with one.
"""

import gzip
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import typer

from services.cli.main import app, main

SECRET = "TOPSECRET"
API_AWAY = {"SIGNALBOX_API_URL": "http://127.0.0.1:1", "SIGNALBOX_API_KEY": SECRET}
SERVERS_AWAY = {"SIGNALBOX_REDIS_URL": "redis://127.0.0.1:1/0", "SIGNALBOX_S3_URL": "http://127.0.0.1:1"}
STAYS = {("up",), ("demo",), ("bucket",)}
"""Commands that stay, or wait for a server: only what they refuse at once is tried."""
SERVICES = {("worker",), ("trainer",)}
"""Commands that become a service, with its log: each is tried as a process of its own."""
ARGUMENTS = {
    ("secrets",): ["secrets"],
    ("submit",): ["hello", "--wait"],
    ("run-reference",): ["hello"],
    ("reproduce",): ["table1", "--base", "base", "--data", "rows", "--folder", "out"],
    ("jobs", "show"): ["job_1"],
    ("jobs", "tail"): ["job_1"],
    ("jobs", "cancel"): ["job_1"],
    ("jobs", "replay"): ["job_1"],
    ("adapters", "add"): ["adapter", "--label", "bank.cards"],
    ("adapters", "show"): ["bank.cards@1"],
    ("datasets", "add"): ["rows/bank.cards.jsonl"],
    ("train", "adapter"): ["--label", "bank.cards", "--dataset", "rows", "--wait"],
    ("train", "selector"): ["--label", "bank.cards=rows", "--wait"],
    ("train", "comparison"): ["--label", "bank.cards=rows"],
    ("evaluate", "selector"): ["--data", "rows"],
    ("evaluate", "system"): ["--data", "rows"],
    ("evaluate", "adapter"): ["--label", "bank.cards", "--data", "rows"],
    ("releases", "promote"): ["rel_1"],
    ("releases", "diff"): ["rel_1"],
    ("releases", "edit"): ["--remove", "bank.cards"],
    ("keys", "rotate"): ["key_1"],
    ("keys", "revoke"): ["key_1"],
    ("gpu", "plan"): ["--cards", "4"],
    ("k8s", "group", "add"): ["bank", "--overlay", "rows"],
}
REDIS_URLS = [
    f"redis://:{SECRET}#word@127.0.0.1:1/0",
    f"redis://:{SECRET}/word@127.0.0.1:1/0",
    f"redis://:{SECRET}?word@127.0.0.1:1/0",
    f"redis://:{SECRET}[word@127.0.0.1:1/0",
    f"redis://:{SECRET}@127.0.0.1:port/0",
    f"redis://:{SECRET}@127.0.0.1:99999/0",
    f"redis://:{SECRET}@127.0.0.1:1/{SECRET}",
    f"redis://:{SECRET}@127.0.0.1:1/0?{SECRET.lower()}=1",
    f"rediss://:{SECRET}#word@127.0.0.1:1/0",
    f"sentinel://:{SECRET}@127.0.0.1:26379/mymaster",
    f"redis+sentinel://:{SECRET}@127.0.0.1:26379/mymaster/0",
    f"redis+cluster://:{SECRET}@127.0.0.1:7000/0",
    f"redis://:{SECRET}@127.0.0.1:7000,127.0.0.1:7001/0",
    f"{SECRET}@127.0.0.1:6379",
    "127.0.0.1:6379",
    "",
]


def commands(command=None, path=()):
    command = command or typer.main.get_command(app)
    if not hasattr(command, "commands"):
        yield path
        return
    for name, part in command.commands.items():
        yield from commands(part, (*path, name))


COMMANDS = sorted(commands())
ENDING = [path for path in COMMANDS if path not in STAYS | SERVICES]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with rows and an adapter's folder without an adapter; no setting but the data folder's."""
    for name in [name for name in os.environ if name.startswith("SIGNALBOX_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("SIGNALBOX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    for folder in ("rows", "adapter", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "rows" / "bank.cards.jsonl").write_text('{"input": "a", "output": "b"}\n')
    return tmp_path


@pytest.fixture
def run(place, monkeypatch, capfd):
    """Runs a command; answers its status and what it showed, in which no secret may be."""

    def run(*words, **env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["signalbox", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        shown = " ".join("".join(capfd.readouterr()).split())
        assert SECRET not in shown.upper()
        assert "Traceback" not in shown
        return int(end.value.code or 0), shown

    return run


@pytest.fixture
def stranger():
    """A server that is no Signalbox; answers its address, and the list of what it answers with."""
    bodies = [b"{}"]

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies[0])

        do_GET = do_POST = do_DELETE = _answer  # noqa: N815

        def log_message(self, *_):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()


def test_every_command_is_tried():
    assert {path for path in ARGUMENTS if path not in COMMANDS} == set()
    assert len(COMMANDS) > 30


WRONG_ADDRESSES = [
    *(
        {"SIGNALBOX_API_URL": url}
        for url in ("localhost:8000", "http://h:port", "http://[x", f"http://u:{SECRET}@h:port", "ftp://h", "http://")
    ),
    *(API_AWAY | {"SIGNALBOX_API_KEY": key} for key in (f"{SECRET}\nx", f"{SECRET}\u00fc")),
]


def tried(ones, others):
    """Every pair; of each first member all but one are slow, another one from member to member."""
    return [
        pytest.param(
            one, other, marks=[] if place == number % len(others) else [pytest.mark.slow], id=f"{number}-{place}"
        )
        for number, one in enumerate(ones)
        for place, other in enumerate(others)
    ]


@pytest.mark.parametrize("path", ENDING, ids=" ".join)
def test_a_command_without_a_system_ends_with_a_sentence(run, path):
    run(*path, *ARGUMENTS.get(path, []), **SERVERS_AWAY)


@pytest.mark.parametrize(("path", "env"), tried(ENDING, WRONG_ADDRESSES))
def test_a_command_with_a_wrong_address_or_key_ends_with_a_sentence(run, path, env):
    run(*path, *ARGUMENTS.get(path, []), **env)


@pytest.mark.parametrize("path", [("submit",), ("jobs", "list"), ("train", "adapter")], ids=" ".join)
def test_an_api_that_is_away_is_said_to_be(run, path):
    status, shown = run(*path, *ARGUMENTS.get(path, []), **API_AWAY)
    assert (status, "signalbox up" in shown) == (1, True)


@pytest.mark.parametrize("body", ["{}", "null", "<html>", '{"items": [3]}', '{"items": [{}]}'])
def test_a_command_that_asks_a_stranger_ends_with_a_sentence(run, stranger, body):
    url, bodies = stranger
    bodies[0] = body.encode()
    for path in ENDING:
        run(*path, *ARGUMENTS.get(path, []), **SERVERS_AWAY, SIGNALBOX_API_URL=url, SIGNALBOX_API_KEY="k")


@pytest.mark.parametrize("name", ["SIGNALBOX_REDIS_URL", "SIGNALBOX_BROKER_URL"])
@pytest.mark.parametrize(
    ("url", "path"),
    tried(REDIS_URLS, sorted(STAYS | {("doctor",), ("down",), ("keys", "list"), ("releases", "restore")})),
)
def test_a_redis_url_that_is_wrong_is_one_line_without_its_password(run, path, url, name):
    status, shown = run(*path, *ARGUMENTS.get(path, []), **{name: url})
    assert status == 1
    assert shown.startswith(f"settings_invalid: {name}: ")
    assert "redis://" in shown or "not supported" in shown or "option" in shown


def test_an_unencoded_sign_in_a_password_is_said_to_need_percent_encoding(run):
    for url in REDIS_URLS[:4]:
        assert "percent-encode" in run("keys", "list", SIGNALBOX_REDIS_URL=url)[1]


def test_sentinel_and_cluster_are_refused_by_name(run):
    found = [run("keys", "list", SIGNALBOX_REDIS_URL=url)[1] for url in REDIS_URLS]
    assert sum("Redis Sentinel is not supported" in shown for shown in found) == 2
    assert sum("Redis Cluster is not supported" in shown for shown in found) == 2


WRONG_SETTINGS = {
    "SIGNALBOX_WORKER_SLOTS": "many",
    "SIGNALBOX_API_PORT": "99999",
    "SIGNALBOX_ENGINE": "torch",
    "SIGNALBOX_DTYPE": "float8",
    "SIGNALBOX_LEASE_SECONDS": "-1",
    "SIGNALBOX_REDIS_CA_FILE": "/nope",
    "SIGNALBOX_S3_CA_FILE": "/nope",
}


@pytest.mark.parametrize("name", WRONG_SETTINGS)
def test_a_wrong_setting_is_named_by_whatever_reads_it(run, name):
    for path in STAYS | {("doctor",), ("down",), ("jobs", "list"), ("keys", "list")}:
        status, shown = run(*path, *ARGUMENTS.get(path, []), **{name: WRONG_SETTINGS[name]})
        assert (status, shown.startswith("settings_invalid: "), name in shown) == (1, True, True)


BROKEN_FOLDERS = {
    "a file": lambda data: data.rmdir() or data.write_text(""),
    "no folder at all": lambda data: data.rmdir(),
    "half a state": lambda data: (data / "up.json").write_text('{"api_url": '),
    "another's state": lambda data: (data / "up.json").write_text("[1, 2]"),
    "no text": lambda data: (data / "up.json").write_bytes(b"\xff\xfe"),
    "a folder in its place": lambda data: (data / "up.json").mkdir(),
}


@pytest.mark.parametrize(
    ("path", "folder"), tried([path for path in ENDING if path != ("secrets",)], [*BROKEN_FOLDERS])
)
def test_a_data_folder_that_is_broken_ends_with_a_sentence(run, place, path, folder):
    BROKEN_FOLDERS[folder](place / "data")
    run(*path, *ARGUMENTS.get(path, []))


NOT_UTF_8 = os.fsdecode(b"\xff")
ENVIRONMENTS = [
    {"HTTP_PROXY": "nonsense://h"},
    {"ALL_PROXY": "http://h:port"},
    {"ALL_PROXY": "socks5://h:1"},
    {"SSL_CERT_FILE": "/nope"},
    {"SIGNALBOX_API_URL": NOT_UTF_8},
    {"SIGNALBOX_API_KEY": NOT_UTF_8},
]


@pytest.mark.parametrize("env", ENVIRONMENTS, ids=str)
def test_an_environment_that_cannot_be_used_ends_with_a_sentence(run, env):
    status, shown = run("jobs", "list", **API_AWAY | env)
    assert (status, ": " in shown) == (1, True)


FILES = {
    "empty.jsonl": b"",
    "cut.jsonl.gz": gzip.compress(b'{"input": "a"}\n')[:-9],
    "plain.jsonl.gz": b'{"input": "a"}\n',
    "bytes.jsonl": b"\xff\xfe\x00",
    "nested.json": b"[" * 100_000,
    "list.json": b"[1, 2]",
    "text.json": b'"x"',
    "half.json": b'{"epochs": ',
    "latin.json": '{"instruction": "ü"}'.encode("latin-1"),
}
MISTAKES = [
    ("adapters", "add", "adapter", "--label", "bank.cards"),
    ("adapters", "add", "nowhere", "--label", "bank.cards"),
    ("adapters", "add", "empty.jsonl", "--label", "bank.cards"),
    ("adapters", "add", "adapter"),
    ("datasets", "add", "nowhere.jsonl"),
    ("datasets", "add", "rows"),
    ("datasets", "add", "cut.jsonl.gz"),
    ("datasets", "add", "plain.jsonl.gz"),
    *(
        (*command, "--settings", file)
        for command in [
            ("train", "adapter", "--label", "a.b", "--dataset", "d"),
            ("train", "selector", "--label", "a.b=d"),
        ]
        for file in ("nested.json", "list.json", "text.json", "half.json", "latin.json", "rows", "nowhere.json")
    ),
    ("train", "selector", "--label", "bank.cards"),
    ("train", "comparison", "--label", "bank.cards"),
    ("submit", NOT_UTF_8),
    ("submit", "hello", "--label", NOT_UTF_8),
    ("submit",),
    ("submit", "hello", "--max-new-tokens", "0"),
    ("jobs", "list", "--limit", "0"),
    ("jobs", "show", NOT_UTF_8),
    ("jobs", "show", "../keys"),
    ("jobs", "show", "a\nb"),
    ("jobs", "show", ""),
    ("jobs", "nothing"),
    ("adapters", "show", "\x00"),
    ("releases", "promote", NOT_UTF_8),
    ("keys", "create", "--scope", "everything"),
    ("keys", "create", "--tenant", "A B"),
    ("keys", "create", "--expires-days", "1e300"),
    ("keys", "create", "--expires-days", "nan"),
    ("keys", "create", "--expires-days", "inf"),
    ("keys", "rotate", "key_1", "--overlap-hours", "1e300"),
    ("evaluate", "selector", "--data", "empty.jsonl"),
    ("evaluate", "selector", "--data", "bytes.jsonl"),
    ("evaluate", "selector", "--data", "cut.jsonl.gz"),
    ("evaluate", "selector", "--data", "plain.jsonl.gz"),
    ("evaluate", "selector", "--data", "nowhere"),
    ("evaluate", "selector", "--data", "rows", "--confusion", "out.json"),
    ("evaluate", "system", "--data", "empty.jsonl"),
    ("evaluate", "adapter", "--label", "x", "--data", "rows"),
    ("k8s", "group", "add", "Bank", "--overlay", "rows"),
    ("k8s", "group", "add", "bank", "--overlay", "rows"),
    ("k8s", "group", "add", "bank", "--overlay", "empty.jsonl"),
    ("secrets", "empty.jsonl"),
    ("secrets", "empty.jsonl/below"),
    ("bucket", "--patience", "-1"),
    ("bucket", "--patience", "0"),
]


@pytest.mark.parametrize("words", MISTAKES, ids=lambda words: " ".join(words).encode(errors="replace").decode())
def test_a_mistake_ends_with_a_sentence_and_a_status(run, place, words):
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    status, shown = run(*words, **API_AWAY, **SERVERS_AWAY)
    assert status in (1, 2)
    assert shown


def process(place, *command, **env):
    """Runs a process; answers its status and what it showed."""
    base = {"PATH": "/usr/bin:/bin", "SIGNALBOX_DATA_DIR": str(place), **SERVERS_AWAY}
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env=base | env, check=False)
    assert "Traceback" not in done.stdout + done.stderr
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("service", ["selector", "adapter_worker", "trainer", "api"])
def test_a_service_with_a_wrong_redis_url_logs_one_line_without_its_password(place, service):
    status, shown = process(place, "-m", f"services.{service}", SIGNALBOX_BROKER_URL=REDIS_URLS[0])
    (line,) = map(json.loads, shown.splitlines())
    assert (status, line["code"], line["service"]) == (1, "settings_invalid", service)
    assert "percent-encode" in line["error"]


COMMAND_LINE = ("-c", "import sys; from services.cli.main import main; main()")


@pytest.mark.parametrize("group", ["", "Bank", "bank,,x"])
def test_a_worker_of_no_group_is_refused(place, group):
    status, shown = process(place, *COMMAND_LINE, "worker", "--group", group)
    assert (status, "name_malformed" in shown) == (1, True)


def test_a_trainer_with_a_wrong_setting_ends_with_a_sentence(place):
    status, shown = process(place, *COMMAND_LINE, "trainer", SIGNALBOX_REDIS_URL=REDIS_URLS[0])
    assert (status, "percent-encode" in shown) == (1, True)
