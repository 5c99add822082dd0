"""Tells the pieces of an answer as a job's events; where tools are offered, their calls apart from the text."""

from collections.abc import Callable, Sequence
from typing import Any

from services.adapter_worker.engine.base import GenerationRequest, Piece
from services.adapter_worker.tool_calls import Calling
from shared.contracts.logprobs import TokenLogprobs
from shared.contracts.tools import ToolCall

Emit = Callable[[str, dict[str, Any]], None]


class Telling:
    """What is told of one generation; the engine's thread tells the pieces."""

    def __init__(self, emit: Emit, request: GenerationRequest, calling: Calling | None) -> None:
        self._emit = emit
        self._has_several = request.n > 1
        self._answers = [calling.answer(index) for index in range(request.n)] if calling else []
        self._counts = [0] * request.n

    def piece(self, piece: Piece) -> None:
        """Tell a piece, or as much of it as becomes no call."""
        if self._answers:
            self._tell(piece.index, self._answers[piece.index].push(piece.text), piece.logprobs)
        else:
            self._text(piece.index, piece.text, piece.logprobs)

    def end(self) -> None:
        """Tell what was held back."""
        for index, answer in enumerate(self._answers):
            self._tell(index, answer.end(), None)

    def _tell(self, index: int, found: Sequence[str | ToolCall], logprobs: TokenLogprobs | None) -> None:
        if logprobs is not None:  # they are those of the tokens that came, whatever is held back of their text
            first = found[0] if found and isinstance(found[0], str) else ""
            self._text(index, first, logprobs)
            found = found[1:] if first else found
        for one in found:
            if isinstance(one, str):
                self._text(index, one, None)
            else:
                self._emit("tool_call", self._data(index, tool_call={"index": self._counts[index], **one.model_dump()}))
                self._counts[index] += 1

    def _text(self, index: int, text: str, logprobs: TokenLogprobs | None) -> None:
        data = self._data(index, text=text)
        if logprobs is not None:
            data["logprobs"] = logprobs.model_dump(mode="json")
        self._emit("token", data)

    def _data(self, index: int, **data: Any) -> dict[str, Any]:
        """An event's data; of which choice it is they say only where there are several."""
        return data | ({"index": index} if self._has_several else {})
