"""What is stored keeps its names, whatever the code calls them."""

from shared.contracts.manifests import Release

STORED = (
    '{"tenant_id":"default","base_model":"tiny","labels":{"fin.sa":{"adapter":"a","ref":"fin.sa@1","group":"fin",'
    '"template":"chatml","instruction":""}},"selector":{"light":"l","llm":"m","labels":["fin.sa"],"sure":0.8,'
    '"floor":0.1},"verdict":{"passed":true,"reasons":[]},"created_at":"2026-11-01T00:00:00+00:00"}'
)


def test_a_release_from_before_the_thresholds_were_renamed_has_its_id_and_its_fields():
    release = Release.model_validate_json(STORED)
    assert release.id == "rel_66bca7f8103e8149"
    assert (release.selector.cascade_threshold, release.selector.conformal_threshold) == (0.8, 0.1)
    assert {"sure", "floor"} < set(release.model_dump(mode="json")["selector"])
