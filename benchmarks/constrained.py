"""Answers under ten JSON schemas of the common kinds, from the base model, 16 at once: are they right, at what cost?

`constrained_valid` is the share of the answers that ended by themselves and that the library `jsonschema` accepts;
`constrained_cut` is the share that the limit of tokens cut. `constrained_speed_x` compares tokens a CPU-second with
free answers to the same requests, each of as many tokens, by turns.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch
from jsonschema import Draft202012Validator

from benchmarks.adapters_kit import engine, paired
from benchmarks.common import median_row, print_table, row, write_results
from services.adapter_worker.engine import Generation, GenerationRequest
from services.adapter_worker.engine.native.engine import NativeEngine
from shared.contracts.built_in_templates import BASE_INSTRUCTION, adapter_prompt
from shared.contracts.constraints import Constraint
from shared.contracts.conversation import single_turn
from shared.model.hardware import engine_dtype
from shared.settings import Settings

BATCH = 16
TOKENS = 128


def exactly(**properties: Any) -> dict[str, Any]:
    """An object with all of these properties and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


NAME = {"type": "string", "maxLength": 12}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": exactly(name=NAME, is_member={"type": "boolean"}),
    "enum": exactly(intent={"enum": ["block", "limit", "refund", "other"]}, urgent={"enum": ["yes", "no", None]}),
    "array": exactly(tags={"type": "array", "items": {"enum": ["card", "loan", "fee"]}, "minItems": 1, "maxItems": 4}),
    "nested": exactly(customer=exactly(name=NAME, address=exactly(city=NAME, country={"enum": ["DE", "FR", "US"]}))),
    "numbers": exactly(
        age={"type": "integer", "minimum": 18, "maximum": 99},
        score={"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.01},
    ),
    "strings": exactly(
        iban={"type": "string", "pattern": "^[A-Z]{2}[0-9]{6,10}$"}, day={"type": "string", "format": "date"}
    ),
    "any of": exactly(answer={"anyOf": [NAME, {"type": "integer", "minimum": 0, "maximum": 1000}, {"type": "null"}]}),
    "optional": {
        "type": "object",
        "properties": {"amount": {"type": "integer", "minimum": 1, "maximum": 9999}, "note": NAME, "currency": NAME},
        "required": ["amount"],
        "additionalProperties": False,
    },
    "references": {
        "$defs": {"side": exactly(account=NAME, amount={"type": "integer", "minimum": 0, "maximum": 99999})},
        **exactly(debit={"$ref": "#/$defs/side"}, credit={"$ref": "#/$defs/side"}),
    },
    "constants": {
        "oneOf": [
            exactly(kind={"const": "transfer"}, amount={"type": "integer", "minimum": 1, "maximum": 9999}),
            exactly(kind={"const": "question"}, text=NAME),
        ]
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5, help="of which free answers come beside the constrained ones")
    parser.add_argument("--share", type=int, default=BATCH, help="answers of a run")
    args = parser.parse_args()
    torch.set_num_threads(1)
    answers: list[tuple[str, Generation]] = []
    speeds = []
    with engine(engine_dtype(Settings()), size=BATCH, torch_threads=1) as made:
        answer(made, [request_of(n) for n in range(BATCH)])  # warms up, and compiles
        for run in range(args.runs):
            pair = Pair(made, [request_of(n) for n in range(run * args.share, (run + 1) * args.share)])
            speed = paired({"constrained": pair.constrained, "free": pair.free})
            speeds.append(speed["constrained"][0] / speed["free"][0])
            answers += pair.answers
            print(f"run {run}: {speeds[-1]:.3f}, {speed['constrained'][0]:.0f} tokens/CPU s", flush=True)
        rest = [request_of(n) for n in range(args.runs * args.share, args.answers)]
        answers += zip([request.job_id for request in rest], answer(made, rest), strict=True)
    report(answers, speeds)


class Pair:
    """The same requests with their constraints, then without, as long as the constrained answers were."""

    def __init__(self, made: NativeEngine, requests: Sequence[GenerationRequest]) -> None:
        self._made, self._requests = made, requests
        self.answers: list[tuple[str, Generation]] = []

    def constrained(self) -> int:
        found = answer(self._made, self._requests)
        self.answers = [(request.job_id, generation) for request, generation in zip(self._requests, found, strict=True)]
        return sum(generation.generated_tokens for generation in found)

    def free(self) -> int:
        lengths = [generation.generated_tokens for _, generation in self.answers]
        requests = [
            replace(request, constraint=None, max_new_tokens=length)
            for request, length in zip(self._requests, lengths, strict=True)
        ]
        return sum(generation.generated_tokens for generation in answer(self._made, requests))


def answer(made: NativeEngine, requests: Sequence[GenerationRequest]) -> list[Generation]:
    """All answers; the batch stays full until the last requests have joined it."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda request: made.generate(request, lambda _: None), requests))


def request_of(number: int) -> GenerationRequest:
    """A sampled answer; neighbours have other schemas. Its id is the schema's name."""
    name = list(SCHEMAS)[number % len(SCHEMAS)]
    text = f"Write JSON with the fields {', '.join(fields(SCHEMAS[name]))} for customer {number}."
    return GenerationRequest(
        job_id=name,
        attempt=1,
        prompt=adapter_prompt("chatml", single_turn(BASE_INSTRUCTION, text)),
        adapter=None,
        max_new_tokens=TOKENS,
        temperature=0.7,
        seed=number,
        constraint=Constraint(json_schema=SCHEMAS[name]),
    )


def fields(schema: dict[str, Any]) -> list[str]:
    return list(schema.get("properties") or schema["oneOf"][0]["properties"])


def report(answers: Sequence[tuple[str, Generation]], speeds: list[float]) -> None:
    ended = [(name, found.text) for name, found in answers if found.finish_reason == "stop"]
    wrong = [(name, text) for name, text in ended if not is_valid(name, text)]
    for name, text in wrong[:10]:
        print(f"{name}: {text}")
    rows = [
        row("constrained_valid", (len(ended) - len(wrong)) / len(ended), "", goal=1.0, spread=f"n={len(ended)}"),
        row("constrained_cut", 1 - len(ended) / len(answers), "", spread=f"n={len(answers)}"),
        median_row("constrained_speed_x", speeds, "x", goal=0.9),
    ]
    print_table(rows)
    write_results("constrained", rows)


def is_valid(name: str, text: str) -> bool:
    validator = Draft202012Validator(SCHEMAS[name], format_checker=Draft202012Validator.FORMAT_CHECKER)
    return validator.is_valid(json.loads(text))


if __name__ == "__main__":
    main()
