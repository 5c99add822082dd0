"""What the Compose files promise, read from the files: no Docker needed."""

import re
from pathlib import Path

import pytest
import yaml

from shared.settings import Settings

ROOT = Path(__file__).parents[2]
OWN = {"api", "selector", "worker-bank", "worker-travel", "trainer"}
BESIDE_SETTINGS = {"SIGNALBOX_SECRETS_DIR", "SIGNALBOX_API_URL", "SIGNALBOX_API_KEY"}


class Loader(yaml.SafeLoader):
    """Knows Compose's own tag."""


Loader.add_constructor("!reset", lambda *_: None)


def read(name):
    return yaml.load((ROOT / name).read_text(), Loader)


@pytest.fixture(scope="module")
def services():
    return read("docker-compose.yml")["services"]


def test_every_variable_is_a_setting_that_exists(services):
    given = {name for service in services.values() for name in service.get("environment", {})}
    ours = {name for name in given if name.startswith("SIGNALBOX_")} - BESIDE_SETTINGS
    assert {name.removeprefix("SIGNALBOX_").lower() for name in ours} - set(Settings.model_fields) == set()
    assert len(ours) > 5


def test_both_redis_write_every_job_down_and_throw_none_away(services):
    for name, fsync in (("ledger", "always"), ("broker", "everysec")):
        command = services[name]["command"]
        assert f"--appendonly yes --appendfsync {fsync} " in command
        assert "--maxmemory-policy noeviction" in command
        assert "--aclfile /run/secrets/users.acl " in command


def test_each_service_gets_the_secrets_of_its_own_user_alone(services):
    for name, service in services.items():
        mounted = [str(volume).partition(":")[0] for volume in service.get("volumes", []) if "-secrets:" in str(volume)]
        account = {"bucket": "operator", "cli": "operator"}.get(name, name.partition("-")[0])
        assert name == "secrets" or set(mounted) <= {f"{account}-secrets"}, name


def test_the_image_of_the_command_line_has_a_folder_for_each_volume_it_gives_an_owner(services):
    folders = re.search(r"install -d (.*?)\n(?!  )", (ROOT / "services/cli/Dockerfile").read_text(), re.DOTALL)[
        1
    ].split()
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
        assert name == "api" or after["models"] == "service_completed_successfully"


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
    assert asked == OWN


def test_the_gpu_file_reaches_every_service_with_torch():
    changed = read("docker-compose.gpu.yml")["services"]
    assert set(changed) == OWN - {"api"} | {"models"}
    assert all(service["build"]["args"]["TORCH_SOURCE"] == "" for service in changed.values())


@pytest.mark.parametrize("folder", ["api", "selector", "adapter_worker", "trainer"])
def test_each_image_holds_one_service_and_its_own_extra(folder):
    lines = (ROOT / "services" / folder / "Dockerfile").read_text()
    copied = re.findall(r"^COPY services/(\w+) ", lines, re.MULTILINE)
    extras = set(re.findall(r"\[([\w,]+)\]['\"]", lines)) - {"model"}
    own = {"adapter_worker": "worker", "trainer": "trainer,metrics"}.get(folder, folder)
    assert (copied, extras) == ([folder], {f"{own},tracing"})
    assert "\nUSER 10001:10001\n" in lines
