"""Texts sealed at rest by keys of the settings (Fernet: AES-128-CBC with HMAC-SHA256).

The first key seals, each of them opens: so a key is replaced by putting a new one before it.
"""

import base64
import os

from shared.errors import Conflict, Unavailable

_KEY_BYTES = 32


def new_key() -> str:
    """Return a random key."""
    return base64.urlsafe_b64encode(os.urandom(_KEY_BYTES)).decode()


def keys_of(listed: str) -> list[str]:
    """Return the keys of a list with commas."""
    return [key.strip() for key in listed.split(",") if key.strip()]


def check_keys(listed: str) -> None:
    """Raise `ValueError` for a key that is none, without showing it."""
    for key in keys_of(listed):
        try:
            size = len(base64.b64decode(key, altchars=b"-_", validate=True))
        except ValueError:  # also what is no ASCII
            size = 0
        if size != _KEY_BYTES:
            raise ValueError("a key is 32 random bytes in URL-safe base64, as `signalbox secrets` writes it")


class Sealed:
    """Seals texts by the keys of a deployment."""

    def __init__(self, listed: str) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        self._box = MultiFernet([Fernet(key) for key in keys_of(listed)]) if keys_of(listed) else None

    def seal(self, text: str) -> str:
        """Return a text as only these keys read it; raises `Conflict` where there is no key."""
        if self._box is None:
            raise Conflict(
                "webhook_key_missing",
                "signing secrets are sealed at rest, and this deployment has no key for that: set "
                "SIGNALBOX_WEBHOOK_KEY, which `signalbox secrets` makes, and restart",
            )
        return self._box.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the text; raises `Unavailable` where no key opens it."""
        from cryptography.fernet import InvalidToken

        try:
            if self._box is not None:
                return self._box.decrypt(sealed.encode()).decode()
        except InvalidToken:
            pass
        raise Unavailable(
            "webhook_key_missing",
            "the signing secret was sealed by a key that SIGNALBOX_WEBHOOK_KEY lacks: add that key to its end",
        )

    def opens(self, sealed: str) -> bool:
        """Whether one of these keys opens it."""
        try:
            self.open(sealed)
        except Unavailable:
            return False
        return True
