"""Pages of the console from their templates; what a caller wrote is text in them, never markup."""

from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from services.api.console import assets
from services.api.console.sessions import Visitor
from shared.names import start_one
from shared.security.api_keys import Scope

NOTHING = "\N{EN DASH}"
"""Stands where a page has no value to show."""
MAX_SHOWN_CHARS = 20_000
"""Longer texts are cut in pages; the API has them whole."""


class Place:
    """An entry of the navigation: its name, its address under `/console`, and the scopes that open it."""

    def __init__(self, name: str, path: str, *scopes: Scope) -> None:
        self.name, self.path, self.scopes = name, path, scopes or tuple(Scope)

    def opens_to(self, visitor: Visitor) -> bool:
        """Whether the visitor's key has one of the scopes."""
        return any(map(visitor.key.may, self.scopes))


PLACES = (
    Place("Live", "live", Scope.READ),
    Place("Playground", "playground", Scope.SUBMIT),
    Place("Jobs", "jobs", Scope.SUBMIT, Scope.READ),
    Place("Inbox", "inbox", Scope.REVIEW),
    Place("Adapters", "adapters"),
    Place("Releases", "releases"),
    Place("Rollouts", "rollouts"),
    Place("Proposals", "proposals", Scope.TRAIN, Scope.READ),
    Place("Training", "training", Scope.TRAIN, Scope.READ),
    Place("Rebases", "rebases", Scope.TRAIN, Scope.READ),
    Place("Batches", "batches", Scope.SUBMIT, Scope.READ),
    Place("Dead letters", "dead", Scope.ADMIN),
    Place("Keys", "keys", Scope.ADMIN),
    Place("Forget a person", "forget", Scope.ADMIN),
)


def page(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """Return a page, or a part of one, for the request's visitor, who may be nobody yet."""
    visitor = getattr(request.state, "visitor", None)
    text = part(template, visitor=visitor, here=request.url.path, places=PLACES, **context)
    return HTMLResponse(text, status)


def part(template: str, **context: Any) -> str:
    """Return the text of a template."""
    return _ENVIRONMENT.get_template(template).render(**context)


def is_part(request: Request) -> bool:
    """Whether a page's script asks, which wants a part of it, not a page."""
    return "hx-request" in request.headers


def _when(ms: float | None) -> str:
    """Return a time (milliseconds since 1970) in UTC; a `<time>` element around it is for the browser to localise."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else NOTHING


def _iso(ms: float) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds")


def _span(ms: float | None) -> str:
    """Return a duration (milliseconds) with the unit that suits it."""
    if ms is None:
        return NOTHING
    if ms < 1000:
        return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
    seconds = ms / 1000
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _size(count: float) -> str:
    """Return a number of bytes with the unit that suits it."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _cut(text: str, most: int = MAX_SHOWN_CHARS) -> str:
    """Return the beginning of a long text, and how much is left out."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} characters more)"


def _share(value: float | None) -> str:
    """Return a share of one with three digits."""
    return NOTHING if value is None else f"{value:.3f}"


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else f"{name[:most]}…"


def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("services.api.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(when=_when, iso=_iso, span=_span, size=_size, cut=_cut, share=_share, short=_short)
    made.globals.update(asset=assets.address, nothing=NOTHING, start_one=start_one)
    return made


_ENVIRONMENT = _environment()
