"""The console as a browser visits it: signed in, with the token that its forms carry."""

import re
from html import unescape

import httpx

from services.api.console import sessions


async def signed_in(url, token):
    """A client whose cookie is a session of this key, and whose requests carry the token of its forms."""
    # Plain HTTP: the certificates that a client reads at its start take longer than most tests.
    client = httpx.AsyncClient(base_url=url, timeout=30, verify=False)
    answer = await client.post("/console/sign-in", data={"key": token})
    assert answer.status_code == 303, answer.text
    client.headers[sessions.CSRF_HEADER] = sessions.csrf_of(client.cookies[sessions.COOKIE])
    return client


def as_part(client):
    """The same visitor as a page's script asks, which gets parts of pages."""
    client.headers["HX-Request"] = "true"
    return client


def words(answer):
    """What a page says, without its markup and with single spaces."""
    shown = re.sub(r"<[^>]*>", " ", answer.text)
    return re.sub(r"\s+", " ", unescape(shown)).strip()
