"""Bounds of what a request says of the generation of its answer; the types of its parameters."""

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

MAX_BIASES = 300
_MAX_ID_DIGITS = 9


def _token_id(key: str) -> str:
    if not (key.isascii() and key.isdecimal()):
        raise ValueError('keys of logit_bias are token ids of the base model: write them in digits, such as "314"')
    return key


Choices = Annotated[int, Field(ge=1, le=8)]
TopLogprobs = Annotated[int, Field(ge=0, le=20)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
LogitBias = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=_MAX_ID_DIGITS), AfterValidator(_token_id)],
        Annotated[float, Field(ge=-100, le=100)],
    ],
    Field(max_length=MAX_BIASES),
]
