"""Scopes and the constant parts of API keys."""

from shared.security.api_keys import Key, Scope, key_id


def key(*scopes):
    return Key(id="k", sha256="x", tenant_id="t", name="", scopes=frozenset(scopes), line="k")


def test_admin_may_do_everything_and_the_others_only_their_own():
    assert all(key(Scope.ADMIN).may(scope) for scope in Scope)
    assert [scope for scope in Scope if key(Scope.SUBMIT).may(scope)] == [Scope.SUBMIT]
    assert not any(key().may(scope) for scope in Scope)


def test_the_id_of_a_key_is_found_from_the_key_and_does_not_show_it():
    assert key_id("sbk_secret") == key_id("sbk_secret") != key_id("sbk_other")
    assert "secret" not in key_id("sbk_secret")
