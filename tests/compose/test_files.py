"""What the Compose files promise, read from the files: no Docker needed."""

import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from shared.settings import Settings

ROOT = Path(__file__).parents[2]
OWN = {"api", "api-worker", "selector", "worker-bank", "worker-travel", "trainer"}
IMAGES = {"api", "selector", "worker", "trainer", "cli", "models"}
BESIDE_SETTINGS = {"SIGNALBOX_SECRETS_DIR", "SIGNALBOX_API_URL", "SIGNALBOX_API_KEY"}


class Loader(yaml.SafeLoader):
    """Knows Compose's own tag."""


Loader.add_constructor("!reset", lambda *_: None)


def read(name):
    return yaml.load((ROOT / name).read_text(), Loader)


class Stage(NamedTuple):
    """One stage of the Dockerfile: what it is built from, its instructions."""

    parent: str
    text: str


def stages():
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)[1:]
    return {name: Stage(parent, text) for parent, name, text in zip(*[iter(parts)] * 3, strict=True)}


def whole(name):
    """The instructions of a stage and of all it is built from, the oldest first."""
    known = stages()
    return whole(known[name].parent) + known[name].text if name in known else ""


@pytest.fixture(scope="module")
def services():
    return read("docker-compose.yml")["services"]


def test_every_variable_is_a_setting_that_exists(services):
    given = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name for name in given if name.startswith("SIGNALBOX_")} - BESIDE_SETTINGS
    assert {name.removeprefix("SIGNALBOX_").lower() for name in ours} - set(Settings.model_fields) == set()
    assert len(ours) > 5


def test_every_process_that_uses_the_object_store_is_told_its_region(services):
    users = [s["environment"] for s in services.values() if "SIGNALBOX_S3_URL" in s.get("environment", {})]
    assert len(users) == len(OWN) + 3
    assert {user["SIGNALBOX_S3_REGION"] for user in users} == {"${SIGNALBOX_S3_REGION:-}"}


def test_both_redis_write_every_job_down_and_throw_none_away(services):
    for name, fsync in (("ledger", "always"), ("broker", "everysec")):
        command = services[name]["command"]
        assert f"--appendonly yes --appendfsync {fsync} " in command
        assert "--maxmemory-policy noeviction" in command
        assert "--aclfile /run/secrets/users.acl " in command


def test_each_service_gets_the_secrets_of_its_own_user_alone(services):
    for name, service in services.items():
        mounted = [str(volume).partition(":")[0] for volume in service.get("volumes", []) if "-secrets:" in str(volume)]
        account = {"bucket": "operator", "cli": "operator", "evaluate": "operator"}.get(name, name.partition("-")[0])
        assert name == "secrets" or set(mounted) <= {f"{account}-secrets"}, name


def test_the_image_of_the_command_line_has_a_folder_for_each_volume_it_gives_an_owner(services):
    folders = re.search(r"install -d (.*?)\n(?!  )", stages()["cli"].text, re.DOTALL)[1].split()
    for volume in services["secrets"]["volumes"]:
        assert volume.split(":")[1].removeprefix("/") in folders, volume


def test_each_group_has_one_worker(services):
    named = [s["environment"].get("SIGNALBOX_GROUPS", "") for s in services.values() if "environment" in s]
    groups = [group for names in named for group in names.split(",") if group]
    assert sorted(groups) == ["bank", "base", "travel"]


def test_no_container_has_more_rights_than_it_needs(services):
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service["user"].startswith(("0", "root")), name


def test_everything_is_started_after_what_it_needs_is_healthy(services):
    assert all("healthcheck" in service for service in services.values() if service["restart"] != "no")
    for name in OWN:
        after = {other: how["condition"] for other, how in services[name]["depends_on"].items()}
        assert after["ledger"] == after["broker"] == "service_healthy"
        assert after["bucket"] == "service_completed_successfully"
        assert name in ("api", "api-worker") or after["models"] == "service_completed_successfully"


def test_services_are_given_longer_to_end_than_they_take_to_drain(services):
    for name in OWN - {"api"}:
        drain_seconds = int(re.search(r"\d+", services[name]["environment"]["SIGNALBOX_DRAIN_SECONDS"])[0])
        assert int(services[name]["stop_grace_period"].rstrip("s")) > drain_seconds


def test_only_the_edge_is_published_and_on_loopback(services):
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert set(published) == {"api", "prometheus"}
    assert all(":-127.0.0.1:" in port for ports in published.values() for port in ports)
    assert {name for name, service in services.items() if "outside" in service.get("networks", [])} == {
        *published,
        "models",
    }


def test_no_image_is_left_to_chance(services):
    others = [s["image"] for s in services.values() if not s["image"].startswith("signalbox/")]
    others.append(read("docker-compose.seaweedfs.yml")["services"]["s3"]["image"])
    assert all(re.search(r":[^:]*\d", image) for image in others)


def test_prometheus_asks_every_service(services):
    config = yaml.safe_load((ROOT / "monitoring" / "prometheus.yml").read_text())
    asked = {name for job in config["scrape_configs"] for found in job["dns_sd_configs"] for name in found["names"]}
    assert asked == {name for name in OWN if not name.startswith("worker-")} | {"workers"}
    for name in OWN - asked:
        assert services[name]["networks"] == {"inside": {"aliases": ["workers"]}}


def test_the_gpu_file_reaches_every_service_with_torch():
    changed = read("docker-compose.gpu.yml")["services"]
    assert set(changed) == OWN - {"api", "api-worker"} | {"models", "evaluate"}
    assert all(service["build"]["args"]["TORCH_SOURCE"] == "" for service in changed.values())


@pytest.mark.parametrize(
    ("image", "held", "extras"),
    [
        ("api", ["api"], {"api", "tracing"}),
        ("selector", ["selector"], {"model", "selector", "tracing"}),
        ("worker", ["adapter_worker"], {"model", "worker", "tracing"}),
        ("trainer", ["cli", "trainer"], {"model", "trainer", "metrics", "qlora", "tracing", "cli"}),
        ("cli", ["cli"], {"cli"}),
    ],
)
def test_each_image_holds_its_services_and_their_own_extras(image, held, extras):
    assert re.findall(r"^COPY services/(\w+) ", whole(f"{image}-code"), re.MULTILINE) == held
    assert ("COPY clients/python" in whole(f"{image}-code")) is ("cli" in held)
    packages = whole({"api": "api-packages", "cli": "cli-packages"}.get(image, "model-packages")) + whole(image)
    installed = re.findall(r"\[([a-z,]+)(?:\$\{EXTRAS:\+,\$EXTRAS\})?\]['\"]", packages)
    assert set(",".join(installed).split(",")) == extras
    sources = re.findall(r"from=(\w+)-code", whole(image) + whole(f"{image}-venv"))
    assert sources == [image]


def test_selector_and_trainer_can_be_built_with_the_same_extras_and_without_any(services):
    taking = {image for image in IMAGES if "${EXTRAS:+,$EXTRAS}" in stages()[image].text}
    assert taking == {image for image in IMAGES if "\nARG EXTRAS=\n" in f"\n{stages()[image].text}"}
    assert taking == {"selector", "trainer"}
    arguments = {name: service.get("build", {}).get("args", {}) for name, service in services.items()}
    given = {name: args["EXTRAS"] for name, args in arguments.items() if "EXTRAS" in args}
    assert given == dict.fromkeys(("selector", "trainer", "evaluate"), "${EXTRAS:-}")
    readers = (services[name]["env_file"] for name in ("selector", "trainer", "evaluate"))
    assert all(files == [{"path": "signalbox.env", "required": False}] for files in readers)  # SIGNALBOX_ENCODER


def test_every_image_is_a_target_that_runs_as_nobody_in_particular(services):
    built = {service["build"]["target"] for service in services.values() if "build" in service}
    assert built == IMAGES
    for image in IMAGES:
        assert re.findall(r"^USER (.*)$", whole(image), re.MULTILINE)[-1] == "10001:10001", image


def test_a_selector_can_be_evaluated_in_a_container_as_the_documentation_says(services):
    evaluate = services["evaluate"]
    assert evaluate["image"] == services["trainer"]["image"]
    assert evaluate["build"]["target"] == "trainer"
    assert evaluate["entrypoint"] == ["signalbox", "evaluate"]
    assert evaluate["profiles"] == ["tools"]
    mounted = {str(volume).split(":")[1] for volume in evaluate["volumes"]}
    assert mounted == {"/data", "/models", "/run/secrets"}
    assert (
        'docker compose run --rm -v "$ROWS:/rows:ro" evaluate selector --data /rows'
        in (ROOT / "docs" / "operations.md").read_text()
    )
