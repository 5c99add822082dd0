"""How settings take certificates: into the URLs that every client connects by."""

from urllib.parse import parse_qsl, urlsplit

import pytest
from pydantic import ValidationError

from shared.settings import Settings


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text("x")
    return path


def test_a_tls_url_always_checks_certificate_and_name(file):
    made = Settings(redis_url="rediss://api:pw@ledger:6379/0", redis_ca_file=file)
    assert dict(parse_qsl(urlsplit(made.redis_url).query)) == {
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": "true",
        "ssl_ca_certs": str(file),
    }
    assert made.broker_url == "redis://127.0.0.1:6380/0"


def test_settings_handed_on_stay_the_same(file):
    made = Settings(broker_url="rediss://broker/0", redis_cert_file=file, redis_key_file=file)
    assert Settings(**made.model_dump()) == made


def test_no_password_is_shown_by_settings_or_by_a_refusal_of_them(file):
    made = Settings(redis_url="redis://api:s3cret@ledger/0", broker_url="redis://api:s3cret@broker/0")
    assert "s3cret" not in repr(made)
    with pytest.raises(ValidationError) as refused:
        Settings(redis_url="rediss://api:s3cret@ledger/0?ssl_cert_reqs=none")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"redis_ca_file": "FILE"}, "no URL begins with rediss://"),
        ({"s3_ca_file": "FILE"}, "is not https://"),
        ({"redis_url": "rediss://h", "redis_cert_file": "FILE"}, "come together"),
        ({"redis_url": "rediss://h", "redis_ca_file": "/does/not/exist"}, "cannot be read"),
        ({"redis_url": "rediss://h?ssl_cert_reqs=none"}, "may not turn its server's check off"),
        (
            {"redis_url": "rediss://h?ssl_cert_reqs=required&ssl_check_hostname=false"},
            "may not turn its server's check off",
        ),
    ],
)
def test_a_mistake_is_named(given, says, file):
    with pytest.raises(ValidationError, match=says):
        Settings(**{name: str(file) if value == "FILE" else value for name, value in given.items()})


def test_certificates_may_be_named_by_files_beside_the_other_secrets(tmp_path, file):
    (tmp_path / "signalbox_redis_url").write_text("rediss://api:pw@ledger/0\n")
    (tmp_path / "signalbox_redis_ca_file").write_text(f"{file}\n")
    made = Settings(_secrets_dir=tmp_path)
    assert dict(parse_qsl(urlsplit(made.redis_url).query))["ssl_ca_certs"] == str(file)
