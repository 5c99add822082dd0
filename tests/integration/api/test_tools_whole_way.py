"""A chat with tools the whole way: the `openai` package, the API, a worker's handler, the engine on a tiny model."""

import asyncio
import json

import openai
import pytest

from services.adapter_worker.engine import make_engine
from services.adapter_worker.handlers import generate
from services.adapter_worker.prompts import worker_prompts
from shared.contracts.templates import PromptTemplate
from shared.queue.bus import Bus
from shared.queue.celery import make_celery
from shared.worker.attempt import AttemptRunner
from shared.worker.event_writer import EventWriter
from shared.worker.leases import LeaseKeeper

JINJA = (
    "{{ tools | tojson if tools else '' }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}</call>{% endfor %}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
UNIT = {
    "type": "object",
    "properties": {"unit": {"enum": ["C", "F"]}},
    "required": ["unit"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": UNIT}},
    {"type": "function", "function": {"name": "now"}},
]
QUESTION = [{"role": "user", "content": "warm?"}]


@pytest.fixture
def answering(ledger, settings, registry, release, tiny_folder, broker):
    """A worker of the base model, with our engine: it takes so many jobs."""
    registry.templates.add("default", PromptTemplate(name="house", jinja=JINJA))
    engine = make_engine("transformers", settings, tiny_folder)
    leases = LeaseKeeper(ledger, settings, owner="test", queues=[], info=dict)
    runner = AttemptRunner(ledger, Bus(make_celery(settings, "test")), leases, EventWriter(ledger), "test")

    def work(attempt):
        generate(
            attempt, release, engine=engine, base_model="tiny", fetch=lambda _: tiny_folder, base_template="house",
            prompts=worker_prompts(registry, tiny_folder, renders_jinja=True), store_patience_seconds=0,
        )  # fmt: skip

    def run(count):
        for _ in range(count):
            assert broker.brpop(["generate.base"], timeout=30)
            runner.run("generate.base", work)

    yield lambda count: asyncio.create_task(asyncio.to_thread(run, count))
    engine.close()


async def test_a_demanded_call_is_made_answered_and_streamed(api, tokens, answering):
    async with openai.AsyncOpenAI(base_url=f"{api['url']}/v1", api_key=tokens["submit"], max_retries=0) as client:
        asked = {"model": "base", "tools": TOOLS, "seed": 5, "temperature": 1.2}
        working = answering(2)
        whole = await client.chat.completions.create(messages=QUESTION, tool_choice="required", **asked)
        choice = whole.choices[0]
        (call,) = choice.message.tool_calls
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        assert call.function.name in ("weather", "now")
        named = {"type": "function", "function": {"name": "weather"}}
        answered = [*QUESTION, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "20"}]
        stream = await client.chat.completions.create(messages=answered, tool_choice=named, stream=True, **asked)
        told = [one async for chunk in stream for one in chunk.choices[0].delta.tool_calls or ()]
        assert [one.function.name for one in told] == ["weather"]
        assert json.loads(told[0].function.arguments)["unit"] in ("C", "F")
        await working
