"""A release moved to another base model: five adapters and a selector trained anew, by a trainer that is killed twice.

The new base model is a copy of the old one with words of the tasks as tokens of their own: another tokenizer, and an
embedding that is larger. `rebase_labels_ok` counts the labels of the candidate whose adapter is on the new base model.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.common import print_table, row, write_results
from benchmarks.selector_data import need_data, read
from shared.model.base import load_model, load_tokenizer, resolve_base_model
from shared.settings import Settings
from tests.support.rebase import KILLED_AT, rebased

LABELS = ("fin.cmcq", "fin.ha", "fin.sa", "legal.jri", "med.qa")
MOST_CHARS = 500
TRAINING = {"epochs": 2, "batch_size": 4, "max_length": 256, "rank": 8, "checkpoint_steps": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24, help="of each of the five tasks")
    parser.add_argument("--tokens", type=int, default=256, help="that the new base model has more")
    args = parser.parse_args()
    need_data()
    rows = {label: task_rows(label, args.rows) for label in LABELS}
    with tempfile.TemporaryDirectory() as folder:
        old = resolve_base_model(Settings())
        new = with_more_tokens(old, Path(folder) / "new", words_of(rows, args.tokens))
        done = rebased(Path(folder), old, new, rows, TRAINING)
    for label in done.rebase.labels:
        before, after = label["old"], label["new"] or {}
        print(f"{label['label']}: {before['exact_match']} -> {after.get('exact_match')} exact, {label['fate']}")
    figures = [
        row("rebase_labels_ok", done.on_new_base, f"of {len(rows)}", goal=len(rows)),
        row("rebase_trainer_kills", len(KILLED_AT), "kills"),
        row("rebase_lost_leases", done.lost_leases, "leases"),
        row("rebase_s", done.seconds, "s"),
    ]
    print_table(figures)
    write_results("rebase", figures)


def task_rows(label: str, count: int) -> list[dict[str, str]]:
    """Short rows of a task, with their answers."""
    read_rows = read(f"as12/{label}.train.jsonl.gz")
    found = [{name: item.get(name, "") for name in ("instruction", "input", "output")} for item in read_rows]
    return [item for item in found if item["output"] and sum(map(len, item.values())) < MOST_CHARS][:count]


def words_of(rows: dict[str, list[dict[str, str]]], count: int) -> list[str]:
    """The commonest longer words of the tasks."""
    words = Counter(word for own in rows.values() for item in own for word in item["input"].split() if len(word) > 4)
    return [word for word, _ in words.most_common(count)]


def with_more_tokens(old: Path, folder: Path, words: list[str]) -> Path:
    """Save a copy of a base model whose tokenizer has these words as tokens of their own."""
    tokenizer, model = load_tokenizer(old), load_model(old, "float32", "cpu")
    tokenizer.add_tokens(words)
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
