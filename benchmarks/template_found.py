"""Is the template named that an adapter was trained with? Six templates, four tasks, ten examples each.

Adapters are trained on the base model as `adapter.train` does; the examples are rows that none was trained on. Needs
the folder of data sets (`--data`, in CONTRIBUTING's form: `as12/fin.sa.train.jsonl.gz`, …).
"""

import argparse
import gzip
import json
import tempfile
from pathlib import Path

from benchmarks.common import print_table, row, write_results
from services.trainer.data.examples import InstructionRow
from services.trainer.evaluation.template_choice import Losses, choose
from services.trainer.evaluation.template_scores import Scored
from services.trainer.training.lora import train_adapter
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.templates import PromptTemplate
from shared.contracts.training_settings import LoraSettings
from shared.errors import Invalid
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.model.merge import with_adapter
from shared.prompts.bound import BasePrompts, BoundTemplate
from shared.settings import Settings

VICUNA = PromptTemplate(
    name="vicuna",
    jinja=(
        "{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}\n\n{% elif m.role == 'user' %}"
        "USER: {{ m.content }} {% else %}ASSISTANT: {{ m.content }}</s>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
)
TRAINED = ("chatml", "plain", "alpaca", "mistral", "zephyr", "vicuna")
TASKS = ("as12/fin.sa", "as12/fin.ha", "clinc150/", "banking77/")
ASKED = {"clinc150/": "Name the domain of this request.", "banking77/": "Name the intent of this request."}
ROWS, EXAMPLES = 160, 10
SETTINGS = LoraSettings(
    epochs=3, learning_rate=5e-4, max_length=320, batch_size=4, precision="bfloat16", checkpoint_steps=1_000_000
)


def task_rows(data: Path, task: str, part: str, count: int) -> list[InstructionRow]:
    """The first short rows of a task, one of each text."""
    name = f"{part}.jsonl.gz" if task.endswith("/") else f".{part}.jsonl.gz"
    with gzip.open(data / f"{task}{name}", "rt", encoding="utf-8") as lines:
        stored = [json.loads(line) for line in lines]
    step = max(1, len(stored) // (4 * count))  # rows lie in the order of their answers
    rows = [_row(one, task) for one in stored[::step]]
    short = [one for one in rows if len(one.input) < 200]
    return short[:: max(1, len(short) // count)][:count]


def _row(stored: dict[str, str], task: str) -> InstructionRow:
    if task not in ASKED:
        return InstructionRow(stored["instruction"], stored["input"], stored["output"])
    return InstructionRow(ASKED[task], stored["text"], stored["domain" if task == "clinc150/" else "intent"])


class Bench:
    """The base model, and the templates that fit it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.folder = resolve_base_model(Settings())
        self.tokenizer = load_tokenizer(self.folder)
        prompts = BasePrompts(self.tokenizer, self.folder)
        self.templates: dict[str, BoundTemplate] = {}
        self.base_losses: dict[str, dict[tuple[str, ...], Losses]] = {}
        for template in (*BUILT_IN.values(), VICUNA):
            try:
                self.templates[template.name] = prompts.bind(template)
            except Invalid as error:
                print(f"left out: {error.detail}")

    def verdict(self, task: str, template: str) -> dict[str, object]:
        """Train one adapter, and say which template its examples name."""
        rows = task_rows(self.data, task, "train", ROWS)
        examples = task_rows(self.data, task, "test", EXAMPLES)
        with tempfile.TemporaryDirectory() as work:
            adapter = train_adapter(
                self.folder, self.tokenizer, rows,
                config=SETTINGS, work_dir=Path(work), template=self.templates[template],
            )  # fmt: skip
            model = with_adapter(load_model(self.folder, "float32"), adapter)
            scored = Scored(model, self.tokenizer, examples, max_length=SETTINGS.max_length)
            scores = scored.scores(self.templates, answers=False, known_base=self.base_losses.get(task))
        self.base_losses[task] = {score.names: score.base_losses for score in scores}
        choice = choose(scores)
        return {
            "task": task,
            "template": template,
            "verdict": choice.verdict,
            "best": list(choice.best.names),
            "losses": {"/".join(s.names): rounded(s.losses) for s in scores},
            "base": {"/".join(s.names): rounded(s.base_losses) for s in scores},
        }


def rounded(losses: Losses) -> list[list[float]]:
    """Losses for the log."""
    return [[round(loss, 5) for loss in row] for row in losses]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--log", type=Path, help="file of what was found so far: it is read, and goes on")
    args = parser.parse_args()
    found = [json.loads(line) for line in args.log.read_text().splitlines()] if args.log and args.log.is_file() else []
    bench, known = Bench(args.data), {(one["task"], one["template"]) for one in found}
    for task in TASKS:
        for template in TRAINED:
            if (task, template) in known:
                continue
            found.append(bench.verdict(task, template))
            print(json.dumps({name: found[-1][name] for name in ("task", "template", "verdict", "best")}), flush=True)
            if args.log:
                with args.log.open("a") as log:
                    log.write(json.dumps(found[-1]) + "\n")
    named = [one["template"] in one["best"] for one in found if one["verdict"] == "clear"]
    rows = [
        row("template_found", sum(named), f"of {len(found)} adapters", goal=len(found) - 1),
        row("template_named_wrongly", len(named) - sum(named), "adapters", goal=0, at_least=False),
    ]
    print_table(rows)
    write_results("template_found", rows)


if __name__ == "__main__":
    main()
