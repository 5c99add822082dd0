"""Adapters as PEFT folders: a tar that is made while it is sent, so that neither memory nor disk holds it."""

import asyncio
import tarfile
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Send

from services.api.adapters.model_card import model_card
from services.api.infra.clients import Clients
from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.manifests import AdapterManifest
from shared.errors import NotFound, SignalboxError

log = structlog.get_logger()
CARD_NAME = "README.md"
_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)


class _WholeOrCut(StreamingResponse):
    """A body whose connection is closed where it cannot go on, so that nobody takes a part for the whole."""

    async def stream_response(self, send: Send) -> None:
        """Send it; the server closes the connection of a response that has no end."""
        try:
            await super().stream_response(send)
        except SignalboxError as error:
            log.warning("export_cut", code=error.code, detail=error.detail)


class Export(NamedTuple):
    """A tar of one folder, `label@n`, piece by piece."""

    name: str
    size_bytes: int
    pieces: Iterator[bytes]

    def response(self) -> StreamingResponse:
        """Return the answer that sends it."""
        headers = {
            "Content-Length": str(self.size_bytes),
            "Content-Disposition": f'attachment; filename="{self.name}"',
        }
        return _WholeOrCut(self.pieces, 200, headers, "application/x-tar")


async def export(clients: Clients, manifest: AdapterManifest) -> Export:
    """Return an adapter as PEFT stores it, with a model card; raises `NotFound`, `Unavailable`.

    Where the weights do not match the digest, the tar ends early: its last piece is sent only when they do.
    """
    card = await asyncio.to_thread(_card, clients, manifest)
    return await asyncio.to_thread(_tar, clients, manifest, card)


def _card(clients: Clients, manifest: AdapterManifest) -> bytes:
    try:
        base = clients.registry.base_models.get(manifest.base_model)
    except NotFound:
        base = None
    return model_card(manifest, base).encode()


def _tar(clients: Clients, manifest: AdapterManifest, card: bytes) -> Export:
    """Begin a tar; the first piece of the weights is read already, and raises what is wrong."""
    stored = clients.registry.weights.stream(manifest.digest)
    first = next(stored.pieces)
    small = b"".join(
        _header(manifest, name, len(content)) + _padded(content)
        for name, content in ((CONFIG_NAME, stored.config), (CARD_NAME, card))
    )
    weights = _header(manifest, WEIGHTS_NAME, stored.weights_bytes)
    tail = bytes(-stored.weights_bytes % _BLOCK) + _END

    def pieces() -> Iterator[bytes]:
        yield small + weights
        yield first
        yield from stored.pieces
        yield tail

    size_bytes = len(small) + len(weights) + stored.weights_bytes + len(tail)
    return Export(f"{manifest.ref}.tar", size_bytes, pieces())


def _header(manifest: AdapterManifest, name: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(f"{manifest.ref}/{name}")
    member.size = size_bytes
    member.mtime = int(datetime.fromisoformat(manifest.created_at).timestamp())
    return member.tobuf(tarfile.GNU_FORMAT)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _BLOCK)
