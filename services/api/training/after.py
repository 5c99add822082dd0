"""The jobs that a training waits for."""

from typing import Annotated

from pydantic import Field

After = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=64)]
