import pytest

from services.trainer.data.examples import InstructionRow, SelectorRow
from services.trainer.training.batches import IGNORED, collate, pack
from services.trainer.training.sequences import (
    RowRefused,
    adapter_examples,
    balanced,
    long_answers,
    selector_examples,
)
from shared.contracts.built_in_templates import adapter_prompt
from shared.contracts.labels import Label
from shared.contracts.turns import Turn
from shared.model.tokens import encode, encode_text, end_id

LABELS = [Label("fin", "sa"), Label("fin", "ha")]


def test_an_adapter_example_is_the_chatml_prompt_and_the_output(tiny_tokenizer):
    (example,) = adapter_examples(tiny_tokenizer, [InstructionRow("Mood?", "Up.", "good")], "chatml", 200)

    assert tiny_tokenizer.decode(example.prompt).endswith("user\nUp.<|im_end|>\n<|im_start|>assistant\n")
    assert tiny_tokenizer.decode(example.answer) == "good<|im_end|>"


def test_a_selector_example_answers_with_its_own_label(tiny_tokenizer):
    (example,) = selector_examples(tiny_tokenizer, [SelectorRow("Up.", LABELS[1])], LABELS, 300)

    assert tiny_tokenizer.decode(example.prompt).endswith("Tasks:ha, sa\nResults:\nDomain:")
    assert tiny_tokenizer.decode(example.answer) == "fin\nTask:ha<|im_end|>"


def test_a_long_row_is_shortened_in_its_input_alone(tiny_tokenizer):
    (example,) = adapter_examples(tiny_tokenizer, [InstructionRow("Mood?", "x" * 1000, "good")], "chatml", 100)

    assert len(example) == 100
    assert tiny_tokenizer.decode(example.answer) == "good<|im_end|>"
    assert tiny_tokenizer.decode(example.prompt).endswith("<|im_start|>assistant\n")


def test_a_row_whose_answer_fills_everything_is_refused_by_number(tiny_tokenizer):
    rows = [InstructionRow("a", "b", "c"), InstructionRow("a", "b", "c" * 100)]

    with pytest.raises(RowRefused, match=r"^row 2: its answer takes 101 tokens, .* 60 \(`max_length`\)") as refusal:
        adapter_examples(tiny_tokenizer, rows, "plain", 60)
    assert (refusal.value.code, refusal.value.number) == ("answer_too_long", 2)


def test_an_answer_that_leaves_its_prompt_no_room_is_what_is_too_long(tiny_tokenizer):
    """The instruction and its borders take 5 tokens: 60 hold an answer of 54 with one token of the input."""
    rows = [InstructionRow("a", "b" * 20, "c" * length) for length in (53, 54, 60, 100)]

    assert long_answers(tiny_tokenizer, rows, "plain", 60) == [1, 2, 3]
    with pytest.raises(RowRefused, match=r"^row 2: its answer takes 55 tokens"):
        adapter_examples(tiny_tokenizer, rows, "plain", 60)


def test_an_answer_is_cut_to_what_its_prompt_leaves_and_to_half_of_that_at_least(tiny_tokenizer):
    rows = [InstructionRow("a", "b" * length, "c" * 100) for length in (5, 1000)]

    short, long = adapter_examples(tiny_tokenizer, rows, "plain", 60, cut_answers=True)

    assert tiny_tokenizer.decode(short.prompt) == "a\n\n" + "b" * 5 + "\n\n"
    assert tiny_tokenizer.decode(short.answer) == "c" * 50  # without an end: the answer goes on
    assert (len(long), tiny_tokenizer.decode(long.answer)) == (60, "c" * 28)


def test_a_row_whose_instruction_fills_everything_is_refused_by_number(tiny_tokenizer):
    rows = [InstructionRow("a", "b", "c"), InstructionRow("a" * 100, "b", "c")]

    with pytest.raises(RowRefused, match=r"^row 2: the prompt without its input"):
        adapter_examples(tiny_tokenizer, rows, "plain", 60)


def test_the_end_token_is_learned_and_never_read(tiny_tokenizer):
    examples = adapter_examples(tiny_tokenizer, [InstructionRow("a", "b", "c")], "plain", 100)
    batch = collate(examples)

    assert batch["labels"][0, -1] == end_id(tiny_tokenizer)
    assert end_id(tiny_tokenizer) not in batch["input_ids"][0]


def conversation(*contents, weights=None):
    roles = ["user", "assistant"] * len(contents)
    weights = weights or [1] * len(contents)
    turns = [Turn(role=r, content=c, weight=w) for r, c, w in zip(roles, contents, weights, strict=False)]
    return InstructionRow("", contents[-2], contents[-1], tuple(turns))


def learnt(tokenizer, examples):
    """The texts that the loss is taken on, stretch by stretch, example by example."""
    texts = []
    for row in collate(examples)["labels"].tolist():
        stretches = "".join("\n" if token == IGNORED else "x" for token in row)
        at = 0
        for stretch in stretches.split("\n"):
            if stretch:
                texts.append(tokenizer.decode(row[at : at + len(stretch)]))
            at += len(stretch) + 1
    return texts


def test_of_a_conversation_the_assistants_turns_alone_are_learnt(tiny_tokenizer):
    (example,) = adapter_examples(tiny_tokenizer, [conversation("Hi", "Hello", "More?", "No")], "chatml", 400)

    whole = tiny_tokenizer.decode(example.prompt + example.answer)
    assert whole.endswith("Hello<|im_end|>\n<|im_start|>user\nMore?<|im_end|>\n<|im_start|>assistant\nNo<|im_end|>")
    assert learnt(tiny_tokenizer, [example]) == ["Hello<|im_end|>", "No<|im_end|>"]


def test_the_last_answer_of_a_conversation_follows_the_prompt_that_is_served(tiny_tokenizer):
    row = conversation("Hi", "Hello", "More?", "No")
    (example,) = adapter_examples(tiny_tokenizer, [row], "chatml", 400)

    served = encode(tiny_tokenizer, adapter_prompt("chatml", row.prompt), 400)
    answer = [*encode_text(tiny_tokenizer, "No"), end_id(tiny_tokenizer, "chatml")]
    assert example.prompt + example.answer == served + answer


def test_a_turn_of_weight_0_is_read_and_not_learnt(tiny_tokenizer):
    row = conversation("Hi", "Hello", "More?", "No", "Sure?", "Yes", weights=[1, 1, 1, 0, 1, 1])

    (example,) = adapter_examples(tiny_tokenizer, [row], "chatml", 400)

    assert learnt(tiny_tokenizer, [example]) == ["Hello<|im_end|>", "Yes<|im_end|>"]
    assert "No<|im_end|>" in tiny_tokenizer.decode(example.answer)


def test_where_a_template_writes_no_end_after_a_turn_each_answer_is_an_example(tiny_tokenizer):
    examples = adapter_examples(tiny_tokenizer, [conversation("Hi", "Hello", "More?", "No")], "plain", 400)

    assert [tiny_tokenizer.decode(example.prompt) for example in examples] == [
        "\n\nHi\n\n",
        "\n\nHi\n\nHello\n\nMore?\n\n",
    ]
    assert [example.answer[-1] for example in examples] == [end_id(tiny_tokenizer)] * 2


def test_a_conversation_that_does_not_fit_is_refused_cut_or_left_out(tiny_tokenizer):
    rows = [InstructionRow("a", "b", "c"), conversation("Hi", "Hello", "More?" * 50, "No")]

    assert long_answers(tiny_tokenizer, rows, "chatml", 150) == [1]
    with pytest.raises(RowRefused, match=r"^row 2: its conversation takes \d+ tokens, it may have 150"):
        adapter_examples(tiny_tokenizer, rows, "chatml", 150)
    _, cut = adapter_examples(tiny_tokenizer, rows, "chatml", 150, cut_answers=True)
    assert len(cut) == 150
    assert learnt(tiny_tokenizer, [cut]) == ["Hello<|im_end|>"]


def test_a_conversation_whose_first_question_fills_everything_is_refused(tiny_tokenizer):
    with pytest.raises(RowRefused, match=r"^row 1: its first question fills 60 tokens"):
        adapter_examples(tiny_tokenizer, [conversation("Hi" * 90, "Hello", "b", "c")], "plain", 60, cut_answers=True)


def test_packed_conversations_are_learnt_in_the_same_places(tiny_tokenizer):
    rows = [conversation("Hi", "Hello", "More?", "No"), InstructionRow("", "b", "c")]
    examples = adapter_examples(tiny_tokenizer, rows, "chatml", 400)

    padded, packed = collate(examples), pack(examples)

    assert packed["labels"].tolist() == padded["labels"].tolist()
    for row, labels in enumerate(packed["labels"].tolist()):
        places = packed["logits_to_keep"].reshape(padded["labels"].shape)[row].tolist()
        following = [packed["input_ids"][0, place + 1].item() for place in places[:-1]]
        wanted = [(label, token) for label, token in zip(labels, following, strict=False) if label != IGNORED]
        assert all(label == token for label, token in wanted)


def test_examples_of_several_tasks_keep_what_is_masked(tiny_tokenizer):
    examples = adapter_examples(tiny_tokenizer, [conversation("Hi", "Hello", "More?", "No")], "chatml", 400)

    (one, _) = balanced([examples, examples * 3])[:2]

    assert one.masked == examples[0].masked != ()
