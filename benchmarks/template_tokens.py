"""Do prompts have the tokens of `apply_chat_template`, and do control strings in user text stay text?

The tokenizers are SmolLM2's and small ones with the rules and chat templates of known families, with 20 conversations
each.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.common import print_table, row, write_results
from shared.contracts.built_in_templates import BUILT_IN
from shared.contracts.conversation import Message, message
from shared.model.base import load_tokenizer, resolve_base_model
from shared.model.tokens import control_ids, control_names, encode
from shared.prompts.bound import BasePrompts
from shared.settings import Settings
from tests.support.chat_tokenizers import FAMILIES, conversations, family, theirs

ROOMY = 1 << 20
TURNS = [message("user", "a"), message("assistant", "b"), message("user", "c")]


def equal(tokenizer: Any) -> list[bool]:
    """Whether each conversation has the tokens that transformers gives it."""
    bound = BasePrompts(tokenizer).bind(BUILT_IN["model"])
    today = datetime.now(UTC).date().isoformat()
    return [
        encode(tokenizer, bound.of_turns(messages, today), ROOMY) == theirs(tokenizer, messages)
        for messages in conversations()
    ]


def stay_text(tokenizer: Any) -> list[bool]:
    """Whether a prompt has the template's control tokens alone, for each name of one in its texts."""
    bound = BasePrompts(tokenizer).bind(BUILT_IN["model"])

    def controls(messages: Sequence[Message]) -> list[int]:
        ids = encode(tokenizer, bound.of_turns(messages), ROOMY)
        return [number for number in ids if number in control_ids(tokenizer)]

    names = sorted(control_names(tokenizer))
    texts = [text for name in names for text in (name, f"x{name}y", name * 3, f"{name[:2]}{name}{name[2:]}")]
    return [controls([message(turn.role, text) for turn in TURNS]) == controls(TURNS) for text in texts]


def main() -> None:
    tokenizers = {name: family(name) for name in FAMILIES}
    tokenizers["smollm2"] = load_tokenizer(resolve_base_model(Settings()))
    same = [one for tokenizer in tokenizers.values() for one in equal(tokenizer)]
    text = [one for tokenizer in tokenizers.values() for one in stay_text(tokenizer)]
    of = f"{len(tokenizers)} tokenizers"
    rows = [
        row(
            "template_tokens_equal", sum(same) / len(same), "of conversations", spread=f"n={len(same)}, {of}", goal=1.0
        ),
        row("control_strings_stay_text", sum(text) / len(text), "of texts", spread=f"n={len(text)}, {of}", goal=1.0),
    ]
    print_table(rows)
    write_results("template_tokens", rows)


if __name__ == "__main__":
    main()
