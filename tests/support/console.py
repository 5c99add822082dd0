"""The console as a browser visits it: signed in, with the token that its forms carry."""

import re
from html import unescape

import httpx

from services.api.console import sessions

SELECTED = {
    "label": "fin.sa",
    "best_label": "fin.sa",
    "probability": 0.9,
    "confidence": 0.9,
    "threshold": 0.5,
    "by": "light",
    "runners_up": [{"label": "fin.ha", "probability": 0.1}],
    "probabilities": [{"label": "fin.sa", "probability": 0.9}, {"label": "none.none", "probability": 0.1}],
    "neighbours": [{"label": "fin.sa", "text": "profits <i>fell</i>", "similarity": 0.7}],
}
"""An explained selection, as the ledger holds it."""


async def signed_in(url, token):
    """A client, not opened yet, whose cookie is a session of this key; its requests carry the token of the forms."""
    # Plain HTTP: the certificates that a client reads at its start take longer than most tests.
    async with httpx.AsyncClient(base_url=url, timeout=30, verify=False) as signing:
        answer = await signing.post("/console/sign-in", data={"key": token})
        assert answer.status_code == 303, answer.text
        headers = {sessions.CSRF_HEADER: sessions.csrf_of(signing.cookies[sessions.COOKIE])}
        return httpx.AsyncClient(base_url=url, timeout=30, verify=False, cookies=signing.cookies, headers=headers)


def as_part(client):
    """The same visitor as a page's script asks, which gets parts of pages."""
    client.headers["HX-Request"] = "true"
    return client


def words(answer):
    """What a page says, without its markup and with single spaces."""
    shown = re.sub(r"<[^>]*>", " ", answer.text)
    return re.sub(r"\s+", " ", unescape(shown)).strip()
