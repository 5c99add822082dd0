"""21: no key does by any route, or by any kind of job, what its scopes do not allow."""

from collections.abc import Iterator
from itertools import chain, combinations, product
from typing import Any, NamedTuple, get_args

import httpx

from services.api.training.service import AnyTraining
from shared.contracts.jobs import JobKind
from shared.contracts.manifests import Release
from shared.contracts.rows import Row
from shared.ledger import calls
from shared.security import api_keys
from shared.security.api_keys import Scope
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.sizes import Size
from tests.chaos.world import Plan, World
from tests.support.corpora import add_corpus
from tests.support.samples import WORDS, rows
from tests.support.scopes import RULES, keyed_routes, sample_path

_TENANT = "scopes"
_KEPT, _DROPPED, _CORPUS = "bank.cards", "bank.accounts", "laws"
BODIES: dict[str, dict[str, Any]] = {
    "adapter.train": {"label": _KEPT, "dataset": _KEPT},
    "adapter.check": {"adapter": _KEPT, "dataset": _KEPT},
    "adapter.compose": {"label": _KEPT, "parts": [{"adapter": _KEPT}, {"adapter": _DROPPED}], "unjudged": True},
    "comparison.train": {"labels": {_KEPT: _KEPT}},
    "traffic.review": {},
    "multitask.plan": {"labels": {label: label for label in (_KEPT, "travel.trips")}},
    "multitask.train": {"labels": {label: label for label in (_KEPT, "travel.trips")}, "two_stages": False},
    "multitask.propose": {"adapter": _KEPT, "validation": {_KEPT: _KEPT}},
    "corpus.clean": {"corpus": _CORPUS},
    "selector.train": {"labels": {label: label for label in (_KEPT, "travel.trips")}},
    "selector.add": {"labels": {"travel.trips": "travel.trips"}},
    "selector.balance": {"labels": {_KEPT: _KEPT}},
    "selector.delete": {"labels": [_DROPPED]},
}
"""The least body of each training kind, without its kind."""
_PATH = "/v1/training/jobs"
_HARNESS = "harness"
_PATIENCE_SECONDS = 60.0
_MAY_PROMOTE = frozenset({Scope.PROMOTE, Scope.ADMIN})
_SUBMIT, _TRAIN = frozenset({Scope.SUBMIT}), frozenset({Scope.TRAIN})
_STRONG = frozenset({Scope.TRAIN, Scope.PROMOTE})


class Attempt(NamedTuple):
    """One request by a key of these scopes, and the status that it has to get."""

    scopes: frozenset[Scope]
    method: str
    path: str
    body: Any
    status: int
    headers: dict[str, str] | None = None


class Hands:
    """A client for each set of scopes, all of one tenant."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clients: dict[frozenset[Scope], httpx.Client] = {}
        self.ids: dict[str, frozenset[Scope]] = {}
        """The scopes of each key that was made."""

    def of(self, scopes: frozenset[Scope]) -> httpx.Client:
        if scopes not in self._clients:
            key, token = api_keys.create(self._world.redis, scopes, tenant_id=_TENANT)
            self.ids[key.id] = scopes
            url, headers = self._world.supervisor.api_url, {"Authorization": f"Bearer {token}"}
            self._clients[scopes] = httpx.Client(base_url=url, headers=headers, timeout=20)
        return self._clients[scopes]

    def wrong(self, attempt: Attempt) -> str:
        """What an attempt got where it had to get something else; empty where it is right."""
        client = self.of(attempt.scopes)
        got = client.request(attempt.method, attempt.path, json=attempt.body, headers=attempt.headers).status_code
        return "" if got == attempt.status else f"{'+'.join(sorted(attempt.scopes))} {attempt.path} {got}"

    def may_promote(self, key_id: str) -> bool:
        return bool(self.ids.get(key_id, frozenset()) & _MAY_PROMOTE)

    def close(self) -> None:
        for client in self._clients.values():
            client.close()


def plan(size: Size) -> Plan:
    """No trainer: what is accepted and would promote is counted as a promotion."""
    return Plan(lease_seconds=size.lease_seconds)


def prove(world: World, size: Size) -> Outcome:
    """Every route with every scope; then each road to a promotion, around the gate, and to another key's job."""
    routes, kinds = keyed_routes(), {kind.model_fields["kind"].default for kind in get_args(AnyTraining)}
    sets = list(scope_sets(size.largest_set))
    hands, (first, second) = Hands(world), _releases(world)
    try:
        doors = [wrong for route in sorted(routes & set(RULES)) for wrong in _wrong_doors(hands, sets, *route)]
        attempts = [*_promotions(sets, first, second), *_gates(second), *_others_jobs(world, hands)]
        roads = [wrong for attempt in attempts if (wrong := hands.wrong(attempt))]
        promoted = _promoted_without_scope(world, hands)
    finally:
        hands.close()
    outcome = Outcome({"routes": len(routes), "sets": len(sets), "kinds": len(kinds), "roads": len(attempts)})
    unruled = sorted({str(route) for route in routes ^ set(RULES)} | (kinds ^ set(BODIES)))
    outcome.at_most("routes_and_kinds_without_a_rule", len(unruled), 0, spread="; ".join(unruled)[:300])
    outcome.at_most("routes_opened_or_closed_wrongly", len(doors), 0, spread="; ".join(doors)[:300])
    outcome.at_most("roads_around_a_scope", len(roads), 0, spread="; ".join(roads)[:300])
    outcome.at_most("promoted_without_scope", len(promoted), 0, spread="; ".join(promoted)[:300])
    return outcome


def scope_sets(largest: int) -> Iterator[frozenset[Scope]]:
    """Every set of at most so many scopes, and every set that lacks one or two."""
    sizes = {*range(1, largest + 1), len(Scope) - 1, len(Scope) - 2}
    return map(frozenset, chain.from_iterable(combinations(Scope, size) for size in sorted(sizes)))


def _releases(world: World) -> tuple[Release, Release]:
    """A current release, and a candidate that passed the gate; and the data sets and the corpus that trainings name."""
    for label in WORDS:
        world.registry.datasets.add(_TENANT, label, [Row(**row) for row in rows(label, 8)])
    add_corpus(world.registry, _TENANT, _CORPUS, {"a.txt": b"A text."}, world.folder)
    releases = world.registry.releases
    made = world.release.model_copy(update={"tenant_id": _TENANT, "parent": releases.current_id(_TENANT)})
    releases.add(made)
    releases.promote(_TENANT, made.id, force=True, by=_HARNESS)
    candidate = made.model_copy(update={"parent": made.id})
    releases.add(candidate)
    return made, candidate


def _wrong_doors(hands: Hands, sets: list[frozenset[Scope]], method: str, template: str) -> list[str]:
    """The sets of scopes that are let in and should not be, or the other way round."""
    found = []
    for scopes in sets:
        status = hands.of(scopes).request(method, sample_path(template)).status_code
        if (status == 403) == bool(scopes & RULES[method, template]) or status == 401:
            found.append(f"{'+'.join(sorted(scopes))} {method} {template} {status}")
    return found


def _promotions(sets: list[frozenset[Scope]], first: Release, second: Release) -> list[Attempt]:
    """What keys that may not promote try, also by the words of a request that was accepted from another key."""
    moves: list[tuple[str, Any]] = [
        (f"/v1/releases/{second.id}/promote", None),
        (f"/v1/releases/{second.id}/promote", {"force": True}),
        ("/v1/releases/rollback", None),
        ("/v1/releases/rollback", {"to": first.id}),
        *((_PATH, _asking(kind)) for kind in _updates()),
    ]
    accepted = Attempt(_STRONG, "POST", _PATH, _asking("selector.train"), 202, {"Idempotency-Key": first.id})
    weak = [scopes for scopes in sets if not scopes & _MAY_PROMOTE]
    return [
        *(Attempt(scopes, "POST", path, body, 403) for scopes, (path, body) in product(weak, moves)),
        accepted,
        *(accepted._replace(scopes=scopes, status=403) for scopes in weak),
    ]


def _gates(second: Release) -> list[Attempt]:
    """What a key that may promote tries against the gate, whose limits are the operator's."""
    loose = [{"min_accuracy": 0}, {"max_loss": 0.2}]
    return [
        Attempt(_STRONG, "POST", f"/v1/releases/{second.id}/promote", {"force": True}, 403),
        *(Attempt(_STRONG, "POST", _PATH, _asking(kind) | more, 422) for kind, more in product(_updates(), loose)),
    ]


def _updates() -> list[str]:
    """The kinds whose candidate may be promoted at once."""
    return [kind for kind in BODIES if kind.startswith("selector.")]


def _asking(kind: str) -> dict[str, Any]:
    return {"kind": kind, **BODIES[kind], "promote": True}


def _others_jobs(world: World, hands: Hands) -> list[Attempt]:
    """What keys may do with a job that another one submitted, and with a training job by the path of all jobs."""
    owner, reader = frozenset({Scope.SUBMIT, Scope.PROMOTE}), frozenset({Scope.SUBMIT, Scope.READ})
    job_id = hands.of(owner).post("/v1/jobs", json={"input": "x", "label": _KEPT}).json()["id"]
    body = {"kind": "adapter.train", **BODIES["adapter.train"]}
    training = f"/v1/jobs/{hands.of(_TRAIN).post(_PATH, json=body).json()['id']}"
    assert not world.wait_ended([job_id], _PATIENCE_SECONDS)
    job = f"/v1/jobs/{job_id}"
    return [
        Attempt(_SUBMIT, "GET", job, None, 404),
        Attempt(_SUBMIT, "GET", f"{job}/events", None, 404),
        Attempt(_SUBMIT, "DELETE", job, None, 404),
        Attempt(_SUBMIT, "POST", f"{job}/feedback", {"rating": 1}, 404),
        Attempt(_SUBMIT, "DELETE", training, None, 404),
        Attempt(reader, "DELETE", training, None, 403),
        Attempt(_TRAIN, "DELETE", training.replace("/v1/jobs", _PATH), None, 200),
        Attempt(reader, "GET", job, None, 200),
        Attempt(owner, "POST", f"{job}/feedback", {"label": _DROPPED}, 200),
        Attempt(_TRAIN, "GET", "/v1/datasets/feedback", None, 404),  # nobody has reviewed it
    ]


def _promoted_without_scope(world: World, hands: Hands) -> list[str]:
    """Moves of the pointer, and accepted jobs that would move it, by keys that may not."""
    moves = world.registry.releases.promotions(_TENANT)
    found = [f"{move['release']} by {move['by']}" for move in moves if move["key"] != _HARNESS]
    jobs = world.supervisor.ledger.do(
        calls.list_jobs(_TENANT, only=calls.JobFilter(kind=JobKind.TRAIN), limit=200, include=["body"])
    ).jobs
    return found + [job.id for job in jobs if (job.body or {}).get("promote") and not hands.may_promote(job.key)]


PROMISE = Promise(21, "Scopes by every road", plan, prove)
