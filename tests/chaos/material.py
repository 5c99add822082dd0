"""Real adapters for the tests' tiny model and a release of them, made in milliseconds and without torch."""

import json
from pathlib import Path

import numpy as np

from shared.adapter_files import CONFIG_NAME, WEIGHTS_NAME
from shared.contracts.manifests import AdapterManifest, Release, ReleaseLabel, ReleaseSelector, Verdict
from shared.registry import Registry
from tests.support.adapter_samples import CONFIG
from tests.support.samples import WORDS

TENANT = "default"
ECHO = "echo"
"""The pin of what stands for a base model in the echo engine."""
RANK = 2
SHAPES = {"q_proj": (32, 32), "v_proj": (16, 32)}
"""[out, in] of the two layers that the adapters change, in `tests.support.tiny_model`."""
LAYERS = 2


def write_adapter(folder: Path, seed: int) -> Path:
    """A PEFT folder with random weights, large enough that every adapter answers otherwise than the base model."""
    from safetensors.numpy import save_file

    random = np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        for name, (out, into) in SHAPES.items():
            path = f"base_model.model.model.layers.{layer}.self_attn.{name}"
            tensors[f"{path}.lora_A.weight"] = random.normal(0, 0.7, (RANK, into)).astype(np.float32)
            tensors[f"{path}.lora_B.weight"] = random.normal(0, 0.7, (out, RANK)).astype(np.float32)
    folder.mkdir(parents=True)
    (folder / CONFIG_NAME).write_text(json.dumps(CONFIG | {"r": RANK}))
    save_file(tensors, folder / WEIGHTS_NAME)
    return folder


def add_adapters(registry: Registry, folder: Path, labels, seed: int = 0, *, base_model: str):
    """A registered adapter for each label, other ones for another seed."""
    made = {}
    for number, label in enumerate(labels):
        adapter = write_adapter(folder / f"{label}-{seed}", 1000 * seed + number)
        manifest = AdapterManifest(tenant_id=TENANT, label=label, version=0, digest="", base_model=base_model)
        made[label] = registry.adapters.add(adapter, manifest)
    return made


def add_release(registry: Registry, adapters, selector: ReleaseSelector | None, parent: str = "", made_by: str = ""):
    """A candidate in which each label's group is its domain."""
    labels = {
        label: ReleaseLabel(
            adapter=manifest.digest, ref=manifest.ref, group=label.partition(".")[0], template="chatml", instruction=""
        )
        for label, manifest in adapters.items()
    }
    release = Release(
        tenant_id=TENANT,
        parent=parent,
        base_model=next(iter(adapters.values())).base_model,
        labels=labels,
        selector=selector,
        verdict=Verdict(passed=True, reasons=()),
        made_by=made_by,
    )
    registry.releases.add(release)
    return release


def add_selector(registry: Registry, file: Path, labels, threshold: float = 0.0) -> ReleaseSelector:
    """A light selector that tells the labels apart by their words."""
    from services.trainer.training.light import fit_light

    texts = {label: [" ".join(WORDS[label][n:] + WORDS[label][:n]) for n in range(4)] for label in labels}
    digest = registry.weights.put_light(fit_light(texts).save(file))
    return ReleaseSelector(light=digest, labels=tuple(sorted(labels)), threshold=threshold)


def text_for(label: str, number: int, words: int = 6) -> str:
    """A text of this label: every job's own, so that answers cannot be mistaken for each other's."""
    own = WORDS[label]
    return " ".join([f"n{number}", *(own[(number + n) % len(own)] for n in range(words - 1))])


def base_shapes() -> dict[str, list[int]]:
    """The layers of the tiny model that adapters change or trainings may, as a worker publishes all of them."""
    shapes = {**SHAPES, "k_proj": SHAPES["v_proj"], "o_proj": SHAPES["q_proj"]}
    layers = [(layer, name) for layer in range(LAYERS) for name in shapes]
    return {f"model.layers.{layer}.self_attn.{name}": list(shapes[name]) for layer, name in layers}
