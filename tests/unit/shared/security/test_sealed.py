"""Texts sealed by keys of the settings."""

import pytest

from shared.errors import Conflict, Unavailable
from shared.security.sealed import Sealed, check_keys, new_key


def test_the_first_key_seals_and_each_opens():
    old, new = new_key(), new_key()
    sealed = Sealed(old).seal("secret")
    assert "secret" not in sealed
    assert Sealed(f"{new}, {old}").open(sealed) == "secret"
    assert not Sealed(new).opens(sealed)
    assert Sealed(new).opens(Sealed(f"{new},{old}").seal("secret"))


def test_without_the_key_nothing_is_opened_and_without_any_nothing_is_sealed():
    with pytest.raises(Unavailable, match="SIGNALBOX_WEBHOOK_KEY"):
        Sealed("").open(Sealed(new_key()).seal("secret"))
    with pytest.raises(Conflict, match="signalbox secrets"):
        Sealed("").seal("secret")


@pytest.mark.parametrize("key", ["short", "a" * 43, "ü" * 43 + "=", "a" * 40, "a" * 42 + "!="])
def test_a_key_that_is_none_is_refused_without_being_shown(key):
    with pytest.raises(ValueError, match="32 random bytes") as caught:
        check_keys(f"{new_key()},{key}")
    assert key not in str(caught.value)
