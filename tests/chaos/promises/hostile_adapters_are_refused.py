"""9: no damaged or hostile adapter comes in, and the groups serve on."""

from collections import Counter

import httpx

from tests.chaos.load import lost, outcomes, spread
from tests.chaos.material import text_for
from tests.chaos.mutants import Mutant, good_files, mutants, tar
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.plans import maybe_with_models
from tests.chaos.sizes import Size
from tests.chaos.world import LABELS, World

_LABEL = "bank.uploaded"
_EVERY = 10
"""After so many uploads, each group has to answer a job."""


def prove(world: World, size: Size) -> Outcome:
    """Every mutant is uploaded by itself; the adapter that they were made of comes in at the end."""
    world.know_base_model()
    files, digest = good_files(world.folder / f"good-{world.random.random()}")
    answers: list[tuple[Mutant, httpx.Response]] = []
    jobs: list[str] = []
    restarts = _restarts(world)
    headers = {"Authorization": f"Bearer {world.key}"}
    with httpx.Client(base_url=world.supervisor.api_url, headers=headers, timeout=60) as http:
        for number, mutant in enumerate(mutants(files, digest, size.mutants, world.random)):
            answers.append((mutant, _upload(http, mutant)))
            if number % _EVERY == 0:
                asks = [{"input": text_for(label, number), "label": label} for label in LABELS]
                jobs += [http.post("/v1/jobs", json=ask).raise_for_status().json()["id"] for ask in asks]
        good = _upload(http, Mutant("good", tar(files), digest))
    found = outcomes(world, jobs, size.patience_seconds)
    unclear = [mutant.name for mutant, answer in answers if not _is_clear_refusal(answer)]
    codes = Counter(answer.json().get("code", "accepted") for _, answer in answers)
    outcome = Outcome({"mutants": len(answers), "with_sha256": sum(bool(mutant.sha256) for mutant, _ in answers)})
    outcome.at_least("mutants_tried", len(answers), size.mutants, spread=f"{len(codes)} reasons")
    outcome.at_most("mutants_not_refused", len(unclear), 0, spread="; ".join(unclear)[:300])
    outcome.at_least("good_adapter_accepted", good.status_code == 201, 1)
    outcome.at_most("jobs_lost_by_uploads", lost(found), 0, spread=spread(found))
    outcome.at_most("processes_ended_by_uploads", _restarts(world) - restarts, 0)
    return outcome


def _upload(http: httpx.Client, mutant: Mutant) -> httpx.Response:
    fields = {"label": _LABEL, **({"sha256": mutant.sha256} if mutant.sha256 else {})}
    return http.post("/v1/adapters", data=fields, files={"file": ("adapter", mutant.archive)})


def _is_clear_refusal(answer: httpx.Response) -> bool:
    return answer.status_code == 422 and answer.json()["code"].startswith("adapter_") and bool(answer.json()["detail"])


def _restarts(world: World) -> int:
    return sum(child.restarts for child in world.supervisor.children)


PROMISE = Promise(9, "A corrupt or hostile adapter is refused", maybe_with_models, prove)
