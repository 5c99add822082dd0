"""What the rendered objects promise, and that they fit each other and the settings."""

import re

from services.cli.local.redis_acl import ACCOUNTS
from services.cli.local.secrets import write_passwords
from shared.names import TRAIN_QUEUE, generate_queue
from shared.settings import Settings
from tests.support.overlays import ROOT, render

GROUPS = {"bank", "base", "travel"}
MODEL_LOAD_SECONDS = 300
BESIDE_SETTINGS = {"SIGNALBOX_SECRETS_DIR"}


def group_deployments(objects):
    found = {}
    for one in objects.of("Deployment"):
        group = one["spec"]["template"]["metadata"]["labels"].get("signalbox.dev/group")
        if group:
            found.setdefault(group, []).append(one)
    return found


def test_each_group_has_one_deployment_one_budget_and_one_autoscaler(scaled):
    deployments = group_deployments(scaled)
    assert set(deployments) == GROUPS
    for group, (deployment,) in deployments.items():
        name = deployment["metadata"]["name"]
        scalers = [
            one
            for one in scaled.of("HorizontalPodAutoscaler", "ScaledObject")
            if one["spec"]["scaleTargetRef"]["name"] == name
        ]
        budgets = [
            one
            for one in scaled.of("PodDisruptionBudget")
            if one["spec"]["selector"]["matchLabels"].get("signalbox.dev/group") == group
        ]
        assert (len(scalers), len(budgets)) == (1, 1), group
        assert "replicas" not in deployment["spec"], "an apply would undo the autoscaler"


def test_a_groups_workers_consume_its_queue_and_no_other(scaled):
    for group, (deployment,) in group_deployments(scaled).items():
        assert deployment["spec"]["selector"]["matchLabels"]["signalbox.dev/group"] == group
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        (groups,) = [env for env in container["env"] if env["name"] == "SIGNALBOX_GROUPS"]
        assert groups["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['signalbox.dev/group']"
        assert "SIGNALBOX_GROUPS" not in scaled.settings()


def test_keda_counts_waiting_and_running_jobs_of_the_groups_own_queue(keda):
    for group, (deployment,) in group_deployments(keda).items():
        (scaler,) = [
            one
            for one in keda.of("ScaledObject")
            if one["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        ]
        (trigger,) = scaler["spec"]["triggers"]
        assert metrics_and_queues(trigger) == counted(generate_queue(group))
        assert int(trigger["metadata"]["threshold"]) == Settings().worker_slots
        assert scaler["spec"]["minReplicaCount"] == 0


def metrics_and_queues(trigger):
    return set(re.findall(r'max\((\w+)\{queue="([^"]+)"\}\)', trigger["metadata"]["query"]))


def counted(queue):
    return {("signalbox_queue_waiting", queue), ("signalbox_queue_running", queue)}


def test_the_metrics_that_keda_asks_for_are_those_that_the_api_exports(keda):
    exported = (ROOT / "services" / "api" / "infra" / "metrics.py").read_text()
    asked = {metric for one in keda.of("ScaledObject") for metric, _ in metrics_and_queues(one["spec"]["triggers"][0])}
    assert all(f'_queue_gauge("{metric.removeprefix("signalbox_queue_")}"' in exported for metric in asked)
    (prometheus,) = {one["spec"]["triggers"][0]["metadata"]["serverAddress"] for one in keda.of("ScaledObject")}
    name, namespace, port = re.match(r"http://([\w-]+)\.([\w-]+)\.svc:(\d+)", prometheus).groups()
    (service,) = [one for one in keda.of("Service") if one["metadata"]["name"] == name]
    assert (service["metadata"]["namespace"], service["spec"]["ports"][0]["port"]) == (namespace, int(port))


def test_training_has_one_way_to_run(objects):
    (one,) = [one for one in objects.of("Deployment", "ScaledJob") if one["metadata"]["name"] == "trainer"]
    if one["kind"] == "ScaledJob":
        template = one["spec"]["jobTargetRef"]["template"]["spec"]
        assert template["containers"][0]["args"] == ["python", "-m", "services.trainer", "--once"]
        assert template["restartPolicy"] == "Never"
        assert metrics_and_queues(one["spec"]["triggers"][0]) == counted(TRAIN_QUEUE)


def test_a_training_jobs_pod_is_the_trainers(keda):
    (job,) = keda.of("ScaledJob")
    (deployment,) = [one for one in render("hpa").of("Deployment") if one["metadata"]["name"] == "trainer"]
    pod, usual = job["spec"]["jobTargetRef"]["template"]["spec"], deployment["spec"]["template"]["spec"]
    same = ("serviceAccountName", "priorityClassName", "securityContext", "initContainers")
    assert {name: pod[name] for name in same} == {name: usual[name] for name in same}
    assert [volume for volume in pod["volumes"] if volume["name"] != "shm"] == usual["volumes"]
    assert pod["containers"][0]["image"] == usual["containers"][0]["image"]


def test_every_variable_is_a_setting_that_exists_and_takes_its_value(objects):
    names = set(objects.settings())
    for _, container in objects.containers():
        names |= {env["name"] for env in container.get("env", []) if env["name"].startswith("SIGNALBOX_")}
    assert {name.removeprefix("SIGNALBOX_").lower() for name in names - BESIDE_SETTINGS} - set(
        Settings.model_fields
    ) == set()
    values = {name.removeprefix("SIGNALBOX_").lower(): value for name, value in objects.settings().items()}
    Settings(**values)


def test_images_are_those_that_are_built_here_or_pinned(objects):
    built = {"api", "cli", "models", "selector", "worker", "trainer"}
    for name, container in objects.containers():
        image, _, tag = container["image"].partition(":")
        assert tag, name
        if image.startswith("signalbox/"):
            assert image.removeprefix("signalbox/") in built, name
        else:
            assert re.search(r"\d", tag), name


def test_ports_are_those_of_the_settings(objects):
    settings = objects.settings()
    ours = [container for name, container in objects.containers() if not name.startswith("prometheus/")]
    ports = {port["name"]: port["containerPort"] for container in ours for port in container.get("ports", [])}
    assert ports == {
        "http": int(settings["SIGNALBOX_API_PORT"]),
        "metrics": int(settings["SIGNALBOX_METRICS_PORT"]),
        "redis": 6379,
        "s3": 9000,
    }
    assert settings["SIGNALBOX_S3_URL"] == "http://s3:9000"
    assert settings["SIGNALBOX_S3_REGION"] == "", "the server names it, unless an operator does"


def test_everything_that_serves_is_probed_and_may_load_a_model_first(objects):
    for kind, name, template in objects.pods():
        container, *beside = template["spec"]["containers"]
        assert [one["name"] for one in beside] in ([], ["vllm"]), name
        if kind == "Job":
            continue
        named = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert "exec" in container[probe] or container[probe]["httpGet"]["port"] in named, (name, probe)
        startup = container["startupProbe"]
        if "metrics" in named:
            assert startup["periodSeconds"] * startup["failureThreshold"] >= MODEL_LOAD_SECONDS, name
            # A process that is not ready, because it serves another base model than a release needs, is not restarted.
            assert startup["httpGet"]["path"] == "/livez", name


def test_pods_are_given_longer_to_end_than_they_take_to_drain(objects):
    drain_seconds = int(objects.settings()["SIGNALBOX_DRAIN_SECONDS"])
    for kind, name, template in objects.pods():
        if kind != "Job" and "signalbox.dev/metrics" in template["metadata"]["labels"]:
            assert template["spec"]["terminationGracePeriodSeconds"] >= drain_seconds + 20, name
    (api,) = [template for _, name, template in objects.pods() if name == "api"]
    assert api["spec"]["containers"][0]["lifecycle"]["preStop"]


def test_every_pod_keeps_to_the_restricted_standard(objects):
    (namespace,) = objects.of("Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for _, name, template in objects.pods():
        pod = template["spec"]["securityContext"]
        assert pod["runAsNonRoot"], name
        assert pod["runAsUser"] > 0, name
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(template["spec"]), name
        kinds = {kind for volume in template["spec"].get("volumes", []) for kind in set(volume) - {"name"}}
        assert kinds <= {"emptyDir", "secret", "configMap", "persistentVolumeClaim"}, name
    for name, container in objects.containers():
        held = container["securityContext"]
        assert held["allowPrivilegeEscalation"] is False, name
        assert held["readOnlyRootFilesystem"] is True, name
        assert held["capabilities"] == {"drop": ["ALL"]}, name


def test_no_pod_holds_a_token_of_the_cluster(objects):
    accounts = {one["metadata"]["name"]: one for one in objects.of("ServiceAccount")}
    assert all(one["automountServiceAccountToken"] is False for one in accounts.values())
    for _, name, template in objects.pods():
        assert template["spec"]["serviceAccountName"] in accounts, name
        assert template["spec"]["automountServiceAccountToken"] is False, name


def test_requests_and_limits_are_stated_and_priorities_exist(objects):
    classes = {one["metadata"]["name"] for one in objects.of("PriorityClass")}
    for name, container in objects.containers():
        assert {"cpu", "memory"} <= set(container["resources"]["requests"]), name
        assert "memory" in container["resources"]["limits"], name
    used = {t["spec"].get("priorityClassName") for kind, _, t in objects.pods() if kind != "Job"}
    assert used == classes


def test_what_is_mounted_exists(objects, tmp_path):
    """Secrets are those that `signalbox secrets` writes, the folders' names with `-secrets` behind."""
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    secrets = {f"{folder.name}-secrets" for folder in tmp_path.iterdir()}
    maps = {one["metadata"]["name"] for one in objects.of("ConfigMap")}
    claims = {one["metadata"]["name"] for one in objects.of("PersistentVolumeClaim")}
    for kind, name, template in objects.pods():
        volumes = {volume["name"]: volume for volume in template["spec"].get("volumes", [])}
        templates = {"data"} if kind == "StatefulSet" else set()
        for container in (*template["spec"].get("initContainers", []), *template["spec"]["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes) | templates, name
            assert all(source["configMapRef"]["name"] in maps for source in container.get("envFrom", [])), name
        assert {v["secret"]["secretName"] for v in volumes.values() if "secret" in v} <= secrets, name
        assert {v["configMap"]["name"] for v in volumes.values() if "configMap" in v} <= maps, name
        assert {
            v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v
        } <= claims


def test_the_addresses_in_the_secrets_are_services(objects, tmp_path):
    write_passwords(tmp_path, ledger="ledger:6379", broker="broker:6379")
    services = {one["metadata"]["name"]: one["spec"]["ports"][0]["port"] for one in objects.of("Service")}
    for name in ("ledger", "broker"):
        setting = {"ledger": "redis_url"}.get(name, f"{name}_url")
        for account in ACCOUNTS:
            assert f"@{name}:{services[name]}/" in (tmp_path / account / f"signalbox_{setting}").read_text()


def test_each_service_gets_the_secrets_of_its_own_user_alone(objects):
    for kind, name, template in objects.pods():
        mounted = {v["secret"]["secretName"] for v in template["spec"].get("volumes", []) if "secret" in v}
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        own = {"bucket": "operator", "adapter-worker": "worker", "api-worker": "api"}.get(component, component)
        assert mounted <= {f"{own}-secrets"}, (kind, name)


def selects(selector, labels):
    wanted = selector.get("matchLabels", {})
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for rule in selector.get("matchExpressions", []):
        fits = {"Exists": rule["key"] in labels, "In": labels.get(rule["key"]) in rule.get("values", [])}
        if not fits[rule["operator"]]:
            return False
    return True


def test_every_selector_finds_a_pod(objects):
    labels = [template["metadata"]["labels"] for _, _, template in objects.pods()]
    for one in objects.of("NetworkPolicy"):
        assert any(selects(one["spec"]["podSelector"], pod) for pod in labels), one["metadata"]["name"]
    for one in objects.of("PodDisruptionBudget"):
        assert any(selects(one["spec"]["selector"], pod) for pod in labels), one["metadata"]["name"]
    for one in objects.of("Service"):
        assert any(selects({"matchLabels": one["spec"]["selector"]}, pod) for pod in labels), one["metadata"]["name"]


def test_only_pods_that_need_the_servers_reach_them_and_only_models_leave_the_cluster(objects):
    (deny,) = [one for one in objects.of("NetworkPolicy") if one["metadata"]["name"] == "deny-all"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_ended = [
        one["metadata"]["name"]
        for one in objects.of("NetworkPolicy")
        if any("to" not in rule for rule in one["spec"].get("egress", []))
    ]
    assert open_ended == ["models-from-hub"]
    for kind, name, template in objects.pods():
        secrets = [volume.get("secret", {}).get("secretName") for volume in template["spec"].get("volumes", [])]
        uses = any(f"{account}-secrets" in secrets for account in ACCOUNTS)
        assert uses == ("signalbox.dev/uses-servers" in template["metadata"]["labels"]), (kind, name)


def test_both_redis_write_every_job_down_and_throw_none_away(objects):
    for name, fsync in (("ledger", "always"), ("broker", "everysec")):
        (one,) = [one for one in objects.of("StatefulSet") if one["metadata"]["name"] == name]
        (container,) = one["spec"]["template"]["spec"]["containers"]
        options = dict(zip(container["args"][1::2], container["args"][2::2], strict=True))
        assert options["--aclfile"].endswith("/users.acl")
        assert (options["--appendonly"], options["--appendfsync"]) == ("yes", fsync)
        assert options["--maxmemory-policy"] == "noeviction"
