"""Small tokenizers with the special tokens, the rules and the chat templates of known families."""

import functools
import json
from pathlib import Path

from shared.contracts.conversation import message

ROOT = Path(__file__).parents[2]
TEMPLATES = Path(__file__).with_name("chat_templates")
"""As the families' tokenizers bring them; those with `-tools` also write tools, the others do not."""
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
_QWEN = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_GEMMA = ["<start_of_turn>", "<end_of_turn>"]
_PHI = ["<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"]


def byte_level(special, *, added=(), bos=None, eos):
    """A byte-level BPE with merges, as Llama 3 and Qwen have; `added` are added tokens that are not special."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(_WORDS), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    inner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=[], initial_alphabet=alphabet, show_progress=False)
    inner.train_from_iterator(_lines(), trainer)
    return _fast(inner, special, added, bos_token=bos, eos_token=eos)


def sentence_piece(special, *, added=(), rstrip=(), bos="<s>", eos="</s>", prefix=True):
    """A BPE over characters with byte fallback, as Llama 2, Gemma, Mistral, Zephyr and Phi-3 have."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    inner = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("▁")] if prefix else []
    inner.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "▁")])
    inner.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    own, octets = ["<unk>", bos, eos], [f"<0x{number:02X}>" for number in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=[*own, *octets], show_progress=False)
    inner.train_from_iterator((word for line in _lines() for word in line.split(" ")), trainer)
    inner = _without_added(inner, octets)
    return _fast(inner, special, added, rstrip, bos_token=bos, eos_token=eos, unk_token="<unk>")


def _without_added(inner, names):
    """The tokenizer in which these tokens are in the vocabulary alone."""
    from tokenizers import Tokenizer

    content = json.loads(inner.to_str())
    content["added_tokens"] = [token for token in content["added_tokens"] if token["content"] not in names]
    return Tokenizer.from_str(json.dumps(content))


def _fast(inner, special, added, rstrip=(), **names):
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    inner.add_special_tokens([AddedToken(name, rstrip=name in rstrip, normalized=False) for name in special])
    inner.add_tokens([AddedToken(name, normalized=False) for name in added])
    if bos := names["bos_token"]:
        inner.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, inner.token_to_id(bos))])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, **{name: token for name, token in names.items() if token is not None}
    )


@functools.cache
def _lines():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    return [line for page in pages for line in page.read_text().splitlines()]


def _llama3():
    return byte_level(_LLAMA3, bos="<|begin_of_text|>", eos="<|eot_id|>")


def _gemma():
    return sentence_piece(_GEMMA, added=["\n\n", "\n\n\n", "▁▁"], bos="<bos>", eos="<eos>", prefix=False)


FAMILIES = {
    "llama2": lambda: sentence_piece([]),
    "llama3": _llama3,
    "llama3.1": _llama3,
    "gemma2": _gemma,
    "gemma3": _gemma,
    "mistral": lambda: sentence_piece(["[INST]", "[/INST]"]),
    "zephyr": lambda: sentence_piece([]),
    "olmo2": lambda: byte_level(["<|endoftext|>"], bos="<|endoftext|>", eos="<|endoftext|>"),
    "smollm3": lambda: byte_level(_QWEN, added=["<think>", "</think>"], eos="<|im_end|>"),
    "phi3": lambda: sentence_piece(_PHI, rstrip=_PHI[1:], eos="<|endoftext|>"),
    "qwen2.5": lambda: byte_level(_QWEN, eos="<|im_end|>"),
    "qwen3": lambda: byte_level(_QWEN, added=["<think>", "</think>"], eos="<|im_end|>"),
}
_CALLS = ["<tool_call>", "</tool_call>"]
_MISTRAL = ["[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]"]
TOOL_FAMILIES = {
    "qwen2.5-tools": lambda: byte_level(_QWEN, added=_CALLS, eos="<|im_end|>"),
    "qwen3-tools": lambda: byte_level(_QWEN, added=[*_CALLS, "<think>", "</think>"], eos="<|im_end|>"),
    "llama3.1-tools": _llama3,
    "mistral-tools": lambda: sentence_piece([*_MISTRAL, "[/TOOL_RESULTS]"]),
}


@functools.cache
def family(name):
    """The tokenizer of a family, made once."""
    made = (FAMILIES | TOOL_FAMILIES)[name]()
    made.chat_template = (TEMPLATES / f"{name}.jinja").read_text()
    return made


_SAID = (
    ("You are a terse assistant.", "Hello!", "Hi, what can I do for you?", "Sum 12 and 30, please."),
    ("Answer in French.", "Where is the station?", "À droite, puis à gauche.", "Merci — et l'heure ?"),
    ("<b>Name</b> the card & nothing else", "my card was declined", "Which card, the blue one?", "yes. the blue one"),
    ("  Keep to the facts.\n\nUse tables.  ", "\n\nList:\n- one\n- two\n", "| a | b |\n", "  indented\n    more\n"),
    ("字", "naïve ☃ café", "🙂🙂 ok", "tab\tand  two  blanks \u2028 done"),
)


def conversations():
    """Twenty conversations without control strings: one to three questions, with and without an instruction."""
    for number, (instruction, first, answer, second) in enumerate(_SAID):
        system = [message("system", instruction)]
        turns = [message("user", first), message("assistant", answer), message("user", second)]
        longer = [*turns, message("assistant", f"{answer}{number}"), message("user", first)]
        yield from (turns[:1], [*system, *turns[:1]], [*system, *turns], longer)


def theirs(tokenizer, messages):
    """The ids that transformers gives a conversation; where its template has no role `system`, by the rule of Gemma."""
    said = [{"role": turn.role, "content": turn.text} for turn in messages]
    if said[0]["role"] == "system" and any(
        word in tokenizer.chat_template for word in ("System role not", "Only user")
    ):
        said[1]["content"] = f"{said[0]['content']}\n\n{said[1]['content']}"
        said = said[1:]
    return tokenizer.apply_chat_template(said, add_generation_prompt=True)["input_ids"]
