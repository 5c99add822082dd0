"""11: in any mixture, with adapters coming and going, each answer is its own adapter's, and never the base model's."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from shared.adapter_files import WEIGHTS_NAME
from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.conversation import single_turn
from shared.contracts.manifests import AdapterManifest, ReleaseLabel
from tests.chaos.load import Load, outcomes, spread
from tests.chaos.material import TENANT, add_adapters, write_adapter
from tests.chaos.outcome import Outcome, Promise
from tests.chaos.plans import with_models
from tests.chaos.sizes import Size
from tests.chaos.world import World

_TOKENS = 10
_PARAMS = {"max_new_tokens": _TOKENS, "temperature": 0.0, "logprobs": True}
_END = 2
"""The tiny model's `<|im_end|>`."""
_TIE = 1e-3
"""Logits nearer to each other than this may be taken in either order: batches add up in another order."""
_INACTIVE = "bank.zero"
_BASE = ""
_LOADS = re.compile(r"^signalbox_adapter_loads_total ([\d.e+]+)$", re.MULTILINE)


class Solo(NamedTuple):
    """What an adapter answers alone, and at each token by how much the best one was ahead."""

    tokens: list[int]
    margins: list[float]

    def is_tie(self, tokens: list[int]) -> bool:
        """Whether other tokens part from these where two were as good as each other."""
        parting = next((n for n, pair in enumerate(zip(tokens, self.tokens, strict=False)) if pair[0] != pair[1]), None)
        at = min(len(tokens), len(self.tokens)) if parting is None else parting
        return self.margins[min(at, len(self.margins) - 1)] < _TIE


def prove(world: World, size: Size) -> Outcome:
    """Greedy requests for more adapters than there are slots, held against transformers and PEFT alone."""
    labels = [f"bank.a{number}" for number in range(size.adapters)]
    prompts = [f"question {number}: {'what is ' * (number + 1)}it" for number in range(size.prompts)]
    folders = _release(world, labels)
    solos = _solos(world, folders, prompts)
    asked = [(label, prompt) for prompt in prompts for label in labels]

    def body(number: int) -> dict[str, Any]:
        label, prompt = asked[number % len(asked)]
        return {"input": prompt, "label": label, "params": _PARAMS}

    before = _loads(world)
    with Load(world, body, count=size.requests, threads=size.clients) as load:
        inactive = world.client.post("/v1/jobs", body(0) | {"label": _INACTIVE})["id"]
        load.join(size.patience_seconds)
    found = outcomes(world, load.ids, size.patience_seconds)
    wrong: list[str] = []
    ties = 0
    for number, job_id in load.accepted.items():
        (job,) = world.jobs([job_id])
        if job is None or not job["result"]:
            continue
        tokens, (label, prompt) = job["result"]["token_ids"], asked[number % len(asked)]
        if tokens == solos[label, prompt].tokens:
            continue
        if solos[label, prompt].is_tie(tokens):
            ties += 1
        else:
            wrong.append(next((other for other in [_BASE, *labels] if solos[other, prompt].tokens == tokens), "none's"))
    world.wait_ended([inactive], size.patience_seconds)
    (silent,) = world.jobs([inactive])
    assert silent is not None
    alike = sum(solos[label, prompt].tokens == solos[_BASE, prompt].tokens for label, prompt in asked)
    outcome = Outcome({"requests": len(load.ids), "adapters": len(labels), "loads": _loads(world) - before})
    outcome.at_least("greedy_answers", found["succeeded"], size.requests, spread=spread(found))
    outcome.at_most("wrong_adapter_answers", len(wrong), 0, spread=f"{ties} ties of logits; {sorted(set(wrong))}")
    outcome.at_most("silent_base_answers", wrong.count(_BASE) + (silent["state"] == "succeeded"), 0)
    outcome.at_least("inactive_adapter_refused", (silent["error"] or {}).get("code") == "adapter_inactive", 1)
    outcome.at_least("adapters_loaded_meanwhile", _loads(world) - before, size.adapters)
    outcome.at_most("solo_answers_like_the_base_models", alike, len(asked) // 10)
    return outcome


def _release(world: World, labels: list[str]) -> dict[str, Path]:
    """Make a release of these adapters current, beside one that changes nothing; answers their folders."""
    folder = world.folder / f"mixed-{world.random.random()}"
    made = add_adapters(world.registry, folder, labels, seed=11, base_model=world.base_model)
    made[_INACTIVE] = _add_inactive(world, folder / "inactive")
    current = world.registry.releases.get(TENANT, world.registry.releases.current_id(TENANT))
    entries = {
        label: ReleaseLabel(adapter=m.digest, ref=m.ref, group="bank", template="chatml", instruction="Answer.")
        for label, m in made.items()
    }
    release = current.model_copy(update={"parent": current.id, "labels": entries, "selector": None, "made_by": "mixed"})
    world.registry.releases.add(release)
    world.registry.releases.promote(TENANT, release.id, force=True)
    world.wait_release(release.id)
    return {label: folder / f"{label}-11" for label in labels}


def _add_inactive(world: World, folder: Path) -> AdapterManifest:
    """An adapter that is well-formed and does nothing: all its weights are zero."""
    from safetensors.numpy import load_file, save_file

    write_adapter(folder, 0)
    tensors = {name: np.zeros_like(tensor) for name, tensor in load_file(folder / WEIGHTS_NAME).items()}
    save_file(tensors, folder / WEIGHTS_NAME)
    manifest = AdapterManifest(tenant_id=TENANT, label=_INACTIVE, version=0, digest="", base_model=world.base_model)
    return world.registry.adapters.add(folder, manifest)


def _solos(world: World, folders: dict[str, Path], prompts: list[str]) -> dict[tuple[str, str], Solo]:
    """What each adapter, and the base model, answers to each prompt with nobody beside it."""
    from shared.model.base import load_model, load_tokenizer
    from shared.model.merge import with_adapter

    base = Path(world.settings.base_model)
    tokenizer = load_tokenizer(base)
    found = {}
    for label, folder in [(_BASE, None), *folders.items()]:
        model: Any = load_model(base, "float32")
        if folder:
            model = with_adapter(model, folder)
        for prompt in prompts:
            found[label, prompt] = _solo(model, tokenizer, prompt)
    return found


def _solo(model: Any, tokenizer: Any, prompt: str) -> Solo:
    import torch

    from shared.model.tokens import encode

    ids = encode(tokenizer, adapter_prompt("chatml", single_turn("Answer.", prompt)), 1024)
    with torch.inference_mode():
        out = model.generate(
            input_ids=torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            do_sample=False,
            max_new_tokens=_TOKENS,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=_END,
        )
    best = torch.stack(out.logits)[:, 0].topk(2).values
    tokens = [token for token in out.sequences[0, len(ids) :].tolist() if token != _END]
    return Solo(tokens, (best[:, 0] - best[:, 1]).tolist())


def _loads(world: World) -> int:
    """How often the workers have loaded an adapter."""
    count = 0
    for worker in world.workers:
        text = httpx.get(f"http://127.0.0.1:{worker.metrics_port}/metrics", timeout=10).text
        count += sum(int(float(number)) for number in _LOADS.findall(text))
    return count


PROMISE = Promise(11, "The right adapter answered", with_models, prove)
