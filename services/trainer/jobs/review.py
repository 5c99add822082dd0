"""The job `traffic.review`: the newest windows of the traffic log, compared with the current release's reference."""

from typing import TYPE_CHECKING, Any

from services.trainer.context import TrainingContext
from services.trainer.selector.data import stored_sets
from shared.contracts.manifests import Release
from shared.contracts.reviews import ReviewResult, TrafficReview
from shared.errors import Conflict
from shared.model.prototypes import Reading

if TYPE_CHECKING:
    from services.trainer.traffic.cut import Cut

ReviewContext = TrainingContext[TrafficReview]


def review_traffic(context: ReviewContext) -> dict[str, Any]:
    """Review the log up to its end at the first attempt; where there is nothing to compare, the result says why.

    Raises `Conflict` `no_release`, `NotFound`, `Unavailable`.
    """
    pinned = context.checkpoints().once("review", lambda: _pinned(context))
    release = context.registry.releases.get(context.job.tenant_id, pinned["release"])
    return _reviewed(context, release, tuple(pinned["until"])).model_dump(mode="json")


def _pinned(context: ReviewContext) -> dict[str, Any]:
    registry, tenant_id = context.registry, context.job.tenant_id
    release = registry.releases.current_id(tenant_id)
    if not release:
        raise Conflict("no_release", "there is no current release to review traffic of: promote one first")
    parts = registry.traffic.parts(tenant_id)
    return {"release": release, "until": parts[-1].last if parts else (0, 0)}


def _reviewed(context: ReviewContext, release: Release, until: tuple[int, int]) -> ReviewResult:
    from services.trainer.traffic.cut import cut
    from services.trainer.traffic.readers import models_at_hand
    from services.trainer.traffic.review import Known, review
    from services.trainer.traffic.window import Request

    body, registry = context.body, context.registry
    if release.selector is None:
        return _nothing(release, "the current release has no selector, so it selects nothing: train one first")
    context.report("reading_traffic")
    rows = cut(registry.traffic, context.job.tenant_id, release, until, window=body.window, most=body.windows)
    if not (rows.windows or rows.first):
        return _nothing(release, _too_few(rows, body.window))
    context.check()
    context.report("comparing_traffic", windows=len(rows.windows), rows=sum(map(len, rows.windows)))
    threshold = release.selector.threshold
    judged = [Request.judged(row, threshold) for row in registry.datasets.judged_rows(release)]
    known = Known(*stored_sets(context, release), judged)
    clients = context.clients
    reading = Reading(lambda: clients.base_folder, clients.encoder_folder, check=context.check)
    return review(
        release.id, rows, known, body.windows_a_month, models=lambda: models_at_hand(reading), check=context.check
    )


def _nothing(release: Release, note: str) -> ReviewResult:
    return ReviewResult(release=release.id, notes=(note,))


def _too_few(rows: "Cut", window: int) -> str:
    if not rows.recent:
        return (
            "the traffic log has no request that the current release's selector read: keep a log "
            "(`signalbox traffic policy --on`), let requests come, then review"
        )
    seen = len(rows.recent)
    return f"only {seen} requests are logged since the release: review again when there are {window} requests"
