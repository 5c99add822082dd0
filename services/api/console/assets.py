"""Files of the console's pages: read once, served with the version in their address, and compressed."""

import functools
import gzip
import hashlib
from importlib.resources import files
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from shared.errors import NotFound

router = APIRouter()
_TYPES = {"js": "text/javascript; charset=utf-8", "css": "text/css; charset=utf-8", "svg": "image/svg+xml"}
_FOR_A_YEAR = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """One file: its content, the same compressed, its media type, and a version that follows from the content."""

    plain: bytes
    compressed: bytes
    media_type: str
    version: str


@functools.cache
def assets() -> dict[str, Asset]:
    """Return all files by name."""
    found = (file for file in files("services.api.console").joinpath("static").iterdir())
    return {file.name: _asset(file.name, file.read_bytes()) for file in found if file.name.rpartition(".")[2] in _TYPES}


def address(name: str) -> str:
    """Return the address of a file in its present version, which browsers may keep for ever."""
    return f"/console/static/{name}?v={assets()[name].version}"


@router.get("/static/{name}")
async def asset(name: str, request: Request) -> Response:
    """Serve a file; its address needs no session."""
    found = assets().get(name)
    if found is None:
        raise NotFound("path_not_found", "there is nothing at this path")
    headers = {"Cache-Control": _FOR_A_YEAR, "Vary": "Accept-Encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["Content-Encoding"] = "gzip"
        return Response(found.compressed, media_type=found.media_type, headers=headers)
    return Response(found.plain, media_type=found.media_type, headers=headers)


def _asset(name: str, content: bytes) -> Asset:
    digest = hashlib.sha256(content).hexdigest()[:8]
    return Asset(content, gzip.compress(content, mtime=0), _TYPES[name.rpartition(".")[2]], digest)
