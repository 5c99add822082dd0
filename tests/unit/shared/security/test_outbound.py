"""Which addresses are outside; what the guard does with names and redirects is proved in tests/chaos, row 15."""

import pytest

from shared.errors import Denied
from shared.security.outbound import InnerHosts, check_url, is_public


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_the_public_internet_is_outside(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "169.254.169.254", "100.64.0.1", "192.0.0.192", "0.0.0.0", "224.0.0.1",
        "::1", "::", "fe80::1", "fe80::1%lo", "fc00::1", "::ffff:10.0.0.1", "::7f00:1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:db8::1", "not an address",
    ],
)  # fmt: skip
def test_all_else_is_inside(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "url", ["ftp://example.com/", "https://a@example.com/", "https:///x", "https://[::1/", "", "http://example.com/"]
)
def test_what_names_no_endpoint_is_refused_before_anything_is_looked_up(url):
    with pytest.raises(Denied):
        check_url(url)


def test_a_plain_url_passes():
    check_url("https://example.com/hook?x=1")


def test_hosts_that_an_operator_lists_are_called_without_tls():
    inner = InnerHosts.of("Hooks.internal, 10.1.0.0/16 ,fd00::7")
    for url in ("http://hooks.internal/", "http://10.1.2.3:8080/", "http://[fd00::7]/"):
        check_url(url, inner)
    for url in ("http://other.internal/", "http://10.2.0.1/", "http://example.com/"):
        with pytest.raises(Denied):
            check_url(url, inner)
