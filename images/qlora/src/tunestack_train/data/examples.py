"""What rows mean: a conversation, an instruction, a prompt with its completion, or plain text."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tunestack_train.data.rows import Row


@dataclass(frozen=True)
class Turn:
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    """Alternating turns of user and assistant, a system turn first where there is one. The assistant's are learnt."""

    origin: str
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class PromptCompletion:
    """Text and how it goes on. Only the completion is learnt."""

    origin: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Text:
    """Plain text, all of which is learnt."""

    origin: str
    text: str


Example = Conversation | PromptCompletion | Text


def recognise(row: Row) -> str | None:
    """The format whose columns the row has; None when there is none. The richest comes first."""
    return next((name for name, columns in COLUMNS.items() if all(column in row.fields for column in columns)), None)


def to_example(row: Row, data_format: str) -> Example:
    """The example that a row stands for. Raises ValueError with the reason, in words for the row's author."""
    return _CONVERTERS[data_format](row)


def _conversation(row: Row) -> Conversation:
    messages = row.fields.get("messages", _ABSENT)
    if messages is _ABSENT:
        raise ValueError(_without("messages", row))
    if isinstance(messages, str):  # a CSV cell
        try:
            messages = json.loads(messages)
        except json.JSONDecodeError as error:
            raise ValueError(f"messages is not JSON: {error.msg} at column {error.colno}") from None
    if not isinstance(messages, list) or not messages:
        raise ValueError("messages is not a list of turns, or is empty")
    turns = tuple(_turn(message, number) for number, message in enumerate(messages, start=1))
    spoken = turns[1:] if turns[0].role == "system" else turns
    for number, turn in enumerate(spoken, start=len(turns) - len(spoken) + 1):
        expected = "user" if (number - (len(turns) - len(spoken))) % 2 == 1 else "assistant"
        if turn.role != expected:
            raise ValueError(
                f"turn {number} is by {turn.role} where {expected} should speak (they alternate, user first)"
            )
    if not spoken or spoken[-1].role != "assistant":
        raise ValueError("the last turn is not the assistant's, so there is no answer to learn")
    return Conversation(row.origin, turns)


def _turn(message: object, number: int) -> Turn:
    if not isinstance(message, Mapping):
        raise ValueError(f"turn {number} is not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "user", "assistant"):
        raise ValueError(f"turn {number} has the role {role!r}; there are system, user and assistant")
    if not isinstance(content, str) or not content.strip():
        raise ValueError(f"turn {number} ({role}) has no text as its content")
    return Turn(str(role), content)


def _instruction(row: Row) -> Conversation:
    question = _filled(row, "instruction")
    context = row.fields.get("input")
    if context is not None and not isinstance(context, str):
        raise ValueError("input is not text")
    if context is not None and context.strip():
        question = f"{question}\n\n{context}"
    return Conversation(row.origin, (Turn("user", question), Turn("assistant", _filled(row, "output"))))


def _prompt_completion(row: Row) -> PromptCompletion:
    return PromptCompletion(row.origin, _filled(row, "prompt"), _filled(row, "completion"))


def _text(row: Row) -> Text:
    return Text(row.origin, _filled(row, "text"))


def _filled(row: Row, column: str) -> str:
    value = row.fields.get(column, _ABSENT)
    if value is _ABSENT:
        raise ValueError(_without(column, row))
    if not isinstance(value, str):
        raise ValueError(f"{column} is not text but {value!r}")
    if not value.strip():
        raise ValueError(f"{column} is empty")
    return value


def _without(column: str, row: Row) -> str:
    return f"has no {column}; it has {', '.join(row.fields) or 'no columns'}"


_ABSENT: Final = object()

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "chat": ("messages",),
    "instruction": ("instruction", "output"),
    "prompt_completion": ("prompt", "completion"),
    "text": ("text",),
}

_CONVERTERS: Final[Mapping[str, Callable[[Row], Example]]] = {
    "chat": _conversation,
    "instruction": _instruction,
    "prompt_completion": _prompt_completion,
    "text": _text,
}
