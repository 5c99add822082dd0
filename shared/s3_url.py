"""What the URL of an S3 server may be; no refusal shows any part of it, because it may hold a password."""

from urllib.parse import urlsplit


def check_s3_url(url: str) -> str:
    """Return the address of a server without a last slash; raises `ValueError` that says how to write it."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its message may hold a piece of a password
        is_address = False
    if not is_address:
        raise ValueError("it is no address such as https://s3.example.com or http://127.0.0.1:9000; correct it")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            "it may name scheme, host and port alone: SIGNALBOX_S3_BUCKET names the bucket, which is used whole, "
            "SIGNALBOX_S3_ACCESS_KEY and _SECRET_KEY are the key pair"
        )
    return url.removesuffix("/")
