"""A plan as a Compose file beside docker-compose.yml: a vLLM server for each worker, cards by their numbers."""

import copy
from typing import Any

import yaml

from services.cli.gpu.plan import Plan, Server

_HEAD = """\
# Written by `signalbox gpu plan{command}`: a vLLM server for each worker, cards by their numbers. See docs/gpu.md.
#   docker compose -f docker-compose.yml -f docker-compose.vllm.yml up --build --wait

# A server sees the base model and its worker's adapters, both read-only, as another user of the worker's group. Nobody
# but that worker reaches it, because it loads any folder that it can read.
x-server: &server
  image: ${{VLLM_IMAGE:-{image}}}
  entrypoint: [python3, -m, vllm.entrypoints.openai.api_server]
  user: "10002:10001"
  read_only: true
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  init: true
  pids_limit: 4096
  restart: unless-stopped
  environment:
    VLLM_ALLOW_RUNTIME_LORA_UPDATING: "True"
    VLLM_NO_USAGE_STATS: "1"
    HF_HUB_OFFLINE: "1"
    USER: vllm  # of whom the image's list of users knows nothing
    HOME: /tmp
    VLLM_CACHE_ROOT: /tmp/vllm
    TRITON_CACHE_DIR: /tmp/triton
    TORCHINDUCTOR_CACHE_DIR: /tmp/inductor
  tmpfs: ["/tmp:mode=1777,size=8g,exec"]  # compiled kernels are loaded from there
  shm_size: 2gb
  stop_grace_period: 30s
  depends_on:
    models: {{condition: service_completed_successfully}}
  healthcheck:
    test: [CMD, python3, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8001/health', timeout=5)"]
    interval: 15s
    timeout: 10s
    retries: 4
    start_period: 30m  # a large model from a slow disk, and its graphs
    start_interval: 5s

x-engine: &engine
  SIGNALBOX_ENGINE: vllm
  SIGNALBOX_CACHE_FOLDER: /cache

# A worker waits for its server, and says nothing until it is there.
x-patience: &patience
  healthcheck: {{start_period: 30m}}
"""
_CUDA = """
x-cuda: &cuda
  args: {TORCH_SOURCE: ""}  # PyPI's torch, which brings CUDA
"""
_SERVER = """
  vllm-{name}:
    <<: *server
    command: >-
      --model /models/${{SIGNALBOX_BASE_MODEL:-smollm2}} --served-model-name base --host 0.0.0.0 --port 8001
      --dtype bfloat16 --max-model-len {longest} --max-num-seqs {requests} --gpu-memory-utilization {utilization}
      --enable-lora --max-loras {slots} --max-lora-rank {rank} --max-cpu-loras {kept}{parallel}
    networks: [vllm-{name}]
    volumes:
      - models:/models:ro
      # `nocopy`: the folder of that name in the worker's image says whose the volume is.
      - {{type: volume, source: adapters-{name}, target: /cache, read_only: true, volume: {{nocopy: true}}}}
    deploy:
      resources: {{reservations: {{devices: [{{driver: nvidia, device_ids: {cards}, capabilities: [gpu]}}]}}}}
"""
_WORKER = """
  worker-{name}:
    <<: *patience
    environment:
      <<: *engine
      SIGNALBOX_GROUPS: "{groups}"
      SIGNALBOX_VLLM_URL: http://vllm-{name}:8001
      SIGNALBOX_VLLM_MAX_LORA_RANK: "{rank}"
      SIGNALBOX_ADAPTER_SLOTS: "{kept}"
      SIGNALBOX_WORKER_SLOTS: "{requests}"
    volumes: ["adapters-{name}:/cache"]
    networks: {{vllm-{name}: {{}}}}
    depends_on: {{vllm-{name}: {{condition: service_started}}}}
"""
_ON_A_CARD = """
  {name}:
    build: *cuda
    shm_size: 2gb
    deploy:
      resources: {{reservations: {{devices: [{{driver: nvidia, device_ids: ["{card}"], capabilities: [gpu]}}]}}}}
"""
_LEFT_OUT = """
  {name}:
    scale: 0  # its groups are served elsewhere
"""
IMAGE = "vllm/vllm-openai:v0.32.0"


class _Plain(yaml.SafeDumper):  # type: ignore[misc] # the package has no types here
    """Writes what occurs twice twice: no anchors between services."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the base class' signature
        return True


def compose_file(plan: Plan, system: str) -> str:
    """Return the file of a plan; of the workers in docker-compose.yml (`system`) it changes, copies or drops each."""
    known = {name: one for name, one in yaml.safe_load(system)["services"].items() if name.startswith("worker-")}
    names = [f"worker-{server.name}" for server in plan.servers]
    parts = [_HEAD.format(command=_command(plan), image=IMAGE), _CUDA if any_card(plan) else "", "\nservices:"]
    for server in plan.servers:
        parts += [_SERVER.format(**_values(plan, server)), _worker(plan, server, known)]
    parts += [_ON_A_CARD.format(name=name, card=card) for name, card in _on_cards(plan)]
    parts += [_LEFT_OUT.format(name=name) for name in known if name not in names]
    parts.append(_networks_and_volumes(plan, known))
    return "".join(parts).replace("services:\n\n", "services:\n")


def any_card(plan: Plan) -> bool:
    """Whether selector or trainer has one."""
    return any(card is not None for card in plan.helpers.values())


def _command(plan: Plan) -> str:
    memory = f"{plan.cards.memory / (1 << 30):g}"
    return f" --cards {plan.cards.count} --memory-gib {memory}"


def _values(plan: Plan, server: Server) -> dict[str, Any]:
    return {
        "name": server.name,
        "groups": ",".join(server.groups),
        "longest": plan.cards.longest,
        "requests": server.requests,
        "utilization": f"{server.utilization:.2f}",
        "slots": server.fit.slots,
        "rank": server.fit.rank,
        "kept": server.kept,
        "parallel": f" --tensor-parallel-size {len(server.cards)}" if len(server.cards) > 1 else "",
        "cards": "[" + ", ".join(f'"{card}"' for card in server.cards) + "]",
    }


def _worker(plan: Plan, server: Server, known: dict[str, Any]) -> str:
    """A worker that docker-compose.yml has gets what is other; a further one is a copy of the first, with the same."""
    text = _WORKER.format(**_values(plan, server))
    name = f"worker-{server.name}"
    if name in known:
        return text
    first, model = next(iter(known.items()))
    block = copy.deepcopy(model)
    block["volumes"] = [volume.replace(f"{first}:", f"{name}:") for volume in block["volumes"]]
    own = yaml.safe_load(_HEAD.format(command="", image=IMAGE) + _CUDA + f"\nservices:{text}")["services"][name]
    block["environment"] |= own["environment"]
    block["volumes"] += own["volumes"]
    block["networks"] = block["networks"] | own["networks"]
    block["depends_on"] |= own["depends_on"]
    block["healthcheck"] |= own["healthcheck"]
    lines = yaml.dump({name: block}, Dumper=_Plain, sort_keys=False, width=120).splitlines()
    return "\n" + "".join(f"  {line}\n" for line in lines)


def _on_cards(plan: Plan) -> list[tuple[str, int]]:
    """Selector and trainer where they have a card; what evaluates has the trainer's."""
    cards = {**plan.helpers, "evaluate": plan.helpers.get("trainer")}
    return [(name, card) for name, card in cards.items() if card is not None]


def _networks_and_volumes(plan: Plan, known: dict[str, Any]) -> str:
    networks = "".join(f"  vllm-{server.name}: {{internal: true}}\n" for server in plan.servers)
    volumes = "".join(f"  adapters-{server.name}: {{}}\n" for server in plan.servers)
    further = [f"worker-{server.name}" for server in plan.servers if f"worker-{server.name}" not in known]
    volumes += "".join(f"  {name}: {{}}\n" for name in further)
    return f"\nnetworks:\n{networks}\nvolumes:\n{volumes}"
