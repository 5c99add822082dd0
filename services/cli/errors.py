"""The errors that a command shows as one sentence: the product's own, and those of the client."""

from typing import TYPE_CHECKING

from shared.errors import SignalboxError

if TYPE_CHECKING:
    from signalbox import SignalboxError as ClientError


def known_errors() -> "tuple[type[SignalboxError], type[ClientError]]":
    """Both base classes, for `except`; the client is imported only when there is an error."""
    from signalbox import SignalboxError as ClientError

    return SignalboxError, ClientError


def mendable_errors() -> tuple[type[Exception], ...]:
    """The errors of libraries that an operator can mend, for `except`; imported only when there is an error."""
    from shared.sentences import MENDABLE

    return MENDABLE
