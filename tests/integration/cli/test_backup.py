"""Backup and restore of the embedded system, with real servers that are written to meanwhile and then killed."""

import contextlib
import io
import os
import shutil
import tarfile
import threading

import pytest
import redis

from services.cli.local.backup import SUMS, _add_objects, _Archive, backup
from services.cli.local.embedded import copy_ledger, running_store, upkeep
from services.cli.local.folder_lock import lock_folder
from services.cli.local.restoring import restore
from services.cli.local.run_state import RunState
from services.cli.local.servers import free_ports, redis_server, s3_server
from shared.contracts.jobs import JobKind, NewJob, Stage, new_job_id
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, Verdict
from shared.contracts.rows import Row, dataset_id, dump_rows
from shared.errors import Conflict, Invalid, SignalboxError
from shared.ledger import Ledger, calls
from shared.registry import Registry
from shared.registry.store import FolderStore, S3Store
from shared.security import api_keys
from shared.settings import Settings
from tests.support.adapter_samples import lora_tensors, safetensors


@pytest.fixture(scope="module", autouse=True)
def same_umask_after():
    before = os.umask(0o022)
    yield
    os.umask(before)


class Running:
    """The servers of a data folder, as `up` starts them, without services."""

    def __init__(self, data_dir):
        self.lock = lock_folder(data_dir)
        ledger_port, s3_port = free_ports(2)
        self.settings = Settings(
            data_dir=data_dir,
            redis_url=f"redis://127.0.0.1:{ledger_port}/0",
            s3_url=f"http://127.0.0.1:{s3_port}",
            s3_secret_key="secret",
        )
        self.servers = [
            redis_server("ledger", ledger_port, data_dir / "ledger", fsync="always"),
            s3_server(self.settings, data_dir / "s3"),
        ]
        for server in self.servers:
            server.start()
        known = {"redis_url": self.settings.redis_url, "s3_url": self.settings.s3_url, "s3_secret_key": "secret"}
        RunState(data_dir).write(**known)
        self.ledger = Ledger(self.settings.redis_url)
        self.registry = Registry(self.ledger, S3Store(self.settings), data_dir / "cache")

    def kill(self):
        self.ledger.close()
        for server in self.servers:
            server.kill()
        self.lock.close()


class Writer(threading.Thread):
    """Adds data sets for as long as it is let, and notes what was acknowledged."""

    def __init__(self, registry):
        super().__init__(daemon=True)
        self.acknowledged = []
        self.enough, self._over = threading.Event(), threading.Event()
        self._registry = registry

    def run(self):
        while not self._over.is_set() and len(self.acknowledged) < 40:
            added = self._registry.datasets.add(
                "t", f"n{len(self.acknowledged)}", [Row(input=f"{len(self.acknowledged)}")]
            )
            self.acknowledged.append(added.id)
            if len(self.acknowledged) > 5:
                self.enough.set()

    def end(self):
        self._over.set()
        self.join(30)


def fill(running, tmp_path):
    """An adapter, a live release of it, a job and a key, and a data set that somebody alters."""
    registry, ledger = running.registry, running.ledger
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(safetensors(lora_tensors()))
    manifest = AdapterManifest(tenant_id="t", label="fin.sa", version=0, digest="", base_model="b")
    adapter = registry.adapters.add(tmp_path, manifest)
    entry = ReleaseLabel(adapter=adapter.digest, ref=adapter.ref, group="fin", template="chatml", instruction="")
    release = Release(tenant_id="t", base_model="b", labels={"fin.sa": entry}, verdict=Verdict(passed=True, reasons=()))
    registry.releases.add(release)
    registry.releases.promote("t", release.id, force=True)
    job = NewJob(
        id=new_job_id("t"),
        tenant_id="t",
        kind=JobKind.GENERATE,
        stage=Stage.GENERATE,
        queue="generate.fin",
        body={"input": "x"},
    )
    ledger.do(calls.create(job, 60))
    _, token = api_keys.create(ledger.redis, frozenset({api_keys.Scope.SUBMIT}))
    altered = registry.datasets.add("t", "altered", [Row(input="good")])
    key = f"tenants/t/datasets/{altered.id}.jsonl"
    registry.store.put(key, b'{"input": "poison"}\n')
    return adapter, release, job, token, key


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A backup of a system that was written to meanwhile, and what it has to hold."""
    folder = tmp_path_factory.mktemp("made")
    running = Running(folder / "data")
    try:
        (folder / "adapter").mkdir()
        filled = fill(running, folder / "adapter")
        (folder / "data" / "key").write_text("sbk_local")
        writer = Writer(running.registry)
        writer.start()
        writer.enough.wait(30)
        before = list(writer.acknowledged)
        done = backup(Settings(data_dir=folder / "data"), folder / "backup.tar")
        writer.end()
        with pytest.raises(Conflict, match="is there already"):
            backup(Settings(data_dir=folder / "data"), folder / "backup.tar")
        with pytest.raises(Conflict, match="run `signalbox down`"):
            restore(Settings(data_dir=folder / "data"), folder / "backup.tar")
    finally:
        running.kill()
    return folder / "backup.tar", done, before, filled


def test_a_backup_under_writes_is_whole_and_a_restore_brings_back_all_that_was_acknowledged(made, tmp_path):
    file, done, before, (adapter, release, job, token, altered) = made
    assert file.stat().st_mode & 0o777 == 0o600
    assert done.corrupt == [altered]
    assert sorted(path.name for path in file.parent.iterdir()) == ["adapter", "backup.tar", "data"]

    restored = restore(Settings(data_dir=tmp_path / "data"), file)

    assert restored.objects == done.objects
    assert (tmp_path / "data" / "key").read_text() == "sbk_local"
    assert (tmp_path / "data" / "VERSION").read_text() == "1\n"
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"s3", "ledger", "key", "VERSION", "up.lock"}
    again = Running(tmp_path / "data")
    try:
        registry = again.registry
        held = {one.id for one in registry.datasets.list_all("t") if one.name != "altered"}
        assert set(before) <= held
        for dataset in held:  # no record without its rows
            assert registry.datasets.rows("t", dataset)
        with pytest.raises(SignalboxError):
            registry.datasets.rows("t", "altered")
        assert registry.weights.fetch(adapter.digest).is_dir()
        assert registry.releases.current_id("t") == release.id
        assert registry.releases.get("t", release.id) == release
        assert again.ledger.do(calls.get(job.id)).body == {"input": "x"}
        assert api_keys.authenticate(again.ledger.redis, token)
    finally:
        again.kill()


def rewritten(file, into, change):
    """The archive with its members (name to bytes) changed."""
    with tarfile.open(file) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    change(members)
    with tarfile.open(into, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return into


def first(members, part):
    return next(name for name in members if part in name)


def damage_ledger(members):
    name = first(members, ".incr.aof")
    members[name] = members[name][:-1] + b"?"


def drop_weights(members):
    del members[first(members, "adapter_model")]


def add_unlisted(members):
    members["store/tenants/t/releases/rel_0.json"] = b"{}"


def replace_rows_and_list(members):
    """As somebody would who can write the file: list and content agree, but not with the name."""
    import hashlib

    name = first(members, "/datasets/ds_")
    old, members[name] = members[name], b'{"input": "poison"}\n'
    old, new = (hashlib.sha256(content).hexdigest() for content in (old, members[name]))
    members[SUMS] = members[SUMS].replace(f"{old}  {name}\n".encode(), f"{new}  {name}\n".encode())


def newer(members):
    members["VERSION"] = b"2\n"


def without_list(members):
    del members[SUMS]


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        (damage_ledger, "incr.aof does not match its digest"),
        (drop_weights, "adapter_model.safetensors is missing or not listed"),
        (add_unlisted, "rel_0.json is missing or not listed"),
        (replace_rows_and_list, "is not what its name says"),
        (without_list, "its list is missing"),
        (newer, "is of a newer version"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_not_whole_is_refused_and_leaves_nothing(made, tmp_path, change, saying):
    file = rewritten(made[0], tmp_path / "other.tar", change)
    with pytest.raises((Invalid, Conflict), match=saying):
        restore(Settings(data_dir=tmp_path / "data"), file)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"VERSION", "up.lock"}


@pytest.mark.parametrize("left", [0, 0.02, 0.5, 0.8, 0.9999])
def test_a_file_that_was_cut_is_refused(made, tmp_path, left):
    # Zeros follow the last member: they are a fifth of a small backup, which is whole without them.
    with tarfile.open(made[0]) as archive:
        last = archive.getmembers()[-1]
    (tmp_path / "cut.tar").write_bytes(made[0].read_bytes()[: int(left * (last.offset_data + last.size))])
    with pytest.raises(Invalid, match="is no whole backup"):
        restore(Settings(data_dir=tmp_path / "data"), tmp_path / "cut.tar")


def test_a_folder_that_holds_a_system_is_left_alone(made, tmp_path):
    (tmp_path / "ledger").mkdir()
    with pytest.raises(Conflict, match=r"holds a system \(ledger\)"):
        restore(Settings(data_dir=tmp_path), made[0])


def test_servers_of_ones_own_are_backed_up_by_their_own_means(tmp_path):
    own = Settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    for work in (backup, restore):
        with pytest.raises(Conflict, match="SIGNALBOX_REDIS_URL names a server of your own"):
            work(own, tmp_path / "file")


def test_a_backup_waits_for_nobody_who_deletes_garbage(tmp_path):
    (tmp_path / "ledger" / "appendonlydir").mkdir(parents=True)
    (tmp_path / "up.lock").touch()
    with upkeep(tmp_path), pytest.raises(Conflict, match="try again when it is done"):
        backup(Settings(data_dir=tmp_path), tmp_path / "file")


def test_a_folder_without_a_ledger_gives_no_backup_and_no_file(tmp_path):
    with pytest.raises(SignalboxError, match="did `signalbox up` run here"):
        backup(Settings(data_dir=tmp_path / "data"), tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_the_files_of_a_ledger_that_rewrites_them_are_copied_as_of_one_moment(tmp_path):
    (port,) = free_ports(1)
    server = redis_server("ledger", port, tmp_path / "data" / "ledger", fsync="always")
    server.start()
    client = Ledger(f"redis://127.0.0.1:{port}/0").redis
    over = threading.Event()

    def write():
        while not over.is_set():
            client.incr("count")

    writing = threading.Thread(target=write)
    writing.start()
    try:
        for number in range(6):
            with contextlib.suppress(redis.ResponseError):  # one is under way
                client.bgrewriteaof()
            acknowledged = int(client.get("count") or 0)
            copy_ledger(tmp_path / "data", tmp_path / f"copy-{number}" / "appendonlydir")
            assert count_in(tmp_path / f"copy-{number}") >= acknowledged
    finally:
        over.set()
        writing.join()
        server.kill()


def count_in(folder):
    (port,) = free_ports(1)
    server = redis_server("ledger", port, folder, fsync="always")
    server.start()
    try:
        return int(Ledger(f"redis://127.0.0.1:{port}/0").redis.get("count") or 0)
    finally:
        server.kill()


@pytest.mark.slow
def test_a_system_that_does_not_run_is_backed_up_too(made, tmp_path):
    restore(Settings(data_dir=tmp_path / "data"), made[0])
    done = backup(Settings(data_dir=tmp_path / "data"), tmp_path / "again.tar")
    assert (done.objects, done.corrupt) == (made[1].objects, [])
    shutil.rmtree(tmp_path / "data")
    assert restore(Settings(data_dir=tmp_path / "data"), tmp_path / "again.tar").objects == done.objects
    with lock_folder(tmp_path / "data") as lock, running_store(Settings(), tmp_path / "data" / "s3", lock) as store:
        assert f"tenants/t/datasets/{dataset_id(dump_rows([Row(input='0')]))}.jsonl" in store.keys("tenants/")


class Forgetful(FolderStore):
    """A store of which an object is deleted just after it was listed."""

    def keys(self, prefix):
        found = super().keys(prefix)
        self.delete(found[0])
        return found


def test_what_is_deleted_since_it_was_listed_is_left_out(tmp_path):
    store = Forgetful(tmp_path / "store")
    for name in ("a", "b"):
        store.put(f"tenants/default/traffic/{name}.jsonl", b"{}")
    with _Archive.replacing(tmp_path / "backup.tar") as archive:
        assert _add_objects(archive, store, tmp_path) == []
    with tarfile.open(tmp_path / "backup.tar") as tar:
        assert tar.getnames() == ["store/tenants/default/traffic/b.jsonl", SUMS]
