"""The parts of a batch that are at work: opened, fed into the ledger as room is, gathered as their jobs end."""

import asyncio

from services.api.batches.input import InputFile
from services.api.batches.jobs import LineJobs
from services.api.batches.lines import BadLine, Line, LineReader
from services.api.batches.output import answer, failure, not_run
from services.api.batches.parts import PartRun
from services.api.infra.clients import Clients
from shared.contracts.batches import PART_LINES, Batch, job_id_of
from shared.contracts.jobs import Job, JobState
from shared.security.api_keys import Key

_OPEN_AT_ONCE = 4
"""Parts that one step opens: each is some thousand lines a second of work."""


class PartsAtWork:
    """Parts that have lines in the ledger, or will have them next."""

    def __init__(
        self, clients: Clients, batch: Batch, caller: Key, input_file: InputFile, reader: LineReader, fence: int
    ) -> None:
        self.jobs = LineJobs(clients, batch, caller)
        self._input = input_file
        self._reader = reader
        self._is_first_lease = fence == 1
        self._open: dict[int, PartRun] = {}
        self._is_stopped = False

    async def step(self, batch: Batch, share: int) -> None:
        """Make jobs up to `share` of them at a time, and gather the answers of those that have ended."""
        if batch.stopped_by and not self._is_stopped:
            await self._stop(batch)
        await self._open_more(batch, share)
        if not batch.stopped_by:
            await self._feed(share)
        await self._gather(batch)

    def take_done(self) -> list[PartRun]:
        """Return the parts that have every answer; they are at work no more."""
        done = [part for part in self._open.values() if part.is_done]
        for part in done:
            del self._open[part.number]
        return done

    def counts(self, batch: Batch) -> tuple[int, int]:
        """Return how many lines have an answer, and how many an error, so far."""
        completed = sum(part.completed for part in batch.parts.values()) + sum(p.completed for p in self._open.values())
        ended = sum(part.completed + part.failed for part in batch.parts.values())
        return completed, ended + sum(len(part.answers) for part in self._open.values()) - completed

    @property
    def _running_count(self) -> int:
        return sum(len(part.running) for part in self._open.values())

    async def _open_more(self, batch: Batch, share: int) -> None:
        waiting = sum(len(part.todo) for part in self._open.values())
        for number in batch.unsettled:
            enough = len(self._open) >= _OPEN_AT_ONCE if batch.stopped_by else self._running_count + waiting >= share
            if enough:
                return
            if number not in self._open:
                part = await self._opened(batch, number)
                waiting += len(part.todo)

    async def _opened(self, batch: Batch, number: int) -> PartRun:
        first = number * PART_LINES
        raw = await asyncio.to_thread(lambda: list(self._input.read(first, PART_LINES)))
        part, lines = PartRun(number, len(raw)), []
        for at, text in raw:
            try:
                lines.append(await self._reader.read(at, text))
            except BadLine as bad:  # what it names was there when the batch began
                part.answers[at] = failure(bad.custom_id, job_id_of(batch.id, at), bad)
        states: dict[str, str] = {}
        if not self._is_first_lease:
            states, _ = await self.jobs.look([line.job_id for line in lines])
        for line in lines:
            if states.get(line.job_id):
                part.running[line.job_id] = line
            elif batch.stopped_by:
                part.answers[line.number] = not_run(line, batch.stopped_by)
            else:
                part.todo.append(line)
        if batch.stopped_by:
            await self.jobs.cancel(part.running)
        self._open[number] = part
        return part

    async def _stop(self, batch: Batch) -> None:
        """End what waits, and ask what runs to end."""
        for part in self._open.values():
            for line in part.todo:
                part.answers[line.number] = not_run(line, batch.stopped_by)
            part.todo.clear()
            await self.jobs.cancel(part.running)
        self._is_stopped = True

    async def _feed(self, share: int) -> None:
        for part in self._open.values():
            room = share - self._running_count
            if room <= 0 or not self.jobs.has_room:
                return
            lines = [part.todo.popleft() for _ in range(min(room, len(part.todo)))]
            again = []
            for line, made in zip(lines, await self.jobs.make(lines), strict=True):
                if made is True:
                    part.running[line.job_id] = line
                elif made is False:
                    again.append(line)
                else:
                    part.answers[line.number] = failure(line.custom_id, line.job_id, made)
            part.todo.extendleft(reversed(again))

    async def _gather(self, batch: Batch) -> None:
        for part in self._open.values():
            if not part.running:
                continue
            states, ended = await self.jobs.look(list(part.running))
            for job in ended:
                self._take(batch, part, part.running.pop(job.id), job)
            for job_id, state in states.items():
                if not state:  # it has expired, or was never made
                    self._again(batch, part, part.running.pop(job_id))

    def _take(self, batch: Batch, part: PartRun, line: Line, job: Job) -> None:
        is_stopped = batch.stopped_by and job.state is not JobState.SUCCEEDED
        was_cut = job.state is JobState.CANCELLED or (job.error or {}).get("code") == "deadline_exceeded"
        part.answers[line.number] = (
            not_run(line, batch.stopped_by) if is_stopped and was_cut else answer(batch.endpoint, line, job)
        )
        part.job_ids.append(job.id)

    def _again(self, batch: Batch, part: PartRun, line: Line) -> None:
        if batch.stopped_by:
            part.answers[line.number] = not_run(line, batch.stopped_by)
        else:
            part.todo.append(line)
