"""The region of an object store: of a setting, of AWS's variables, else of the server's own answer; and its clock."""

import re
import socket
from email.utils import parsedate_to_datetime

import pytest

from services.cli.local.bucket import make_bucket
from shared.errors import NotFound, Unavailable
from shared.registry.store import S3Store
from shared.settings import Settings
from tests.support.s3_front import RegionalFront

REGION = "eu-central-1"
ANSWERS = {
    "it answers GetBucketLocation and names itself": {},
    "it answers GetBucketLocation alone": {"names_region": False},
    "it refuses GetBucketLocation and names itself": {"is_strict": True},
}


@pytest.fixture(autouse=True)
def without_aws(monkeypatch):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def through(settings):
    """Settings whose object store stands behind a front."""

    def make(front, **more):
        return Settings(**settings.model_dump(exclude={"s3_url", "s3_region"}), s3_url=front.url, **more)

    return make


def port_of(settings):
    return int(settings.s3_url.rsplit(":", 1)[1])


def use(store, tmp_path):
    """Every operation once."""
    store.put("region/a", b"1")
    (tmp_path / "file").write_bytes(b"2")
    store.put_file("region/b", tmp_path / "file")
    store.get_file("region/a", tmp_path / "copy")
    assert store.get("region/b") == b"2"
    assert (tmp_path / "copy").read_bytes() == b"1"
    assert store.keys("region/") == ["region/a", "region/b"]
    store.delete("region/b")
    assert store.exists("region/a")
    assert not store.exists("region/b")
    with pytest.raises(NotFound):
        store.get("region/b")


OPERATIONS = {
    "put": lambda store, path: store.put("region/a", b"1"),
    "put_file": lambda store, path: store.put_file("region/a", path),
    "get": lambda store, path: store.get("ready"),
    "get_file": lambda store, path: store.get_file("ready", path),
    "exists": lambda store, path: store.exists("ready"),
    "keys": lambda store, path: store.keys("region/"),
    "delete": lambda store, path: store.delete("region/none"),
    "ensure_bucket": lambda store, path: store.ensure_bucket(),
}


@pytest.mark.parametrize("variable", ["SIGNALBOX_S3_REGION", "AWS_REGION", "AWS_DEFAULT_REGION"])
def test_requests_are_signed_for_the_region_of_the_setting_or_of_the_usual_variables(
    variable, settings, through, tmp_path, monkeypatch
):
    monkeypatch.setenv(variable, REGION)
    with RegionalFront(port_of(settings), REGION, is_strict=True) as front:
        store = S3Store(through(front))
        store.ensure_bucket()
        use(store, tmp_path)
        assert set(front.signed_for) == {REGION}


@pytest.mark.parametrize("answers", ANSWERS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_without_a_setting_the_server_is_asked_whatever_comes_first(operation, answers, settings, through, tmp_path):
    S3Store(settings).put("ready", b"1")
    (tmp_path / "file").write_bytes(b"2")
    with RegionalFront(port_of(settings), REGION, **ANSWERS[answers]) as front:
        store = S3Store(through(front))
        OPERATIONS[operation](store, tmp_path / "file")
        asked = len(front.signed_for)
        use(store, tmp_path)
        assert set(front.signed_for[asked:]) == {REGION}


@pytest.mark.parametrize("is_strict", [False, True])
def test_a_bucket_is_made_in_the_region_that_the_server_names(is_strict, settings, through):
    name = f"signalbox-region-{is_strict}".lower()
    with RegionalFront(port_of(settings), REGION, is_strict=is_strict) as front:
        made = through(front).model_copy(update={"s3_bucket": name})
        make_bucket(made, 30)
        assert S3Store(made).get("ready") == b"1"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_wrong_region_is_an_error_that_names_the_right_one(operation, settings, through, tmp_path):
    (tmp_path / "file").write_bytes(b"2")
    with RegionalFront(port_of(settings), REGION) as front:
        store = S3Store(through(front, s3_region="us-west-2"))
        with pytest.raises(Unavailable, match=f"set SIGNALBOX_S3_REGION={REGION}") as refused:
            OPERATIONS[operation](store, tmp_path / "file")
        assert refused.value.code == "store_region_wrong"


def test_where_no_answer_names_the_region_the_error_names_the_setting(settings, through):
    with (
        RegionalFront(port_of(settings), REGION, is_strict=True, names_region=False) as front,
        pytest.raises(Unavailable, match=r"is in another region .*: set SIGNALBOX_S3_REGION"),
    ):
        S3Store(through(front)).exists("ready")


def test_a_url_of_aws_names_the_region_itself(settings, through, monkeypatch):
    with RegionalFront(port_of(settings), "us-east-1", is_strict=True, names_region=False) as front:
        front_port = port_of(through(front))
        found = socket.getaddrinfo("127.0.0.1", front_port, type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        aws = through(front).model_copy(update={"s3_url": f"http://s3.{REGION}.amazonaws.com"})
        with pytest.raises(Unavailable, match="set SIGNALBOX_S3_REGION"):
            S3Store(aws).ensure_bucket()
        assert set(front.signed_for) == {REGION}


@pytest.mark.parametrize("ahead", [3600, -3600])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_clock_that_differs_is_named_with_both_times(operation, ahead, settings, through, tmp_path):
    (tmp_path / "file").write_bytes(b"2")
    with RegionalFront(port_of(settings), "us-east-1", clock_ahead_seconds=ahead) as front:
        with pytest.raises(Unavailable, match="requests are signed with the time: set") as refused:
            OPERATIONS[operation](S3Store(through(front)), tmp_path / "file")
        assert refused.value.code == "store_clock_skewed"
        its, own = re.findall(r"says (.* GMT), that of this machine (.* GMT)", refused.value.detail)[0]
        seconds = (parsedate_to_datetime(its) - parsedate_to_datetime(own)).total_seconds()
        assert seconds == pytest.approx(ahead, abs=60)


def test_a_region_that_no_request_can_be_signed_for_is_refused_at_the_start(settings, monkeypatch):
    monkeypatch.setenv("AWS_REGION", "eu central")
    with pytest.raises(ValueError, match="no region such as eu-central-1"):
        Settings()
