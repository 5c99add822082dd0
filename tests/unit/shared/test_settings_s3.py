"""What an object store's address may be: a path in it was dropped without a word, and writes went elsewhere."""

import pytest
from pydantic import ValidationError

from shared.settings import Settings, settings_error


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("http://s3:9000", "http://s3:9000"),
        ("https://s3.eu-central-1.amazonaws.com/", "https://s3.eu-central-1.amazonaws.com"),
        ("http://[::1]:9000", "http://[::1]:9000"),
    ],
)
def test_an_address_is_taken(given, taken):
    assert Settings(s3_url=given).s3_url == taken


@pytest.mark.parametrize("more", ["/bucket", "/bucket/prefix/", "//", "/?x=1", "?prefix=a", "#part", "/%2e%2e/", "/ "])
def test_a_path_is_refused_with_the_setting_that_names_the_bucket(more):
    with pytest.raises(ValidationError) as refused:
        Settings(s3_url=f"https://s3.example.com{more}")
    assert "SIGNALBOX_S3_URL: it may name scheme, host and port alone: SIGNALBOX_S3_BUCKET" in str(
        settings_error(refused.value)
    )


@pytest.mark.parametrize(
    "url", ["", "s3:9000", "s3.example.com", "s3://bucket", "http://", "http://s3:x", "http://[::1"]
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValidationError, match=r"is no address such as https://s3\.example\.com"):
        Settings(s3_url=url)


@pytest.mark.parametrize("url", ["http://me:s3cret@s3:9000", "http://me:s3cret/more@s3:9000", "http://s3/?key=s3cret"])
def test_a_password_in_an_address_is_refused_and_never_shown(url):
    with pytest.raises(ValidationError) as refused:
        Settings(s3_url=url)
    assert "s3cret" not in f"{refused.value} {settings_error(refused.value)}"
