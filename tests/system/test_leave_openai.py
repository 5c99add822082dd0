"""The page about moving from OpenAI does what it says: its Python is run, in order, on a whole system."""

import json
import re
from pathlib import Path

import pytest

from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.support.eventually import eventually
from tests.support.samples import rows

PAGE = Path(__file__).parents[2] / "docs" / "leave-openai-fine-tuning.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def moving(released, tmp_path, monkeypatch):
    """A folder with the files of the page, and the key of the page in the environment."""
    for label in ("bank.cards", "travel.trips"):
        with (tmp_path / f"{label}.jsonl").open("w") as out:
            for row in rows(label, 24):
                turns = [("system", row["instruction"]), ("user", row["input"]), ("assistant", row["output"])]
                out.write(json.dumps({"messages": [{"role": role, "content": text} for role, text in turns]}) + "\n")
    scopes = {Scope.SUBMIT, Scope.READ, Scope.TRAIN, Scope.PROMOTE}
    monkeypatch.setenv("OPENAI_API_KEY", api_keys.create(released.redis, frozenset(scopes))[1])
    monkeypatch.setenv("OPENAI_BASE_URL", f"{released.supervisor.api_url}/v1")
    monkeypatch.chdir(tmp_path)
    before = released.client.get("/v1/releases/current")["id"]
    yield released
    if released.client.get("/v1/releases/current")["id"] != before:
        released.client.post("/v1/releases/rollback", {"to": before})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_page_is_run_from_top_to_bottom(moving):
    assert len(BLOCKS) == 5
    names = {}
    for block in BLOCKS[:-1]:
        exec(block, names)
    selector = moving.ended(names["done"].signalbox["selector_job"], "training/jobs")
    assert selector["state"] == "succeeded", selector["error"]
    assert selector["result"]["promoted"], selector["result"]
    eventually(lambda: "travel.trips" in moving.client.get("/v1/releases/current")["labels"], "the label's release")
    exec(BLOCKS[-1], names)
    assert names["answer"].choices[0].message.content is not None
    chat = names["client"].chat.completions
    named = chat.create(model="travel.trips", messages=[{"role": "user", "content": "hotel"}], max_tokens=4)
    assert named.signalbox["adapter_ref"] == "travel.trips@2"
