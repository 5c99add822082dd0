"""Log-probabilities in OpenAI's two forms: a list of tokens for chats, parallel lists for completions."""

from typing import Any

from shared.contracts.logprobs import TokenLogprobs


def for_chat(found: TokenLogprobs | None) -> dict[str, Any] | None:
    """Return the form of a chat; None where none were asked for."""
    if found is None:
        return None
    rows = zip(found.token_bytes, found.logprobs, strict=True)
    content = [_token(one, logprob) | {"top_logprobs": []} for one, logprob in rows]
    for token, top in zip(content, found.top, strict=False):
        token["top_logprobs"] = [_token(one.bytes, one.logprob) for one in top]
    return {"content": content, "refusal": None}


def for_completion(found: TokenLogprobs | None, offset: int = 0) -> dict[str, Any] | None:
    """Return the form of a completion, whose text begins at `offset`; None where none were asked for."""
    if found is None:
        return None
    tokens, offsets = [_text(one) for one in found.token_bytes], []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    top = [{_text(one.bytes): one.logprob for one in row} for row in found.top]
    return {"tokens": tokens, "token_logprobs": list(found.logprobs), "top_logprobs": top, "text_offset": offsets}


def _token(raw: str, logprob: float) -> dict[str, Any]:
    return {"token": _text(raw), "bytes": list(bytes.fromhex(raw)), "logprob": logprob}


def _text(raw: str) -> str:
    """The text of a token; of one that is part of a character, what shows that."""
    return bytes.fromhex(raw).decode(errors="replace")
