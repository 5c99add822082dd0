"""Fields of OpenAI's requests that this service does not honour: neutral values are taken, others are refused."""

from collections.abc import Callable, Container
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError


def refused(why: str, *, neutral: Container[Any] = ()) -> Any:
    """Return the type of a field that must be left out, null or `neutral`; its error says `why`."""
    return Annotated[None, BeforeValidator(_only(neutral, why)), WithJsonSchema({"type": "null", "description": why})]


def without_effect(what: str) -> Any:
    """Return the type of a field that changes no answer here: any value is taken, and dropped."""
    return Annotated[None, BeforeValidator(lambda _: None), WithJsonSchema({"type": "null", "description": what})]


def _only(neutral: Container[Any], why: str) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if value is None or value in neutral:
            return
        raise PydanticCustomError("not_honoured", "{why}", {"why": why})

    return check


NoName = refused("names of participants reach no prompt; leave it out, or write them into the text")
NoRefusal = refused("write what the assistant said into content")
NoAudio = refused("audio is not generated; leave it out")
NoFunctions = refused("functions are offered as tools: write each one into tools", neutral=([],))
NoFunctionChoice = refused("functions are offered as tools: take tool_choice", neutral=("none", "auto"))
NoFunctionCall = refused("calls of functions are tool_calls: write it as one of these")
OnlyText = refused("only text is generated: leave it out, or write ['text']", neutral=(["text"],))
NoReasoning = refused("the model reasons as its adapter was trained to; leave it out", neutral=("none",))
NoVerbosity = refused("answers are as long as the adapter was trained to write; leave it out", neutral=("medium",))
NoSearch = refused("nothing is searched; leave it out")
NoModeration = refused("nothing is moderated; leave it out")
NoStore = refused(
    "answers are not kept for OpenAI's dashboard; leave it out: GET /v1/jobs lists what was asked", neutral=(False,)
)
NoSuffix = refused("text is not filled in before a suffix; leave it out", neutral=("",))
NoEcho = refused("the prompt is not repeated in the answer; leave it out", neutral=(False,))
NoBestOf = refused("answers are not ranked; leave it out, or take n", neutral=(1,))
NoIntegrations = refused("no other service is told of steps: leave it out, and read events", neutral=([],))
NoDpo = refused("preferences are not trained on; take the method supervised")
NoReinforcement = refused("there are no graders to train against; take the method supervised")
CacheHint = without_effect("Prompts are cached by their beginning, whatever this says")
SpeedHint = without_effect("It changes no answer")
