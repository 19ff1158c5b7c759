"""Tokens and labels out of examples: the loss falls on answers only, whatever the chat template.

A conversation is rendered by the chat template as a whole and again up to each answer; what an answer adds to the text
is what is learnt. So any template works that renders turns one after the other, without marks of its own for training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.data.examples import Conversation, Example, PromptCompletion, Turn
from tunestack_train.data.rows import BadRow
from tunestack_train.errors import DataError, SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED: Final = -100
"""The label of a token that no loss falls on."""

_TEMPLATES: Final = Path(__file__).parent.parent / "templates"
_CHUNK: Final = 512
_SHOWN: Final = 20


@dataclass(frozen=True)
class Rendered:
    """Text, and the spans of it (from, to; in characters) that are learnt.

    `special_tokens`: the tokenizer adds its own, such as the one that begins a sequence.
    """

    text: str
    learnt: tuple[tuple[int, int], ...]
    special_tokens: bool


@dataclass(frozen=True)
class Encoded:
    """Token ids and their labels, of the same length. `cut` counts the tokens beyond the longest allowed."""

    origin: str
    input_ids: list[int]
    labels: list[int]
    cut: int


@dataclass(frozen=True)
class EncodedSet:
    """What is trained on. `dropped` names examples of which the cut left nothing to learn."""

    examples: tuple[Encoded, ...]
    dropped: tuple[BadRow, ...]

    @property
    def tokens(self) -> int:
        return sum(len(example.input_ids) for example in self.examples)

    @property
    def learnt_tokens(self) -> int:
        return sum(label != IGNORED for example in self.examples for label in example.labels)

    @property
    def cut_examples(self) -> int:
        return sum(example.cut > 0 for example in self.examples)


def choose_template(tokenizer: "PreTrainedTokenizerBase", chat_template: str) -> str:
    """Gives the tokenizer the template that `chat_template` asks for; returns where it came from, for people.

    Without one of its own, a tokenizer that knows Gemma's turn tokens gets Gemma's template, any other a plain one.
    """
    if chat_template != "auto":
        try:
            tokenizer.chat_template = Path(chat_template).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"chat_template = {chat_template} cannot be read: {error}", "give the path of a Jinja file, or auto"
            ) from error
        return chat_template
    if tokenizer.chat_template:
        return "the tokenizer's own"
    name = "gemma" if "<start_of_turn>" in tokenizer.get_vocab() else "plain"
    tokenizer.chat_template = (_TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")
    return f"tunestack's for {name} models"


def encode_all(tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], max_length: int) -> EncodedSet:
    """Tokens and labels of all examples, at most `max_length` each. Raises DataError naming what cannot be rendered."""
    bad: list[BadRow] = []
    kept: list[Encoded] = []
    dropped: list[BadRow] = []
    renderer = Renderer(tokenizer)
    rendered: list[tuple[str, Rendered]] = []
    for example in examples:
        try:
            rendered.append((example.origin, renderer.render(example)))
        except ValueError as error:
            bad.append(BadRow(example.origin, str(error)))
    if bad:
        lines = [f"  {row}" for row in bad[:_SHOWN]] + [f"  and {len(bad) - _SHOWN} more"] * (len(bad) > _SHOWN)
        raise DataError(
            "\n".join([f"the chat template cannot render {len(bad)} of {len(examples)} examples:", *lines]),
            "mend the rows, or give another template by --set chat_template=FILE",
        )
    for encoded in _encode(tokenizer, rendered, max_length):
        # The first token has nothing before it to be predicted from.
        if any(label != IGNORED for label in encoded.labels[1:]):
            kept.append(encoded)
        else:
            reason = f"nothing to learn is left in its first {max_length} tokens ({encoded.cut} were cut)"
            dropped.append(BadRow(encoded.origin, reason))
    if not kept:
        raise DataError(
            f"no example has anything to learn within max_length = {max_length} tokens: {dropped[0]}",
            "set max_length higher, or shorten the prompts",
        )
    return EncodedSet(tuple(kept), tuple(dropped))


class Renderer:
    """Examples as text, with what is learnt of it, for one tokenizer and its chat template."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._system_turns: bool | None = None

    def render(self, example: Example) -> Rendered:
        """Raises ValueError with a reason when the chat template refuses the conversation."""
        if isinstance(example, Conversation):
            return self._conversation(example)
        end = self._tokenizer.eos_token or ""
        if isinstance(example, PromptCompletion):
            text = example.prompt + example.completion + end
            return Rendered(text, ((len(example.prompt), len(text)),), special_tokens=True)
        text = example.text + end
        return Rendered(text, ((0, len(text)),), special_tokens=True)

    def _conversation(self, example: Conversation) -> Rendered:
        turns = example.turns if self._renders_system_turns() else _fold_system(example.turns)
        text = self._template(turns)
        learnt: list[tuple[int, int]] = []
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._template(turns[:index], add_generation_prompt=True)
            upto = self._template(turns[: index + 1])
            if not (text.startswith(upto) and upto.startswith(before)):
                raise ValueError(
                    f"turn {index + 1}: the chat template changes what stands before an answer when the answer is added"
                )
            learnt.append((len(before), len(upto)))
        return Rendered(text, tuple(learnt), special_tokens=False)

    def _renders_system_turns(self) -> bool:
        if self._system_turns is None:
            probe = (Turn("system", "instructions"), Turn("user", "question"), Turn("assistant", "answer"))
            try:
                self._system_turns = "instructions" in self._template(probe)
            except ValueError:
                self._system_turns = False
        return self._system_turns

    def _template(self, turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
        from jinja2 import TemplateError

        messages = [{"role": turn.role, "content": turn.content} for turn in turns]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        except TemplateError as error:
            raise ValueError(f"the chat template refuses it: {error}") from error
        return str(text)


def _fold_system(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if turns[0].role != "system":
        return turns
    system, first, *rest = turns
    return (Turn(first.role, f"{system.content}\n\n{first.content}"), *rest)


def _encode(
    tokenizer: "PreTrainedTokenizerBase", rendered: Sequence[tuple[str, Rendered]], max_length: int
) -> Iterator[Encoded]:
    for special_tokens in (False, True):
        chosen = [pair for pair in rendered if pair[1].special_tokens == special_tokens]
        for start in range(0, len(chosen), _CHUNK):
            chunk = chosen[start : start + _CHUNK]
            tokens = tokenizer(
                [text.text for _, text in chunk],
                add_special_tokens=special_tokens,
                return_offsets_mapping=True,
                return_attention_mask=False,
                verbose=False,
            )
            for (origin, text), ids, offsets in zip(chunk, tokens["input_ids"], tokens["offset_mapping"], strict=True):
                labels = _labels(ids, offsets, text.learnt)
                yield Encoded(origin, ids[:max_length], labels[:max_length], max(0, len(ids) - max_length))


def _labels(ids: list[int], offsets: list[tuple[int, int]], learnt: tuple[tuple[int, int], ...]) -> list[int]:
    """A token is learnt when it begins within a learnt span. A token without text of its own (bos) is not."""
    labels = [IGNORED] * len(ids)
    spans = iter(learnt)
    span = next(spans, None)
    for position, (begin, end) in enumerate(offsets):
        while span is not None and begin >= span[1]:
            span = next(spans, None)
        if span is not None and begin >= span[0] and end > begin:
            labels[position] = ids[position]
    return labels
