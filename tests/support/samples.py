"""Words that tell labels apart, rows of them, and settings that train on them in seconds."""

import json
import random

WORDS = {
    "bank.accounts": ["balance", "transfer", "account", "statement", "deposit", "savings", "branch"],
    "bank.cards": ["card", "limit", "declined", "apr", "rewards", "expired", "cashback"],
    "travel.trips": ["flight", "hotel", "visa", "luggage", "passport", "airport", "ticket"],
}
TRAINING = {"settings": {"epochs": 1, "rank": 2, "max_length": 400, "learning_rate": 0.02, "checkpoint_steps": 2}}


def rows(label, count, seed=0):
    made = random.Random(f"{label}{seed}")
    for _ in range(count):
        text = " ".join(made.choices(WORDS[label], k=6))
        yield {"instruction": "name the first word", "input": text, "output": text.split()[0]}


def upload(client, label, count=24):
    content = "\n".join(json.dumps(row) for row in rows(label, count))
    return client.post("/v1/datasets", content=content.encode(), params={"name": label})["id"]
