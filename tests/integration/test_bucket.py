"""The first step of a deployment against an object store."""

import pytest

from services.cli.local.bucket import make_bucket
from services.cli.local.servers import free_ports
from shared.errors import Unavailable
from shared.registry.store import S3Store


def test_the_bucket_is_made_once_and_takes_a_write(settings):
    fresh = settings.model_copy(update={"s3_bucket": "signalbox-first-step"})
    for _ in range(2):
        make_bucket(fresh, 30)
    assert S3Store(fresh).get("ready") == b"1"


def test_a_store_that_never_comes_is_an_error_after_the_patience(settings):
    nobody = settings.model_copy(update={"s3_url": f"http://127.0.0.1:{free_ports(1)[0]}"})
    with pytest.raises(Unavailable, match="does not answer"):
        make_bucket(nobody, 0)
