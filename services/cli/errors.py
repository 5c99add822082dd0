"""What a command shows as one sentence: the product's own errors, and those of the client."""

from typing import TYPE_CHECKING

from shared.errors import SignalboxError

if TYPE_CHECKING:
    from signalbox import SignalboxError as ClientError


def known_errors() -> "tuple[type[SignalboxError], type[ClientError]]":
    """Both bases, for an `except`: the client is imported only where there is an error."""
    from signalbox import SignalboxError as ClientError

    return SignalboxError, ClientError
