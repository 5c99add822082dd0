"""Where a request goes, decided by the release alone."""

import pytest

from services.api.infra.current_release import CurrentRelease
from services.api.jobs.accept import check_sizes, generation_job, named_label
from services.api.jobs.schemas import JobRequest
from shared.contracts.jobs import JobState
from shared.contracts.manifests import Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.errors import Conflict, Invalid
from shared.settings import Settings


def release_of(labels, *, selector=True):
    entries = {
        label: ReleaseLabel(adapter=digest * 64, ref=f"{label}@1", group=group, template="chatml", instruction="")
        for label, (digest, group) in labels.items()
    }
    return Release(
        tenant_id="t",
        base_model="tiny",
        labels=entries,
        selector=ReleaseSelector(llm="s", labels=tuple(labels)) if selector else None,
        base_group="g",
        verdict=Verdict(passed=True, reasons=()),
    )


RELEASE = release_of({"fin.sa": ("a", "money"), "med.qa": ("b", "health")})
CURRENT = CurrentRelease(RELEASE.id, RELEASE)


def test_a_named_label_goes_to_its_group_whatever_the_group_is_called():
    job = generation_job("j", "t", JobRequest(input="x", label="fin.sa"), CURRENT, Settings())
    assert (job.queue, job.state, job.label) == ("generate.money", JobState.ROUTED, "fin.sa")


def test_an_unnamed_request_goes_to_the_selector():
    job = generation_job("j", "t", JobRequest(input="x"), CURRENT, Settings())
    assert (job.queue, job.state, job.label) == ("select", JobState.QUEUED, "")


def test_an_adapter_names_its_label():
    assert named_label(JobRequest(input="x", adapter="b" * 64), RELEASE) == "med.qa"
    assert named_label(JobRequest(input="x", adapter="med.qa@1"), RELEASE) == "med.qa"


def test_without_a_selector_a_label_must_be_named():
    plain = release_of({"fin.sa": ("a", "money")}, selector=False)
    with pytest.raises(Conflict, match="name a label"):
        generation_job("j", "t", JobRequest(input="x"), CurrentRelease(plain.id, plain), Settings())


def test_many_labels_are_not_all_listed():
    many = release_of({f"d.t{number}": ("a", "g") for number in range(50)})
    with pytest.raises(Invalid, match="and 30 more"):
        named_label(JobRequest(input="x", label="no.no"), many)


def test_the_same_request_has_the_same_fingerprint_under_every_release():
    ask = JobRequest(input="x", label="fin.sa", metadata={"a": "b"})
    other = release_of({"fin.sa": ("c", "elsewhere")})
    currents = (CURRENT, CurrentRelease(other.id, other))
    first, second = (generation_job("j", "t", ask, current, Settings()) for current in currents)
    assert first.fingerprint == second.fingerprint
    assert first.release != second.release


def test_a_deployment_bounds_input_and_output():
    settings = Settings(max_input_chars=10, max_new_tokens_limit=5)
    check_sizes(settings, "x" * 10, 5)
    with pytest.raises(Invalid, match="11 characters, at most 10"):
        check_sizes(settings, "x" * 11)
    with pytest.raises(Invalid, match="5 at most"):
        check_sizes(settings, "x", 6)
