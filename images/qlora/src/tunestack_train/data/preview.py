"""Examples as a person can check them: the text that the model reads, and which part of it is learnt."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from tunestack_train.data.examples import Conversation, Example, PromptCompletion
from tunestack_train.data.tokens import IGNORED, Renderer, encode_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "⟦", "⟧"
"""Stand around what is learnt where there is no colour."""

_LONGEST: Final = 600
_LEARNT, _OTHER, _PLAIN = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"
# Control characters of the data must not reach a terminal.
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Piece:
    text: str
    learnt: bool


@dataclass(frozen=True)
class Sample:
    """`tokens` and `learnt` are None where there is no tokenizer; `cut` counts the tokens that are not trained on."""

    origin: str
    pieces: tuple[Piece, ...]
    tokens: int | None = None
    learnt: int | None = None
    cut: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "origin": self.origin,
            "pieces": [{"text": piece.text, "learnt": piece.learnt} for piece in self.pieces],
            "tokens": self.tokens,
            "learnt": self.learnt,
            "cut": self.cut,
        }

    def describe(self, *, colour: bool) -> str:
        """The pieces one after the other, long ones shortened in the middle, with what is learnt marked."""
        counts = "" if self.tokens is None else f"  {self.tokens} tokens, {self.learnt} learnt"
        cut = f"{_dim('…', colour=colour)} {self.cut} tokens cut" if self.cut else ""
        text = "".join(_marked(piece, colour=colour) for piece in self.pieces)
        body = "\n".join(f"  {line}" for line in f"{text}{cut}".rstrip("\n").split("\n"))
        return f"{self.origin}{counts}\n{body}"


def tokenised_sample(tokenizer: "PreTrainedTokenizerBase", example: Example, max_length: int) -> Sample:
    """The example as the model gets it, token by token: what is marked is what the labels say."""
    rendered = Renderer(tokenizer).render(example)
    ids, offsets, labels = encode_text(tokenizer, rendered)
    flagged: list[tuple[str, bool]] = []
    reached = 0
    for token, (_, end), label in list(zip(ids, offsets, labels, strict=True))[:max_length]:
        text = rendered.text[reached:end] if end > reached else ""
        # A token that the tokenizer adds has no place in the text.
        added = end == 0 and not text
        flagged.append((str(tokenizer.convert_ids_to_tokens(token)) if added else text, label != IGNORED))
        reached = max(reached, end)
    pieces = tuple(
        Piece("".join(text for text, _ in group), learnt)
        for learnt, group in groupby(flagged, key=lambda pair: pair[1])
    )
    kept = labels[:max_length]
    return Sample(
        example.origin,
        pieces,
        len(kept),
        sum(label != IGNORED for label in kept),
        max(0, len(ids) - max_length),
    )


def plain_sample(example: Example) -> Sample:
    """The example without a tokenizer, and so without a chat template: who says what, and what is learnt of it."""
    return Sample(example.origin, tuple(_plain_pieces(example)))


def _plain_pieces(example: Example) -> Iterator[Piece]:
    if isinstance(example, Conversation):
        for turn in example.turns:
            yield Piece(f"{turn.role}: ", learnt=False)
            yield Piece(turn.content, learnt=turn.role == "assistant")
            yield Piece("\n", learnt=False)
    elif isinstance(example, PromptCompletion):
        yield Piece(example.prompt, learnt=False)
        yield Piece(example.completion, learnt=True)
    else:
        yield Piece(example.text, learnt=True)


def _marked(piece: Piece, *, colour: bool) -> str:
    text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", piece.text)
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]} [… {len(text) - 2 * half:,} characters …] {text[-half:]}"
    if not colour:
        return f"{OPEN}{text}{CLOSE}" if piece.learnt else text
    start = _LEARNT if piece.learnt else _OTHER
    # Each line by itself, so that a pager which is left in mid-text leaves no colour behind.
    return "\n".join(f"{start}{line}{_PLAIN}" if line else "" for line in text.split("\n"))


def _dim(text: str, *, colour: bool) -> str:
    return f"{_OTHER}{text}{_PLAIN}" if colour else text
