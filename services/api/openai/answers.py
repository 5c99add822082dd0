"""Answers in OpenAI's format, whole and in chunks, with what this service knows besides in `signalbox`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.api.openai.logprobs import for_chat, for_completion
from services.api.openai.why import why
from shared.contracts.generation import Choice, GenerationResult, Usage, generation_body, selection_of
from shared.contracts.jobs import Job
from shared.contracts.logprobs import TokenLogprobs


class Asked(NamedTuple):
    """What an answer repeats of its request, and how it learns an adapter's last day."""

    model: str
    tier: str
    metadata: Mapping[str, str] | None = None
    shutdown_date: Callable[[str | None], str | None] = lambda _: None


class Form(Protocol):
    """The form of one endpoint's answers."""

    prefix: str
    whole_object: str
    chunk_object: str

    def choice(self, choice: Choice) -> dict[str, Any]:
        """Return a whole choice."""
        ...

    def begin(self, index: int) -> dict[str, Any]:
        """Return the piece with which a choice begins."""
        ...

    def piece(self, index: int, text: str, logprobs: TokenLogprobs | None, offset: int, /) -> dict[str, Any]:
        """Return a piece that begins `offset` characters into its choice."""
        ...

    def end(self, index: int, reason: str) -> dict[str, Any]:
        """Return the piece that ends a choice."""
        ...


class ChatForm:
    """Of `/v1/chat/completions`."""

    prefix = "chatcmpl-"
    whole_object = "chat.completion"
    chunk_object = "chat.completion.chunk"

    def choice(self, choice: Choice) -> dict[str, Any]:
        """Return a whole choice."""
        return {
            "index": choice.index,
            "message": {"role": "assistant", **_said(choice), "refusal": None},
            "finish_reason": choice.finish_reason,
            "logprobs": for_chat(choice.logprobs),
        }

    def begin(self, index: int) -> dict[str, Any]:
        """Return the piece that names the role."""
        delta = {"role": "assistant", "content": "", "refusal": None}
        return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}

    def piece(self, index: int, text: str, logprobs: TokenLogprobs | None, _offset: int, /) -> dict[str, Any]:
        """Return a piece."""
        return {"index": index, "delta": {"content": text}, "finish_reason": None, "logprobs": for_chat(logprobs)}

    def end(self, index: int, reason: str) -> dict[str, Any]:
        """Return the piece that ends a choice."""
        return {"index": index, "delta": {}, "finish_reason": reason, "logprobs": None}


class TextForm:
    """Of `/v1/completions`."""

    prefix = "cmpl-"
    whole_object = "text_completion"
    chunk_object = "text_completion"

    def choice(self, choice: Choice) -> dict[str, Any]:
        """Return a whole choice."""
        return {
            "index": choice.index,
            "text": choice.text,
            "finish_reason": choice.finish_reason,
            "logprobs": for_completion(choice.logprobs),
        }

    def begin(self, index: int) -> dict[str, Any]:
        """Return an empty piece."""
        return self.piece(index, "", None, 0)

    def piece(self, index: int, text: str, logprobs: TokenLogprobs | None, offset: int, /) -> dict[str, Any]:
        """Return a piece."""
        found = for_completion(logprobs, offset)
        return {"index": index, "text": text, "finish_reason": None, "logprobs": found}

    def end(self, index: int, reason: str) -> dict[str, Any]:
        """Return the piece that ends a choice."""
        return {"index": index, "text": "", "finish_reason": reason, "logprobs": None}


def _said(choice: Choice) -> dict[str, Any]:
    if not choice.tool_calls:
        return {"content": choice.text}
    calls = [call.model_dump(mode="json") for call in choice.tool_calls]
    return {"content": choice.text or None, "tool_calls": calls}


def called(index: int, number: int, call: Mapping[str, Any]) -> dict[str, Any]:
    """Return the piece of a chat that tells a choice's call of this number."""
    delta = {"tool_calls": [{**call, "index": number}]}
    return {"index": index, "delta": delta, "finish_reason": None, "logprobs": None}


def whole(form: Form, asked: Asked, job: Job, result: GenerationResult) -> dict[str, Any]:
    """Return the whole answer of a job."""
    return {
        **head(form, asked, job.id, job.timestamps, form.whole_object),
        "choices": [form.choice(choice) for choice in result.choices],
        "usage": usage(result.usage),
        "system_fingerprint": fingerprint(job.release, result.base_model),
        "metadata": dict(asked.metadata or {}),
        "signalbox": facts(asked, job, result),
    }


def whole_of_several(
    form: Form, asked: Asked, answers: Sequence[tuple[Job, GenerationResult]], count: int
) -> dict[str, Any]:
    """Return the answer to several prompts, each with `count` choices; `signalbox` has what is known of each."""
    first, tokens = whole(form, asked, *answers[0]), [usage(result.usage) for _, result in answers]
    numbered = [
        form.choice(choice) | {"index": number * count + choice.index}
        for number, (_, result) in enumerate(answers)
        for choice in result.choices
    ]
    return first | {
        "choices": numbered,
        "usage": {name: sum(one[name] for one in tokens) for name in tokens[0]},
        "signalbox": {"prompts": [facts(asked, job, result) for job, result in answers]},
    }


def head(form: Form, asked: Asked, job_id: str, timestamps: Mapping[str, float], kind: str) -> dict[str, Any]:
    """Return what every answer and every chunk begins with."""
    return {
        "id": f"{form.prefix}{job_id.removeprefix('job_')}",
        "object": kind,
        "created": int(min(timestamps.values()) / 1000),
        "model": asked.model,
        "service_tier": asked.tier,
    }


def usage(found: Usage) -> dict[str, int]:
    """Return the numbers of tokens."""
    total = found.prompt_tokens + found.completion_tokens
    return {
        "prompt_tokens": found.prompt_tokens,
        "completion_tokens": found.completion_tokens,
        "total_tokens": total,
    }


def fingerprint(release: str, base_model: str | None) -> str:
    """Return what an answer depends on besides its request: the release and the base model."""
    return f"{release}-{base_model}" if base_model else release


def facts(asked: Asked, job: Job, result: GenerationResult) -> dict[str, Any]:
    """Return what answered, and why: label, probabilities, release, adapter, times."""
    selection = selection_of(job)
    is_named = generation_body(job).is_named
    return {
        "job": job.id,
        "label": result.label,
        "why": "named by the request" if is_named else why(selection) if selection else None,
        "probability": selection.probability if selection else None,
        "threshold": selection.threshold if selection else None,
        "runners_up": [one.model_dump(mode="json") for one in selection.runners_up] if selection else [],
        "by": "named" if is_named else selection.by if selection else None,
        "rejected": selection.rejected if selection else False,
        "release": job.release,
        "adapter": result.adapter,
        "adapter_ref": result.adapter_ref,
        "base_model": result.base_model,
        "shutdown_date": asked.shutdown_date(result.adapter_ref),
        "prompt_shortened": result.prompt_shortened,
        "stage_ms": job.stage_ms(),
    }
