"""Requests about releases."""

from typing import Annotated, Literal

from pydantic import Field

from services.api.jobs.schemas import MAX_INSTRUCTION_CHARS, LabelText, Ref, Request
from shared.contracts.harness import TagName
from shared.contracts.reading import ReadingMode
from shared.contracts.training_tasks import AdapterRef

MAX_EDITED = 10_000


class PromoteRequest(Request):
    """`force` overrules the gate and does not require live workers; it needs the scope `admin`."""

    force: bool = False


class ReleaseEdit(Request):
    """What a candidate has otherwise than the release `start_from`, or than the current one; nothing is trained.

    Labels that the selector does not know are served to requests that name them.
    """

    start_from: Annotated[str, Field(max_length=64)] = ""
    add: Annotated[dict[LabelText, AdapterRef], Field(max_length=MAX_EDITED)] = Field(default_factory=dict)
    """Label -> adapter: `label@n`, a label (its newest version) or a digest."""
    remove: Annotated[list[LabelText], Field(max_length=MAX_EDITED)] = Field(default_factory=list)
    templates: Annotated[dict[LabelText, Ref], Field(max_length=MAX_EDITED)] = Field(default_factory=dict)
    groups: Annotated[dict[LabelText, Ref], Field(max_length=MAX_EDITED)] = Field(default_factory=dict)
    instructions: Annotated[
        dict[LabelText, Annotated[str, Field(max_length=MAX_INSTRUCTION_CHARS)]], Field(max_length=MAX_EDITED)
    ] = Field(default_factory=dict)
    selector: Literal["keep", "none"] = "keep"
    """`none` leaves the selector away: every request then names its label."""
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    """Texts are rejected where the selector's confidence is lower. The candidate is judged anew at it, on the rows that
    the release keeps of those that it was judged on."""
    reading: ReadingMode | None = None
    """What the selector reads of a conversation; null leaves it as it is. A release that had no reading before takes
    `dialogue` with the usual numbers; a training fits them."""
    harness_tags: Annotated[list[TagName], Field(max_length=MAX_EDITED)] | None = None
    """Tags between which programs write into user turns, in place of those that the release names."""

    @property
    def changes(self) -> dict[str, dict[str, str]]:
        """The new values of a label's fields, by field and label."""
        return {"template": self.templates, "group": self.groups, "instruction": self.instructions}


class RollbackRequest(Request):
    """The release to return to; where `to` is empty, the current release's parent. `force` needs no live workers."""

    to: Annotated[str, Field(max_length=64)] = ""
    force: bool = False
