"""The system against the paper's sequential steps (`run-reference`), with the same release, texts and greedy decoding.

The reference loads nothing twice and answers text after text in one process on one thread; the system has API, queues,
selector and workers. Both are warm, and take turns. The reference computes in float32; the system's workers do so
too, or in bfloat16 if the processor supports it (`auto`, the default), which changes answers where tokens nearly tie.
"""

import argparse
import itertools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.common import Row, median_row, print_table, row, write_results
from benchmarks.routed import cpu_seconds
from benchmarks.system import Running, demo_system
from services.cli.evaluate.reference import open_reference
from services.trainer.evaluation.reference import Reference

MAX_NEW_TOKENS = 32
CLIENTS = 16
LabelAndText = tuple[str | None, str | None]
"""Label and answer."""


class Round(NamedTuple):
    """The time that answering all texts took, and the answers."""

    seconds: float
    cpu_seconds: float
    answers: list[LabelAndText]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    rows = [row for dtype in ("auto", "float32") for row in beside(dtype, args.texts, args.runs)]
    print_table(rows)
    write_results("reference_path", rows)


def beside(dtype: str, count: int, runs: int) -> list[Row]:
    with demo_system(engine_dtype=dtype) as running:
        texts = [one.text for one in itertools.islice(running.data.stream(), count)]
        reference = open_reference(running.supervisor.settings)
        pairs = [(by_reference(reference, texts), by_system(running, texts)) for _ in range(runs + 1)][1:]
    return [
        median_row(f"reference_cpu_x_{dtype}", [one.cpu_seconds / other.cpu_seconds for one, other in pairs], "x"),
        median_row(f"reference_wall_x_{dtype}", [one.seconds / other.seconds for one, other in pairs], "x"),
        median_row(f"reference_jobs_per_cpu_s_{dtype}", [count / one.cpu_seconds for one, _ in pairs], "jobs/CPU s"),
        median_row(f"system_jobs_per_cpu_s_{dtype}", [count / other.cpu_seconds for _, other in pairs], "jobs/CPU s"),
        row(f"reference_same_answers_{dtype}", same(*pairs[-1]), "share", spread=f"n={count}"),
    ]


def by_reference(reference: Reference, texts: list[str]) -> Round:
    started, started_cpu = time.perf_counter(), time.process_time()
    answers = [reference.answer(text, max_new_tokens=MAX_NEW_TOKENS) for text in texts]
    spent = time.perf_counter() - started, time.process_time() - started_cpu
    return Round(*spent, [(answer.selection.label or None, answer.text) for answer in answers])


def by_system(running: Running, texts: list[str]) -> Round:
    """All texts as jobs of several clients, whose own CPU time is not counted."""

    def submit(text: str) -> LabelAndText:
        body = {"input": text, "params": {"max_new_tokens": MAX_NEW_TOKENS}}
        job_id = running.client.post("/v1/jobs", body)["id"]
        for _ in running.client.events(f"/v1/jobs/{job_id}/events"):
            pass
        job = running.client.get(f"/v1/jobs/{job_id}")
        return job["selection"]["label"], job["result"]["text"]

    started, started_cpu = time.perf_counter(), cpu_seconds(running.supervisor)
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(submit, texts))
    return Round(time.perf_counter() - started, cpu_seconds(running.supervisor) - started_cpu, answers)


def same(one: Round, other: Round) -> float:
    """The share of texts with the same label and the same words from both."""
    return sum(answer == other_answer for answer, other_answer in zip(one.answers, other.answers, strict=True)) / len(
        one.answers
    )


if __name__ == "__main__":
    main()
