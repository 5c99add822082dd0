"""The engine on a vLLM server: what the server does wrong, by a fake; what it does right, by a real one."""

import asyncio
import copy
import itertools
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

import httpx
import pytest
import torch

from services.adapter_worker.engine import GenerationRequest, make_engine
from services.adapter_worker.engine.base import CacheFigures, EngineAway, EngineLost
from services.adapter_worker.engine.vllm import connect as connecting
from services.adapter_worker.engine.vllm.engine import VllmEngine
from services.adapter_worker.engine.vllm.server import VllmServer
from shared.errors import Invalid, NotFound, Unavailable
from shared.model.tokens import encode
from shared.settings import Settings
from tests.support.engine_kit import ADAPTERS, greedy, ignore, vllm_engine

FIRST, SECOND, THIRD = ("a" * 64, "b" * 64, "c" * 64)


class FakeVllm:
    """Answers as a vLLM server does: the tokens 70, 71, … and log-probabilities that depend on the model."""

    def __init__(self):
        self.loaded = {}
        self.calls = []
        self.bodies = []
        self.keys = set()
        self.status = {}  # by path: a status to answer with
        self.idle = set()  # adapters that change nothing
        self.told = ""  # by its metrics
        self.first = 70  # token of an answer
        self.breaks_after = None  # events of a stream
        self.hold = threading.Event()
        self.hold.set()
        self.begun = threading.Event()

    def __call__(self, request):
        path, body = request.url.path, json.loads(request.content or b"{}")
        self.keys.add(request.headers.get("authorization"))
        self.calls.append((path, body.get("lora_name")))
        if path in self.status:
            return refusal(self.status[path], "as the test says")
        return getattr(self, path.removeprefix("/v1/").strip("/"))(body)

    def health(self, body):
        return httpx.Response(200)

    def metrics(self, body):
        return httpx.Response(200, text=self.told)

    def models(self, body):
        base = {"id": "base", "root": "/models/base", "parent": None, "max_model_len": 512}
        return httpx.Response(200, json={"data": [base, *({"id": name, "parent": "base"} for name in self.loaded)]})

    def load_lora_adapter(self, body):
        if body["lora_name"] in self.loaded:
            return refusal(400, "has already been loaded")
        self.loaded[body["lora_name"]] = body["lora_path"]
        return httpx.Response(200, text="Success")

    def unload_lora_adapter(self, body):
        return httpx.Response(200) if self.loaded.pop(body["lora_name"], None) else refusal(404, "cannot be found")

    def completions(self, body):
        if body["model"] not in {"base", *self.loaded}:
            return refusal(404, f"The model `{body['model']}` does not exist.")
        self.bodies.append(body)
        return httpx.Response(200, stream=Events(self, body))


class Events(httpx.AsyncByteStream):
    def __init__(self, fake, body):
        self.fake = fake
        self.body = body

    async def __aiter__(self):
        is_base = self.body["model"] in {"base", *self.fake.idle}
        self.fake.begun.set()
        logprob = -1.0 if is_base else -2.0
        for n, index in itertools.product(range(self.body["max_tokens"]), range(self.body.get("n", 1))):
            if n == self.fake.breaks_after:
                raise httpx.RemoteProtocolError("peer closed connection")
            await asyncio.to_thread(self.fake.hold.wait, 60)
            choice = {
                "index": index,
                "text": "\u2028\x85",  # line ends to many readers, but not to JSON
                "token_ids": [self.fake.first + n + index],
                "logprobs": self.logprobs(self.fake.first + n + index, logprob) if "logprobs" in self.body else None,
            }
            yield f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()
        yield b"data: [DONE]\n\n"

    def logprobs(self, token, logprob):
        """The token itself stands first, beside as many as were asked for, though some of these are more probable."""
        best = {f"token_id:{80 + n}": -0.5 - n / 4 for n in range(self.body["logprobs"])}
        top = {f"token_id:{token}": logprob, **best} if best else None
        return {"token_logprobs": [logprob], "top_logprobs": [top]}


def refusal(status, message):
    return httpx.Response(status, json={"error": {"message": message, "code": status}})


@pytest.fixture
def fake():
    return FakeVllm()


@pytest.fixture
def connect(fake, kit):
    engines = []

    def build(**options):
        server = VllmServer("http://vllm", "a key", transport=httpx.MockTransport(fake))
        engines.append(VllmEngine(server, kit.tokenizer, encode, **options))
        fake.begun.clear()  # which the engine's own first question has set
        return engines[-1]

    yield build
    fake.hold.set()
    for engine in engines:
        engine.close()


def test_prompts_go_as_token_ids_and_the_servers_defaults_stay_out(connect, fake, kit):
    text = "user writes <|im_end|>"
    connect().generate(greedy(kit, text, None, seed=3, temperature=0.5, top_p=0.9, top_k=7), ignore)
    body = fake.bodies[-1]
    assert body["prompt"] == kit.prompt_ids(text)
    assert body["prompt"].count(kit.tokenizer.convert_tokens_to_ids("<|im_end|>")) == 0
    assert (body["seed"], body["temperature"], body["top_p"], body["top_k"]) == (3, 0.5, 0.9, 7)
    assert (body["repetition_penalty"], body["ignore_eos"]) == (1.0, True)


def test_every_call_bears_the_key(connect, fake, kit):
    engine = connect()
    engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    engine.unload_adapter(FIRST)
    assert fake.keys == {"Bearer a key"}


def test_a_control_token_of_calls_is_shown_where_the_request_reads_calls(connect, fake, kit):
    fake.first = kit.tokenizer.convert_tokens_to_ids("<|im_start|>")
    engine, shown = connect(), {"shown_ids": frozenset([fake.first])}
    assert engine.generate(greedy(kit, "x", None, max_new_tokens=1), ignore).text == ""
    assert engine.generate(greedy(kit, "x", None, max_new_tokens=1, **shown), ignore).text == "<|im_start|>"


def test_logprobs_come_where_they_are_asked_for(connect, kit):
    engine = connect()
    generation = engine.generate(greedy(kit, "x", None, max_new_tokens=3, logprobs=True), ignore)
    assert generation.logprobs.logprobs == (-1.0,) * 3
    assert engine.generate(greedy(kit, "x", None, max_new_tokens=3), ignore).logprobs is None


def test_alternatives_are_the_best_that_the_server_names_by_id(connect, fake, kit):
    request = greedy(kit, "x", None, max_new_tokens=2, logprobs=True, top_logprobs=3)
    top = connect().generate(request, ignore).logprobs.top
    assert (fake.bodies[-1]["logprobs"], fake.bodies[-1]["return_tokens_as_token_ids"]) == (3, True)
    found = [[(other.token_id, other.logprob) for other in one] for one in top]
    assert found == [[(80, -0.5), (81, -0.75), (token, -1.0)] for token in (70, 71)]


def test_penalties_and_bias_are_the_servers_own(connect, fake, kit):
    options = {"presence_penalty": 0.5, "frequency_penalty": -1.0, "logit_bias": {65: 2.5}}
    engine = connect()
    engine.generate(greedy(kit, "x", None, max_new_tokens=1, **options), ignore)
    asked = {name: fake.bodies[-1][name] for name in options}
    assert asked == {**options, "logit_bias": {"65": 2.5}}
    engine.generate(greedy(kit, "x", None, max_new_tokens=1), ignore)
    assert "logit_bias" not in fake.bodies[-1]
    with pytest.raises(Invalid) as caught:
        engine.generate(greedy(kit, "x", None, logit_bias={10_000: 1.0}), ignore)
    assert caught.value.code == "token_unknown"


def test_choices_come_mixed_and_each_ends_by_itself(connect, fake, kit):
    engine, pieces = connect(), []
    sampled = {"n": 3, "max_new_tokens": 4, "temperature": 1.0}
    plain = [choice.text for choice in engine.generate(greedy(kit, "x", None, **sampled), ignore).choices]
    assert fake.bodies[-1]["n"] == 3
    request = greedy(kit, "x", None, stop=(plain[1][1:],), **sampled)
    generation = engine.generate(request, pieces.append)
    assert [choice.text for choice in generation.choices] == [plain[0], plain[1][:1], ""]
    assert [choice.finish_reason for choice in generation.choices] == ["length", "stop", "stop"]
    for index, choice in enumerate(generation.choices):
        assert "".join(piece.text for piece in pieces if piece.index == index) == choice.text


def test_greedy_choices_are_asked_for_once_because_the_server_refuses_several(connect, fake, kit):
    pieces = []
    generation = connect().generate(greedy(kit, "x", None, n=2, max_new_tokens=3), pieces.append)
    assert fake.bodies[-1]["n"] == 1
    assert generation.choices[0] == generation.choices[1]
    assert [piece.index for piece in pieces] == [0, 1] * 3


def test_the_server_loads_the_folder_under_its_own_path(connect, fake, kit):
    folder = kit.adapter("plain", **ADAPTERS["plain"])
    connect(adapters_dir=PurePosixPath("/mnt/adapters")).load_adapter(FIRST, folder)
    assert fake.loaded == {FIRST: "/mnt/adapters/plain"}


def test_the_longest_unused_adapter_makes_room(connect, fake, kit):
    engine, folder = connect(adapter_slots=2), kit.adapter("plain", **ADAPTERS["plain"])
    engine.load_adapter(FIRST, folder)
    engine.load_adapter(SECOND, folder)
    engine.generate(greedy(kit, "x", FIRST), ignore)
    engine.load_adapter(THIRD, folder)
    assert engine.resident == fake.loaded.keys() == {FIRST, THIRD}


def test_an_adapter_in_use_makes_no_room_before_its_request_ends(connect, fake, kit):
    engine, folder = connect(adapter_slots=1), kit.adapter("plain", **ADAPTERS["plain"])
    engine.load_adapter(FIRST, folder)
    fake.hold.clear()
    fake.begun.clear()
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, greedy(kit, "x", FIRST), ignore)
        assert fake.begun.wait(10)
        loading = pool.submit(engine.load_adapter, SECOND, folder)
        fake.hold.set()
        assert running.result(10).token_ids
        loading.result(10)
    assert fake.loaded.keys() == {SECOND}
    unloads = [n for n, call in enumerate(fake.calls) if call == ("/v1/unload_lora_adapter", FIRST)]
    assert len(unloads) == 1


def test_an_adapter_that_the_server_has_already_is_used_as_it_is(connect, fake, kit):
    fake.loaded[FIRST] = "/from/another/worker"
    engine = connect()
    engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    assert engine.resident == {FIRST}


def test_an_adapter_that_the_server_lost_is_not_resident_any_more(connect, fake, kit):
    engine = connect()
    engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    fake.loaded.clear()  # it was restarted
    with pytest.raises(NotFound) as caught:
        engine.generate(greedy(kit, "x", FIRST), ignore)
    assert caught.value.code == "adapter_not_loaded"
    assert engine.resident == frozenset()


def test_an_adapter_whose_folder_left_the_disk_is_fetched_again(connect, fake, kit, tmp_path):
    folder = tmp_path / FIRST
    shutil.copytree(kit.adapter("plain", **ADAPTERS["plain"]), folder)
    engine = connect()
    engine.load_adapter(FIRST, folder)
    folder.rename(tmp_path / "pruned")
    with pytest.raises(NotFound) as caught:
        engine.generate(greedy(kit, "x", FIRST), ignore)
    assert caught.value.code == "adapter_not_loaded"
    (tmp_path / "pruned").rename(folder)
    engine.load_adapter(FIRST, folder)
    assert engine.generate(greedy(kit, "x", FIRST), ignore).token_ids


def test_an_adapter_that_changes_nothing_is_refused_and_unloaded(connect, fake, kit):
    fake.idle.add(FIRST)
    engine = connect()
    with pytest.raises(Invalid) as caught:
        engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    assert caught.value.code == "adapter_inactive"
    assert (engine.resident, fake.loaded) == (frozenset(), {})


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(500, "adapter_refused", False), (400, "adapter_refused", False), (404, "adapter_not_seen", False),
     (401, "vllm_denied", True)],
)  # fmt: skip
def test_what_the_server_says_of_an_adapter_becomes_an_error(connect, fake, kit, status, code, retryable):
    engine = connect()
    fake.status["/v1/load_lora_adapter"] = status
    with pytest.raises((Invalid, Unavailable)) as caught:
        engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_a_broken_server_is_no_fault_of_the_adapter(connect, fake, kit):
    engine = connect()
    fake.status |= {"/v1/load_lora_adapter": 500, "/health": 503}
    with pytest.raises(Unavailable) as caught:
        engine.load_adapter(FIRST, kit.adapter("plain", **ADAPTERS["plain"]))
    assert caught.value.code == "vllm_failed"


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [(400, "vllm_refused", False), (500, "vllm_failed", True), (503, "vllm_failed", True)],
)
def test_what_the_server_says_of_a_request_becomes_an_error(connect, fake, kit, status, code, retryable):
    engine = connect()
    fake.status["/v1/completions"] = status
    with pytest.raises((Invalid, Unavailable)) as caught:
        engine.generate(greedy(kit, "x", None), ignore)
    assert (caught.value.code, caught.value.retryable) == (code, retryable)


def test_a_stream_that_breaks_off_is_retryable(connect, fake, kit):
    engine = connect()
    fake.breaks_after = 2
    with pytest.raises(Unavailable) as caught:
        engine.generate(greedy(kit, "x", None), ignore)
    assert caught.value.code == "vllm_unreachable"
    assert engine.running_count == 0


def test_a_server_whose_engine_is_away_is_told_from_one_that_answers(connect, fake):
    engine = connect()
    engine.check()
    fake.status["/health"] = 503
    with pytest.raises(EngineAway):
        engine.check()
    del fake.status["/health"]
    engine.check()


def test_a_server_that_twice_does_not_answer_gives_its_requests_back(connect, fake, kit):
    engine = connect()
    fake.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(engine.generate, greedy(kit, "x", None), ignore)
        assert fake.begun.wait(10)
        fake.status["/health"] = 503
        try:
            for _ in range(2):
                assert not running.done()
                with pytest.raises(EngineAway):
                    engine.check()
            with pytest.raises(EngineAway):
                running.result(10)
        finally:
            fake.hold.set()


def test_a_server_with_another_model_needs_another_process(connect, fake, monkeypatch):
    engine = connect()
    other = {"id": "base", "root": "/models/another", "parent": None, "max_model_len": 512}
    monkeypatch.setattr(fake, "models", lambda _: httpx.Response(200, json={"data": [other]}))
    with pytest.raises(EngineLost) as caught:
        engine.check()
    assert caught.value.code == "vllm_other_model"


def test_a_server_that_does_not_know_its_own_model_is_away(connect, fake, kit):
    engine = connect()
    fake.status["/v1/completions"] = 404
    with pytest.raises(EngineAway) as caught:
        engine.generate(greedy(kit, "x", None), ignore)
    assert caught.value.code == "vllm_model_unknown"


def test_a_server_that_is_away_says_so_at_once(kit):
    def away(_request):
        raise httpx.ConnectError("refused")

    with pytest.raises(EngineAway) as caught:
        VllmEngine(VllmServer("http://vllm", transport=httpx.MockTransport(away)), kit.tokenizer, encode)
    assert caught.value.code == "vllm_unreachable"


def test_a_worker_may_start_before_its_server(kit, fake, monkeypatch):
    monkeypatch.setattr(connecting, "_FIRST_PAUSE_SECONDS", 0.01)
    refused = iter(range(3))

    def starting(request):
        if next(refused, None) is not None:
            raise httpx.ConnectError("refused")
        return fake(request)

    engine = connecting.once_there(
        lambda: VllmEngine(VllmServer("http://vllm", transport=httpx.MockTransport(starting)), kit.tokenizer, encode)
    )
    assert engine.generate(greedy(kit, "x", None), ignore).token_ids
    engine.close()


@pytest.mark.slow
def test_a_real_server_serves_mixed_adapters_as_peft_does_alone(vllm, wide_kit, agreement):
    kit = wide_kit
    names = [name for name, config in ADAPTERS.items() if not config.get("use_dora")]
    engine = vllm_engine(vllm, kit)
    for name in names:
        engine.load_adapter(name, kit.adapter(name, **ADAPTERS[name]))
    requests = [
        greedy(kit, f"{text} {n}", adapter) for n, (text, adapter) in
        enumerate(itertools.product(("a word", "some more words of it", "x" * 60), [None, *names]))
    ]  # fmt: skip
    with ThreadPoolExecutor(len(requests)) as pool:
        generations = list(pool.map(lambda request: engine.generate(request, ignore), requests))
    engine.close()
    ends = {kit.tokenizer.convert_tokens_to_ids(name) for name in ("<|endoftext|>", "<|im_end|>")}
    for request, generation in zip(requests, generations, strict=True):
        adapter = None if request.adapter is None else kit.folder / request.adapter
        tokens, logits = kit.solo(adapter, kit.prompt_ids(request.job_id), request.max_new_tokens)
        agreement.check(generation.token_ids, [token for token in tokens if token not in ends], logits)


@pytest.mark.slow
def test_an_engine_made_by_name_checks_that_the_server_has_the_same_base_model(vllm, wide_kit, tmp_path):
    settings = Settings(vllm_url=vllm.url)
    engine = make_engine("vllm", settings, vllm.model)
    assert engine.generate(greedy(wide_kit, "hello", None), ignore).token_ids
    engine.close()
    other = shutil.copytree(vllm.model, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))
    with pytest.raises(Invalid) as caught:
        make_engine("vllm", settings, other)
    assert caught.value.code == "vllm_other_model"


@pytest.mark.slow
def test_a_real_server_tells_the_logprobs_that_peft_alone_has(vllm, wide_kit):
    engine = vllm_engine(vllm, wide_kit)
    folder = wide_kit.adapter("plain", **ADAPTERS["plain"])
    engine.load_adapter("plain", folder)
    generation = engine.generate(greedy(wide_kit, "sure?", "plain", temperature=0.7, seed=1, logprobs=True), ignore)
    engine.close()
    expected = wide_kit.logprobs(folder, wide_kit.prompt_ids("sure?"), generation.token_ids)
    told = torch.tensor(generation.logprobs.logprobs)
    torch.testing.assert_close(told, torch.tensor(expected), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_a_real_server_penalises_as_our_engine_does_and_tells_the_same_logprobs(vllm, wide_kit):
    options = {"presence_penalty": 0.7, "frequency_penalty": 0.4, "logit_bias": {65: 2.0}, "logprobs": True}
    request = greedy(wide_kit, "again and again", None, top_logprobs=4, **options)
    ours, theirs = wide_kit.engine(), vllm_engine(vllm, wide_kit)
    expected, told = (engine.generate(request, ignore) for engine in (ours, theirs))
    ours.close()
    theirs.close()
    assert told.token_ids == expected.token_ids
    for mine, other in zip(expected.logprobs.top, told.logprobs.top, strict=True):
        assert [one.token_id for one in other] == [one.token_id for one in mine]
        assert [one.logprob for one in other] == pytest.approx([one.logprob for one in mine], abs=1e-3)
    assert told.logprobs.logprobs == pytest.approx(expected.logprobs.logprobs, abs=1e-3)


@pytest.mark.slow
def test_a_real_server_stops_at_the_end_token(vllm, wide_kit):
    engine = vllm_engine(vllm, wide_kit)
    whole = engine.generate(greedy(wide_kit, "until", None), ignore).token_ids
    engine.close()
    ending = copy.deepcopy(wide_kit.tokenizer)
    ending.eos_token = ending.convert_ids_to_tokens(whole[3])
    engine = VllmEngine(VllmServer(vllm.url), ending, encode)
    generation = engine.generate(greedy(wide_kit, "until", None), ignore)
    assert (generation.token_ids, generation.finish_reason) == (whole[: whole.index(whole[3])], "stop")
    engine.close()


@pytest.mark.slow
def test_a_real_server_gives_the_same_text_for_the_same_seed(vllm, wide_kit):
    engine = vllm_engine(vllm, wide_kit)

    def ids(seed):
        sampled = greedy(wide_kit, "dice", None, temperature=1.0, top_p=0.9, top_k=40, seed=seed)
        return engine.generate(sampled, ignore).token_ids

    assert ids(5) == ids(5) != ids(6)
    engine.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "code"),
    [({"init_lora_weights": True}, "adapter_inactive"), ({"use_dora": True}, "adapter_refused"),
     ({"r": 64}, "adapter_refused")],
)  # fmt: skip
def test_a_real_server_refuses_what_it_cannot_serve(vllm, wide_kit, config, code):
    engine = vllm_engine(vllm, wide_kit)
    with pytest.raises(Invalid) as caught:
        engine.load_adapter(FIRST, wide_kit.adapter(f"refused-{'-'.join(config)}", **config))
    assert caught.value.code == code
    assert engine.resident == frozenset()
    assert engine.generate(greedy(wide_kit, "still there", None), ignore).token_ids
    engine.close()


@pytest.mark.slow
def test_a_real_server_is_told_of_a_cancelled_request(vllm, wide_kit):
    engine = vllm_engine(vllm, wide_kit)
    pieces = threading.Event()
    request = GenerationRequest(prompt=wide_kit.prompt("x"), job_id="job", attempt=1, adapter=None, max_new_tokens=500)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(engine.generate, request, lambda _: pieces.set())
        assert pieces.wait(20)
        engine.cancel("job", 1)
        assert running.exception(10)
    engine.close()
    assert await_idle(vllm.url)


def await_idle(url):
    """Whether the server's own gauge of running requests falls to zero."""
    for _ in range(100):
        metrics = httpx.get(f"{url}/metrics").text
        lines = [line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running")]
        if lines and all(line.endswith(" 0.0") for line in lines):
            return True
    return False


def test_what_the_servers_metrics_tell_is_known_after_a_check(fake, connect):
    engine = connect()
    assert (engine.waiting_count, engine.cache) == (0, CacheFigures())
    fake.told = (
        'vllm:num_requests_waiting{engine="0"} 7.0\nvllm:kv_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:prefix_cache_queries_total{engine="0"} 40.0\nvllm:prefix_cache_hits_total{engine="0"} 16.0\n'
    )
    engine.check()
    assert (engine.waiting_count, engine.cache) == (7, CacheFigures(0.5, 40, 16))
    fake.status["/metrics"] = 404  # started without them
    engine.check()
    assert (engine.waiting_count, engine.cache) == (0, CacheFigures())


@pytest.mark.slow
def test_a_real_servers_cache_is_told_under_our_names(vllm, wide_kit):
    engine = vllm_engine(vllm, wide_kit)
    engine.check()
    before = engine.cache
    for _ in range(2):
        engine.generate(greedy(wide_kit, "the same long prompt " * 20, None, max_new_tokens=4), ignore)
    engine.check()
    assert engine.cache.looked_up > before.looked_up
    assert engine.cache.found > before.found
    engine.close()
