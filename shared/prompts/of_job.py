"""What a generation job's prompt says, and, where that needs no vocabulary, the prompt itself."""

from shared.contracts.built_in_templates import BASE_INSTRUCTION
from shared.contracts.conversation import Message, with_instruction, with_prefix
from shared.contracts.generation import GenerationBody, generation_body
from shared.contracts.jobs import Job
from shared.contracts.manifests import ReleaseLabel
from shared.contracts.prompts import Segment
from shared.contracts.templates import PromptTemplate, framed


def turns_of(body: GenerationBody, entry: ReleaseLabel | None) -> tuple[Message, ...]:
    """Return the turns that the prompt says: the caller's, under the adapter's instruction where they have none.

    What tells the label's task from others of its adapter stands before the instruction, whoever wrote it: there it is
    never shortened, and stays where old turns go.
    """
    turns = with_instruction(body.messages, entry.instruction if entry else BASE_INSTRUCTION)
    return with_prefix(turns, entry.prefix if entry else "")


def prompt_of(job: Job, entry: ReleaseLabel, template: PromptTemplate) -> list[Segment]:
    """Return the prompt that a worker makes of a job by a template that needs no vocabulary; it may have shortened it.

    Raises `Invalid` where the job has tools.
    """
    body = generation_body(job)
    return framed(template, turns_of(body, entry), body.params.offered_tools)
