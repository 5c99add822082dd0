"""The rendered objects against the schemas of Kubernetes 1.28 to 1.33 and of KEDA."""

import jsonschema
import kubernetes_validate
import pytest

from tests.k8s.keda_schema import SCHEMAS

VERSIONS = ["1.28", "1.29", "1.30", "1.31", "1.32", "1.33"]


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field(objects, version):
    for one in objects:
        if not one["apiVersion"].startswith("keda.sh/"):
            kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_knows_every_field_of_a_training_job(keda, version):
    (scaled,) = keda.of("ScaledJob")
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": scaled["metadata"],
        "spec": scaled["spec"]["jobTargetRef"],
    }
    kubernetes_validate.validate(job, version, strict=True)


def test_keda_knows_every_field(keda):
    ours = keda.of(*SCHEMAS)
    assert {one["kind"] for one in ours} == set(SCHEMAS)
    for one in ours:
        jsonschema.validate(one, SCHEMAS[one["kind"]])
