"""What SeaweedFS reads at its start: who may use its S3 port, and what its other ports ask for.

Those ports have no users. The volume server takes requests that its own processes signed; all gRPC, and the master's
pages, take clients with a certificate of an authority that is made here and forgotten; everything else is turned off.
"""

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, Name

CLOSED = ("-disableHttp", "-filer.disableHttp", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false")
"""Options without which more would listen, or answer whoever asks."""
_AUTHORITY = "signalbox store authority"
_VALID_FOR = timedelta(days=3650)
_TLS_PARTS = ("master", "volume", "filer", "s3", "client")
_JWT_PARTS = ("signing", "signing.read", "filer_signing", "filer_signing.read")


def identities(access_key: str, secret_key: str) -> str:
    """The content of `-s3.config`: the one user of the S3 port."""
    credentials = [{"accessKey": access_key, "secretKey": secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return json.dumps({"identities": [{"name": "signalbox", "credentials": credentials, "actions": actions}]})


def security_files() -> dict[str, str]:
    """The files of the folder in which `weed` is started, by name: `security.toml` names the others."""
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    authority_key, key = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    authority = _certificate(_AUTHORITY, authority_key, authority_key, is_authority=True)
    own = _certificate("signalbox store", key, authority_key, is_authority=False)
    return {
        "security.toml": _security(),
        "tls-ca.pem": authority.public_bytes(Encoding.PEM).decode(),
        "tls.pem": own.public_bytes(Encoding.PEM).decode(),
        "tls.key": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    }


def _security() -> str:
    signed = [f'[jwt.{part}]\nkey = "{secrets.token_urlsafe(32)}"' for part in _JWT_PARTS]
    pair = 'cert = "tls.pem"\nkey = "tls.key"'
    mutual = [f"[grpc.{part}]\n{pair}" for part in _TLS_PARTS]
    return "\n\n".join(
        [*signed, '[grpc]\nca = "tls-ca.pem"', *mutual, f'[https.master]\n{pair}\nca = "tls-ca.pem"', ""]
    )


def _certificate(
    name: str, key: "EllipticCurvePrivateKey", issuer_key: "EllipticCurvePrivateKey", *, is_authority: bool
) -> "Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(_named(_AUTHORITY), _named(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # another machine's clock may be behind
        .not_valid_after(now + _VALID_FOR)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        .sign(issuer_key, SHA256())
    )


def _named(name: str) -> "Name":
    from cryptography.x509 import Name, NameAttribute, NameOID

    return Name([NameAttribute(NameOID.COMMON_NAME, name)])
