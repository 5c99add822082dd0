"""A few of the demo's requests as somebody's code sends them that knows OpenAI's package alone."""

from collections.abc import Iterable

from openai import OpenAI, OpenAIError

from services.cli.demo.data import DemoRow
from services.cli.output import out
from shared.errors import SignalboxError

_SHOWN = 60


def ask_as_openai(api_url: str, key: str, rows: Iterable[DemoRow]) -> None:
    """Send texts to the model `auto` by OpenAI's client, and print who answered what; raises `SignalboxError`."""
    out.print("asked by the `openai` package, with another base_url:")
    with OpenAI(base_url=f"{api_url}/v1", api_key=key) as client:
        for row in rows:
            try:
                answer = client.chat.completions.create(
                    model="auto", messages=[{"role": "user", "content": row.text}], max_completion_tokens=12
                )
            except OpenAIError as error:
                raise SignalboxError(
                    "openai_call_failed", f"OpenAI's client was not answered, see the logs: {error}"
                ) from error
            label = (answer.model_extra or {})["signalbox"]["label"] or "base model"
            said = f"{row.text[:_SHOWN]!r} ({row.label}) → {label}: {answer.choices[0].message.content!r}"
            out.print(said, markup=False, highlight=False)
