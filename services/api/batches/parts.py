"""Parts of a batch: lines whose answers are stored together, and the files that are made of them at the end."""

import hashlib
from collections import deque
from pathlib import Path

from services.api.batches.lines import Line
from services.api.batches.output import Answer
from shared.contracts.batches import Batch, Part, folder_of
from shared.contracts.files import Purpose, StoredFile, file_id_of
from shared.registry import Registry
from shared.registry.store import ObjectStore
from shared.registry.store_errors import Corrupt


class PartRun:
    """A part under way: lines to run, those that run by their jobs, answers by line."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.todo: deque[Line] = deque()
        self.running: dict[str, Line] = {}
        self.answers: dict[int, Answer] = {}
        self.job_ids: list[str] = []
        """Jobs that ended, to be forgotten once their answers are stored."""
        self._size = size

    @property
    def is_done(self) -> bool:
        """Whether every line has its answer."""
        return len(self.answers) == self._size

    @property
    def completed(self) -> int:
        """The number of lines that were answered."""
        return sum(answer.is_output for answer in self.answers.values())

    def settled(self, fence: int) -> tuple[Part, bytes]:
        """Return what the record notes of the part, and its object: answers first, then errors."""
        answers = [self.answers[number] for number in sorted(self.answers)]
        output = b"".join(one.text for one in answers if one.is_output)
        errors = b"".join(one.text for one in answers if not one.is_output)
        part = Part(
            fence=fence,
            completed=self.completed,
            failed=len(answers) - self.completed,
            output_bytes=len(output),
            prompt_tokens=sum(one.prompt_tokens for one in answers),
            completion_tokens=sum(one.completion_tokens for one in answers),
        )
        return part, output + errors


def part_key(batch: Batch, number: int, fence: int) -> str:
    """Return the key of a part's object; another lease writes another object, so that what is noted never changes."""
    return f"{folder_of(batch.tenant_id, batch.id)}parts/{number:05d}-{fence}.jsonl"


def input_key(batch: Batch) -> str:
    """Return the key of the input's copy."""
    return f"{folder_of(batch.tenant_id, batch.id)}input/{batch.sha256}"


def fetch_input(store: ObjectStore, batch: Batch, path: Path) -> None:
    """Fetch the input; raises `NotFound`, `Corrupt` where it is not what the batch was made of. Blocking."""
    store.get_file(input_key(batch), path)
    with path.open("rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != batch.sha256:
            raise Corrupt("input", batch.id)


def join(registry: Registry, batch: Batch, folder: Path, at: float) -> tuple[str | None, str | None]:
    """Store the output file and the error file; returns their ids, None for one without a line. Blocking.

    Done again, it makes the same files: their ids follow from the batch.
    """
    output, errors = folder / "output", folder / "errors"
    with output.open("wb") as out, errors.open("wb") as err:
        for number in sorted(batch.parts):
            part = batch.parts[number]
            left = part.output_bytes
            for piece in registry.store.pieces(part_key(batch, number, part.fence)):
                out.write(piece[:left])
                err.write(piece[left:])
                left -= min(left, len(piece))
    return _stored(registry, batch, output, at), _stored(registry, batch, errors, at)


def remove_all(store: ObjectStore, batch: Batch) -> None:
    """Delete the copy of the input and the parts of a batch that has ended; blocking."""
    for name in ("input", "parts"):
        for key in store.keys(f"{folder_of(batch.tenant_id, batch.id)}{name}/"):
            store.delete(key)


def _stored(registry: Registry, batch: Batch, path: Path, at: float) -> str | None:
    if not path.stat().st_size:
        return None
    with path.open("rb") as content:
        sha256 = hashlib.file_digest(content, "sha256").hexdigest()
    file = StoredFile(
        id=file_id_of(batch.id, path.name),
        tenant_id=batch.tenant_id,
        key=batch.key,
        key_line=batch.key_line,
        filename=f"{batch.id}_{path.name}.jsonl",
        purpose=Purpose.BATCH_OUTPUT,
        size_bytes=path.stat().st_size,
        sha256=sha256,
        created_at=at,
        expires_at=int(at) + batch.output_kept_seconds if batch.output_kept_seconds else 0,
    )
    registry.files.add(file, path)
    return file.id
