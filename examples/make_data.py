"""Build `examples/data/` from a folder that holds `clinc150/` and `general/` (see the README there); deterministic.

Usage: python examples/make_data.py SOURCE [TARGET]
"""

import gzip
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

TASKS: dict[str, tuple[str, dict[str, str]]] = {
    "bank.accounts": (
        "What does the bank customer want?",
        {
            "account_blocked": "blocked account",
            "balance": "account balance",
            "freeze_account": "freeze account",
            "interest_rate": "interest rate",
            "order_checks": "order checks",
            "spending_history": "spending history",
            "transfer": "transfer money",
        },
    ),
    "bank.cards": (
        "What does the card holder want?",
        {
            "application_status": "application status",
            "card_declined": "declined card",
            "improve_credit_score": "better credit score",
            "damaged_card": "damaged card",
            "expiration_date": "expiry date",
            "redeem_rewards": "redeem rewards",
            "report_lost_card": "lost card",
        },
    ),
    "travel.trips": (
        "What does the traveller want?",
        {
            "book_flight": "book flight",
            "book_hotel": "book hotel",
            "flight_status": "flight status",
            "carry_on": "carry-on rules",
            "lost_luggage": "lost luggage",
            "travel_alert": "travel warning",
            "vaccines": "vaccination",
        },
    ),
    "travel.driving": (
        "What does the driver want?",
        {
            "tire_change": "change tire",
            "distance": "travel time",
            "gas": "fuel level",
            "oil_change_when": "oil change",
            "schedule_maintenance": "book maintenance",
            "traffic": "traffic report",
            "uber": "order ride",
        },
    ),
    "travel.dining": (
        "What does the guest want?",
        {
            "accept_reservations": "takes reservations",
            "cancel_reservation": "cancel table",
            "confirm_reservation": "confirm table",
            "how_busy": "waiting time",
            "restaurant_reservation": "book table",
            "restaurant_reviews": "reviews",
            "restaurant_suggestion": "suggestion",
        },
    ),
}
"""Label: the question its adapter answers, and the CLINC150 intents with the words that answer it."""

BACKGROUND_DOMAINS = ("home", "meta", "small_talk", "utility", "work")
TRAIN_ROWS, VALIDATION_ROWS, TEST_ROWS = 40, 10, 7  # per intent: 280, 70 and 49 per label
TEST_SKIP = 8  # the first rows of each intent were looked at while the intents were chosen
BACKGROUND_TRAIN, BACKGROUND_VALIDATION, BACKGROUND_TEST = 6, 2, 2  # per background intent

Line = dict[str, str]


def main(source: Path, target: Path) -> None:
    """Write one file per label and part, and three of background rows."""
    target.mkdir(parents=True, exist_ok=True)
    clinc = {part: list(_read(source / "clinc150" / f"{part}.jsonl.gz")) for part in ("train", "val", "test")}
    for label, (question, intents) in TASKS.items():
        instruction = f"{question} Answer with one of: {', '.join(sorted(intents.values()))}."
        for part, name, count in (
            ("train", "train", TRAIN_ROWS),
            ("val", "validation", VALIDATION_ROWS),
            ("test", "test", TEST_ROWS),
        ):
            rows = _per_intent(clinc[part], intents, count, TEST_SKIP if part == "test" else 0)
            lines = [
                {"instruction": instruction, "input": row["text"], "output": intents[row["intent"]]} for row in rows
            ]
            _write(target / f"{label}.{name}.jsonl", lines)
    _write_background(source, target, clinc)


def _write_background(source: Path, target: Path, clinc: dict[str, list[Line]]) -> None:
    intents = sorted({row["intent"] for row in clinc["train"] if row["domain"] in BACKGROUND_DOMAINS})
    seen, unseen = intents[::2], intents[1::2]  # half of the background intents show up in the tests alone
    instructions = list(_read(source / "general" / "selfinstruct_seed.jsonl.gz"))
    requests = [row["input"] or row["instruction"] for row in _by_hash(instructions, "instruction")]
    short = [text for text in requests if len(text) <= 300]
    oos = {
        part: [row["text"] for row in _read(source / "clinc150" / f"oos_{part}.jsonl.gz")]
        for part in ("train", "val", "test")
    }
    train = [row["text"] for row in _per_intent(clinc["train"], seen, BACKGROUND_TRAIN)] + oos["train"] + short[:60]
    validation = [row["text"] for row in _per_intent(clinc["val"], seen, BACKGROUND_VALIDATION)] + oos["val"][:70]
    test = (
        [row["text"] for row in _per_intent(clinc["test"], unseen, BACKGROUND_TEST)] + oos["test"][:120] + short[60:90]
    )
    for name, texts in (("train", train), ("validation", validation), ("test", test)):
        _write(target / f"none.none.{name}.jsonl", [{"instruction": "", "input": text, "output": ""} for text in texts])


def _per_intent(rows: Iterable[Line], intents: Iterable[str], count: int, skip: int = 0) -> list[Line]:
    ordered = _by_hash(rows, "text")
    of = {intent: [row for row in ordered if row["intent"] == intent] for intent in sorted(intents)}
    return [row for own in of.values() for row in own[skip : skip + count]]


def _by_hash(rows: Iterable[Line], field: str) -> list[Line]:
    return sorted(rows, key=lambda row: hashlib.sha256(row[field].encode()).hexdigest())


def _read(file: Path) -> Iterator[Line]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _write(file: Path, rows: list[Line]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else Path(__file__).parent / "data"))
