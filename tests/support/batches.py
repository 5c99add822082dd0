"""Batches in tests: inputs, a worker's loop beside an API, workers that answer whatever waits."""

import asyncio
import contextlib
import json
import threading
import time

from services.api.batches.loop import run_batches
from shared.contracts.jobs import JobState
from shared.ledger import Ledger, calls
from shared.ledger.calls import NotAcquired

CHATS = "/v1/chat/completions"


def chat_line(number, text="did the stock rise?", model="fin.sa", url=CHATS, **body):
    body = {"model": model, "messages": [{"role": "user", "content": text}]} | body
    return {"custom_id": f"row-{number}", "method": "POST", "url": url, "body": body}


def jsonl(lines):
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()


@contextlib.asynccontextmanager
async def batch_worker(clients):
    """The loop that runs batches, as the process of its own has it."""
    stop = asyncio.Event()
    task = asyncio.create_task(run_batches(clients, stop))
    try:
        yield
    finally:
        stop.set()
        await task


@contextlib.contextmanager
def answering(settings, queue="generate.fin", answer=None):
    """A worker that answers every job of a queue; `answer` makes the end of one: its state and fields."""

    def usual(job):
        text = job.body["messages"][-1]["content"] if "messages" in job.body else job.body["input"]
        result = {"text": f"re: {text}", "finish_reason": "stop", "prompt_tokens": 7, "generated_tokens": 3}
        return JobState.SUCCEEDED, {"result": result}

    stop = threading.Event()

    def run():
        ledger = Ledger(settings.redis_url)
        while not stop.is_set():
            try:
                job = ledger.do(calls.acquire_next(queue, "echo", 15.0))
            except NotAcquired:
                time.sleep(0.01)  # a worker without messages looks again
                continue
            state, fields = (answer or usual)(job)
            ledger.do(calls.finish(job, state, **fields))
        ledger.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
