"""`signalbox k8s group add`."""

import shutil

import pytest

from services.cli.k8s_groups import add_group
from shared.errors import Conflict, Invalid, NotFound
from tests.support.overlays import ROOT, render


@pytest.fixture
def k8s(tmp_path):
    shutil.copytree(ROOT / "monitoring", tmp_path / "monitoring")  # the overlay `keda` reads its rules
    return shutil.copytree(ROOT / "k8s", tmp_path / "k8s")


@pytest.mark.parametrize(("overlay", "kind"), [("keda", "ScaledObject"), ("hpa", "HorizontalPodAutoscaler")])
def test_a_new_group_gets_its_workers_and_its_autoscaler(k8s, overlay, kind):
    add_group(k8s / "overlays" / overlay, "fin-tax", 6)
    before, after = render(overlay), render(overlay, k8s)
    new = [one for one in after if one not in before]
    assert {one["kind"] for one in new} == {"Deployment", "PodDisruptionBudget", kind}
    assert {one["metadata"]["name"] for one in new} == {"adapter-worker-fin-tax"}
    (scaler,) = [one for one in new if one["kind"] == kind]
    assert 6 in (scaler["spec"].get("maxReplicaCount"), scaler["spec"].get("maxReplicas"))
    assert len(after) == len(before) + 3


def test_a_name_that_yaml_would_read_as_something_else_stays_a_name(k8s):
    for name in ("404", "true"):
        add_group(k8s / "overlays" / "keda", name, 2)
    found = {one["metadata"]["labels"].get("signalbox.dev/group") for one in render("keda", k8s).of("Deployment")}
    assert {"404", "true"} <= found


def test_a_group_that_is_there_is_left_alone(k8s):
    with pytest.raises(Conflict, match="is there already"):
        add_group(k8s / "overlays" / "keda", "bank", 2)


@pytest.mark.parametrize("resources", ["resources: [../../base, groups/bank]\n", "resources:\n- ../../base\n"])
def test_resources_that_are_listed_otherwise_are_left_alone_and_the_person_hears_what_to_add(k8s, resources):
    overlay = k8s / "overlays" / "keda"
    (overlay / "kustomization.yaml").write_text(resources)

    with pytest.raises(Invalid, match="add `groups/fin`"):
        add_group(overlay, "fin", 2)

    assert (overlay / "kustomization.yaml").read_text() == resources
    assert not (overlay / "groups" / "fin").exists()


@pytest.mark.parametrize("name", ["under_score", "Upper", "-", "../up", "", "fin\n"])
def test_a_name_that_kubernetes_does_not_take_is_refused(k8s, name):
    with pytest.raises(Invalid):
        add_group(k8s / "overlays" / "keda", name, 2)


@pytest.mark.parametrize("overlay", ["gpu", "elsewhere"])
def test_an_overlay_without_groups_of_its_own_is_refused(k8s, overlay):
    with pytest.raises(NotFound):
        add_group(k8s / "overlays" / overlay, "fin", 2)
