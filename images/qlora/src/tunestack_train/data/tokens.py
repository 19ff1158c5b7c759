"""Tokens and labels out of examples: the loss falls on answers only, whatever the chat template.

A conversation is rendered by the chat template as a whole and again up to each answer; what an answer adds to the text
is what is learnt. So any template works that renders turns one after the other, without marks of its own for training.
"""

import contextlib
import itertools
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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
_PARALLELISM: Final = "TOKENIZERS_PARALLELISM"


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


def encode(tokenizer: "PreTrainedTokenizerBase", examples: Iterable[Example], max_length: int) -> Iterator[Encoded]:
    """Tokens and labels of the examples in their order, at most `max_length` each, with a few hundred in memory.

    Raises DataError at the end, naming the examples that the chat template cannot render.
    """
    renderer = Renderer(tokenizer)
    # Some tokenizer.json files come with both; cutting is done here, so that what was cut can be counted.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    bad: list[BadRow] = []
    count = bad_count = 0
    with _all_cores():
        for chunk in _chunks(examples):
            rendered: list[tuple[str, Rendered]] = []
            for example in chunk:
                count += 1
                try:
                    rendered.append((example.origin, renderer.render(example)))
                except ValueError as error:
                    bad_count += 1
                    if len(bad) < _SHOWN:
                        bad.append(BadRow(example.origin, str(error)))
            if not bad:
                yield from _encode(tokenizer, rendered, max_length)
    if bad:
        lines = [f"  {row}" for row in bad] + [f"  and {bad_count - _SHOWN} more"] * (bad_count > _SHOWN)
        raise DataError(
            "\n".join([f"the chat template cannot render {bad_count} of {count} examples:", *lines]),
            "mend the rows, or give another template by --set chat_template=FILE",
        )


@contextlib.contextmanager
def _all_cores() -> Iterator[None]:
    """Lets the tokenizer use every core. Elsewhere it may not: its threads would not outlive a fork."""
    before = os.environ.get(_PARALLELISM)
    os.environ[_PARALLELISM] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PARALLELISM]
        else:
            os.environ[_PARALLELISM] = before


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    iterator = iter(examples)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


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
        last = len(turns) - 1
        for index, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._template(turns[:index], add_generation_prompt=True)
            upto = text if index == last else self._template(turns[: index + 1])
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
    backend = tokenizer.backend_tokenizer
    for special_tokens, group in itertools.groupby(rendered, key=lambda pair: pair[1].special_tokens):
        pairs = list(group)
        encodings = backend.encode_batch([text.text for _, text in pairs], add_special_tokens=special_tokens)
        for (origin, text), encoding in zip(pairs, encodings, strict=True):
            ids = encoding.ids
            labels = _labels(ids, encoding.offsets, text.learnt)
            yield Encoded(origin, ids[:max_length], labels[:max_length], max(0, len(ids) - max_length))


def encode_text(
    tokenizer: "PreTrainedTokenizerBase", rendered: Rendered
) -> tuple[list[int], list[tuple[int, int]], list[int]]:
    """Token ids of one text, where each begins and ends in it (in characters), and the labels; nothing is cut."""
    encoding = tokenizer.backend_tokenizer.encode(rendered.text, add_special_tokens=rendered.special_tokens)
    return encoding.ids, encoding.offsets, _labels(encoding.ids, encoding.offsets, rendered.learnt)


def _labels(ids: list[int], offsets: list[tuple[int, int]], learnt: tuple[tuple[int, int], ...]) -> list[int]:
    """A token is learnt when it begins within a learnt span. A token without text of its own (bos) is not."""
    labels = [IGNORED] * len(ids)
    # Tokens stand in the order of their text; what the tokenizer adds at the end says that it begins at 0.
    end = len(offsets)
    while end and offsets[end - 1] == (0, 0):
        end -= 1
    first = 0
    for begin, stop in learnt:
        first = bisect_left(offsets, (begin,), first, end)
        last = bisect_left(offsets, (stop,), first, end)
        labels[first:last] = ids[first:last]
        for position in range(first, last):
            if offsets[position][0] == offsets[position][1]:
                labels[position] = IGNORED
        first = last
    return labels
