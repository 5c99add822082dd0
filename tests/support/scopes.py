"""Which scopes open which route. The routes themselves come from the app, so that a new one has to have a rule here."""

import re

from fastapi.routing import iter_route_contexts

from services.api.app import create_app
from shared.security.api_keys import Scope
from shared.settings import Settings

OPEN = frozenset({"/openapi.json", "/healthz", "/readyz", "/metrics"})
"""Paths that need no key, beside those under `/docs`."""
_ANY = frozenset(Scope)


def _one_of(*scopes):
    return frozenset({*scopes, Scope.ADMIN})


RULES = {
    ("POST", "/v1/jobs"): _one_of(Scope.SUBMIT),
    ("GET", "/v1/jobs"): _one_of(Scope.SUBMIT, Scope.READ),
    ("GET", "/v1/jobs/{job_id}"): _one_of(Scope.SUBMIT, Scope.READ),
    ("GET", "/v1/jobs/{job_id}/events"): _one_of(Scope.SUBMIT, Scope.READ),
    ("DELETE", "/v1/jobs/{job_id}"): _one_of(Scope.SUBMIT),
    ("POST", "/v1/jobs/{job_id}/feedback"): _one_of(Scope.SUBMIT, Scope.REVIEW),
    ("DELETE", "/v1/jobs/{job_id}/feedback"): _one_of(Scope.REVIEW),
    ("GET", "/v1/jobs/dead"): _one_of(),
    ("DELETE", "/v1/jobs/dead/{job_id}"): _one_of(),
    ("POST", "/v1/jobs/dead/replay"): _one_of(),
    ("POST", "/v1/jobs/{job_id}/replay"): _one_of(),
    ("DELETE", "/v1/jobs/{job_id}/feedback/last"): _one_of(Scope.SUBMIT, Scope.REVIEW),
    ("POST", "/v1/feedback/dataset"): _one_of(Scope.REVIEW),
    ("GET", "/v1/feedback/conflicts"): _one_of(Scope.REVIEW),
    ("GET", "/v1/datasets/{dataset_id}/sources"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/jobs/{job_id}/again"): _one_of(Scope.SUBMIT),
    ("POST", "/v1/select"): _one_of(Scope.SUBMIT),
    ("GET", "/v1/adapters"): _ANY,
    ("POST", "/v1/adapters"): _one_of(Scope.TRAIN),
    ("GET", "/v1/adapters/{ref}"): _ANY,
    ("DELETE", "/v1/adapters/{ref}"): _one_of(Scope.TRAIN),
    ("GET", "/v1/adapters/{ref}/export"): _one_of(Scope.TRAIN),
    ("POST", "/v1/adapters/{ref}/retire"): _one_of(Scope.PROMOTE),
    ("GET", "/v1/datasets"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/datasets"): _one_of(Scope.TRAIN),
    ("GET", "/v1/datasets/{dataset_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("DELETE", "/v1/datasets/{dataset_id}"): _one_of(Scope.TRAIN),
    ("GET", "/v1/corpora"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/corpora"): _one_of(Scope.TRAIN),
    ("GET", "/v1/corpora/{corpus_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/corpora/{corpus_id}/content"): _one_of(Scope.TRAIN, Scope.READ),
    ("DELETE", "/v1/corpora/{corpus_id}"): _one_of(Scope.TRAIN),
    ("POST", "/v1/training/jobs"): _one_of(Scope.TRAIN),
    ("POST", "/v1/training/jobs/estimate"): _one_of(Scope.TRAIN),
    ("GET", "/v1/training/jobs"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/training/jobs/{job_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/training/jobs/{job_id}/events"): _one_of(Scope.TRAIN, Scope.READ),
    ("DELETE", "/v1/training/jobs/{job_id}"): _one_of(Scope.TRAIN),
    ("GET", "/v1/releases"): _ANY,
    ("GET", "/v1/releases/current"): _ANY,
    ("GET", "/v1/releases/{release_id}"): _ANY,
    ("DELETE", "/v1/releases/{release_id}"): _one_of(Scope.PROMOTE),
    ("POST", "/v1/releases/{release_id}/promote"): _one_of(Scope.PROMOTE),
    ("POST", "/v1/releases/rollback"): _one_of(Scope.PROMOTE),
    ("POST", "/v1/releases/{release_id}/rollout"): _one_of(Scope.PROMOTE),
    ("POST", "/v1/rebases"): _one_of(Scope.TRAIN),
    ("GET", "/v1/rebases"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/rebases/{rebase_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/rebases/{rebase_id}/cancel"): _one_of(Scope.TRAIN),
    ("GET", "/v1/rollouts"): _ANY,
    ("GET", "/v1/rollouts/{rollout_id}"): _ANY,
    ("POST", "/v1/rollouts/{rollout_id}/{command}"): _one_of(Scope.PROMOTE),
    ("POST", "/v1/releases/edit"): _one_of(Scope.TRAIN),
    ("POST", "/v1/releases/{release_id}/rebuild"): _one_of(Scope.TRAIN),
    ("POST", "/v1/datasets/check"): _one_of(Scope.TRAIN),
    ("GET", "/v1/templates"): _ANY,
    ("POST", "/v1/templates"): _one_of(),
    ("GET", "/v1/templates/{name}"): _ANY,
    ("DELETE", "/v1/templates/{name}"): _one_of(),
    ("GET", "/v1/models"): _ANY,
    ("GET", "/v1/models/{name:path}"): _ANY,
    ("GET", "/v1/base-models/{pin}"): _ANY,
    ("GET", "/v1/aliases"): _ANY,
    ("PUT", "/v1/aliases"): _one_of(Scope.PROMOTE),
    ("DELETE", "/v1/aliases/{name:path}"): _one_of(Scope.PROMOTE),
    ("GET", "/v1/files"): _one_of(Scope.SUBMIT, Scope.READ, Scope.TRAIN),
    ("POST", "/v1/files"): _one_of(Scope.SUBMIT, Scope.TRAIN),
    ("GET", "/v1/files/{file_id}"): _one_of(Scope.SUBMIT, Scope.READ, Scope.TRAIN),
    ("GET", "/v1/files/{file_id}/content"): _one_of(Scope.SUBMIT, Scope.READ, Scope.TRAIN),
    ("DELETE", "/v1/files/{file_id}"): _one_of(Scope.SUBMIT, Scope.TRAIN),
    ("GET", "/v1/batches"): _one_of(Scope.SUBMIT, Scope.READ),
    ("POST", "/v1/batches"): _one_of(Scope.SUBMIT),
    ("GET", "/v1/batches/{batch_id}"): _one_of(Scope.SUBMIT, Scope.READ),
    ("POST", "/v1/batches/{batch_id}/cancel"): _one_of(Scope.SUBMIT),
    ("GET", "/v1/usage"): _one_of(Scope.SUBMIT, Scope.READ),
    ("GET", "/v1/traffic"): _one_of(Scope.READ),
    ("GET", "/v1/traffic/policy"): _one_of(Scope.READ),
    ("PUT", "/v1/traffic/policy"): _one_of(),
    ("GET", "/v1/traffic/sketches"): _one_of(Scope.READ),
    ("GET", "/v1/proposals"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/proposals/policy"): _one_of(Scope.TRAIN, Scope.READ),
    ("PUT", "/v1/proposals/policy"): _one_of(),
    ("GET", "/v1/proposals/{proposal_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/proposals/{proposal_id}/confirm"): _one_of(Scope.TRAIN),
    ("POST", "/v1/proposals/{proposal_id}/dismiss"): _one_of(Scope.TRAIN),
    ("GET", "/v1/audit"): _one_of(Scope.READ),
    ("POST", "/v1/users/forget"): _one_of(Scope.SUBMIT),
    ("POST", "/v1/chat/completions"): _one_of(Scope.SUBMIT),
    ("POST", "/v1/completions"): _one_of(Scope.SUBMIT),
    ("GET", "/v1/webhook_event_types"): _one_of(),
    ("POST", "/v1/fine_tuning/jobs"): _one_of(Scope.TRAIN),
    ("GET", "/v1/fine_tuning/jobs"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): _one_of(Scope.TRAIN, Scope.READ),
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): _one_of(Scope.TRAIN),
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): _one_of(Scope.TRAIN, Scope.READ),
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): _one_of(Scope.TRAIN, Scope.READ),
}
for _prefix in ("/v1/webhooks", "/v1/webhook_endpoints"):
    RULES |= {
        ("POST", _prefix): _one_of(),
        ("GET", _prefix): _one_of(),
        ("GET", f"{_prefix}/{{endpoint_id}}"): _one_of(),
        ("POST", f"{_prefix}/{{endpoint_id}}"): _one_of(),
        ("DELETE", f"{_prefix}/{{endpoint_id}}"): _one_of(),
        ("POST", f"{_prefix}/{{endpoint_id}}/rotate_secret"): _one_of(),
        ("POST", f"{_prefix}/{{endpoint_id}}/test"): _one_of(),
        ("GET", f"{_prefix}/{{endpoint_id}}/deliveries"): _one_of(),
        ("POST", f"{_prefix}/{{endpoint_id}}/deliveries/{{delivery_id}}/replay"): _one_of(),
    }


def keyed_routes():
    """Every method and path of the app that needs a key."""
    found = set()
    for route in iter_route_contexts(create_app(Settings(console=False)).routes):
        if route.path not in OPEN and not route.path.startswith("/docs"):
            found |= {(method, route.path) for method in route.methods - {"HEAD"}}
    return found


def sample_path(template):
    """The path with `x` in place of every name."""
    return re.sub(r"\{[\w:]+\}", "x", template)
