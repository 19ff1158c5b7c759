"""What the loss falls on, token by token, with the rehearsal's tokenizer and with templates of other families."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import Workplace
from tunestack_train import rehearsal
from tunestack_train.data.examples import Conversation, Example, PromptCompletion, Text, Turn
from tunestack_train.data.load import load
from tunestack_train.data.tokens import IGNORED, Encoded, choose_template
from tunestack_train.data.tokens import encode as encode_each
from tunestack_train.errors import DataError, SettingsError
from tunestack_train.model import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

GEMMA = (
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ONE = Conversation("a:1", (Turn("user", "Why?"), Turn("assistant", "Because.")))
TWO = Conversation("a:2", (*ONE.turns, Turn("user", "And?"), Turn("assistant", "So it is.")))
SYSTEM = Conversation("a:3", (Turn("system", "Be kind."), *ONE.turns))


@dataclass(frozen=True)
class Maker:
    """Makes tokenizers of the rehearsal, each with a template of its own."""

    folder: Path

    def tokenizer(self, template: str | None = None) -> "PreTrainedTokenizerBase":
        tokenizer = load_tokenizer(self.folder, "rehearsal")
        tokenizer.chat_template = template
        choose_template(tokenizer, "auto")
        return tokenizer


@pytest.fixture(scope="module")
def maker(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    examples = load(str(workplace.data), "auto").examples()
    return Maker(rehearsal.make_model(tmp_path_factory.mktemp("rehearsal") / "model", examples, seed=42))


def encode(tokenizer: "PreTrainedTokenizerBase", example: Example, max_length: int = 256) -> Encoded:
    (encoded,) = encode_each(tokenizer, [example], max_length)
    return encoded


def text_of(tokenizer: "PreTrainedTokenizerBase", ids: list[int]) -> str:
    return str(tokenizer.decode(ids, clean_up_tokenization_spaces=False))


def learnt(tokenizer: "PreTrainedTokenizerBase", encoded: Encoded) -> str:
    return text_of(tokenizer, [label for label in encoded.labels if label != IGNORED])


def test_only_the_answer_and_its_end_are_learnt_exactly(maker: Maker) -> None:
    tokenizer = maker.tokenizer()
    prompt = "<bos><start_of_turn>user\nWhy?<end_of_turn>\n<start_of_turn>model\n"
    prompt_ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_ids = tokenizer("Because.<end_of_turn>\n", add_special_tokens=False)["input_ids"]
    encoded = encode(tokenizer, ONE)
    assert encoded.input_ids == prompt_ids + answer_ids
    assert encoded.labels == [IGNORED] * len(prompt_ids) + answer_ids
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1
    assert answer_ids[-2:] == tokenizer.convert_tokens_to_ids(["<end_of_turn>", "\n"])


def test_every_answer_of_a_conversation_is_learnt_and_no_question(maker: Maker) -> None:
    tokenizer = maker.tokenizer()
    encoded = encode(tokenizer, TWO)
    assert learnt(tokenizer, encoded) == "Because.<end_of_turn>\nSo it is.<end_of_turn>\n"
    assert all(label in (IGNORED, token) for label, token in zip(encoded.labels, encoded.input_ids, strict=True))


@pytest.mark.parametrize("template", [None, GEMMA], ids=["tunestack's", "Gemma's own, which refuses system turns"])
def test_a_system_turn_stands_before_the_first_question_and_is_not_learnt(maker: Maker, template: str | None) -> None:
    tokenizer = maker.tokenizer(template)
    encoded = encode(tokenizer, SYSTEM)
    assert "<start_of_turn>user\nBe kind.\n\nWhy?<end_of_turn>" in text_of(tokenizer, encoded.input_ids)
    assert learnt(tokenizer, encoded) == "Because.<end_of_turn>\n"


def test_the_bundled_template_writes_what_gemmas_own_does(maker: Maker) -> None:
    assert encode(maker.tokenizer(), TWO) == encode(maker.tokenizer(GEMMA), TWO)


def test_a_template_of_another_family_is_learnt_by_its_own_turns(maker: Maker) -> None:
    tokenizer = maker.tokenizer(CHATML)
    assert learnt(tokenizer, encode(tokenizer, SYSTEM)) == "Because.<|im_end|>\n"


def test_a_model_without_turn_tokens_gets_the_plain_template(maker: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = maker.tokenizer()
    tokenizer.chat_template = None
    monkeypatch.setattr(type(tokenizer), "get_vocab", lambda _: {"hello": 0})
    assert choose_template(tokenizer, "auto") == "tunestack's for plain models"
    monkeypatch.undo()
    encoded = encode(tokenizer, TWO)
    assert text_of(tokenizer, encoded.input_ids) == (
        "<bos>### Instruction:\nWhy?\n\n### Response:\nBecause.<eos>\n### Instruction:\nAnd?\n\n### Response:\n"
        "So it is.<eos>\n"
    )
    assert learnt(tokenizer, encoded) == "Because.<eos>\nSo it is.<eos>\n"


def test_a_completion_is_learnt_with_its_end(maker: Maker) -> None:
    tokenizer = maker.tokenizer()
    encoded = encode(tokenizer, PromptCompletion("a:1", "Question: Why?\nAnswer:", " Because."))
    assert encoded.input_ids[0] == tokenizer.bos_token_id
    assert encoded.input_ids[-1] == encoded.labels[-1] == tokenizer.eos_token_id
    assert learnt(tokenizer, encoded) == " Because.<eos>"


def test_text_is_learnt_whole(maker: Maker) -> None:
    tokenizer = maker.tokenizer()
    encoded = encode(tokenizer, Text("a:1", "When the adapter is saved é 日本.\n\nSo."))
    assert encoded.labels == [IGNORED, *encoded.input_ids[1:]]
    assert text_of(tokenizer, encoded.input_ids) == "<bos>When the adapter is saved é 日本.\n\nSo.<eos>"


def test_what_is_too_long_is_cut(maker: Maker) -> None:
    tokenizer = maker.tokenizer()
    whole = encode(tokenizer, ONE)
    answer_starts = next(index for index, label in enumerate(whole.labels) if label != IGNORED)
    cut = encode(tokenizer, ONE, max_length=answer_starts + 1)
    assert (cut.input_ids, cut.cut) == (whole.input_ids[: answer_starts + 1], len(whole.input_ids) - answer_starts - 1)


def test_a_template_that_rewrites_earlier_turns_is_refused_by_row(maker: Maker) -> None:
    rewriting = "{{ messages | length }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    with pytest.raises(DataError, match=r"a:1: turn 2: the chat template changes what stands before an answer"):
        list(encode_each(maker.tokenizer(rewriting), [ONE], 256))


def test_a_conversation_that_the_template_refuses_is_named(maker: Maker) -> None:
    refusing = "{% if messages | length > 2 %}{{ raise_exception('too long a talk') }}{% endif %}" + GEMMA
    with pytest.raises(DataError, match=r"cannot render 1 of 2 examples:\n  a:2: .*too long a talk"):
        list(encode_each(maker.tokenizer(refusing), [ONE, TWO], 256))


def test_a_template_is_taken_from_a_file(maker: Maker, tmp_path: Path) -> None:
    tokenizer = maker.tokenizer(GEMMA)
    (tmp_path / "mine.jinja").write_text(CHATML, encoding="utf-8")
    choose_template(tokenizer, str(tmp_path / "mine.jinja"))
    assert learnt(tokenizer, encode(tokenizer, ONE)) == "Because.<|im_end|>\n"
    with pytest.raises(SettingsError, match=r"missing\.jinja cannot be read"):
        choose_template(tokenizer, str(tmp_path / "missing.jinja"))


def test_the_rehearsals_model_is_a_small_gemma_that_is_the_same_each_time(
    maker: Maker, workplace: Workplace, tmp_path: Path
) -> None:
    from transformers import AutoConfig

    examples = tuple(load(str(workplace.data), "auto").examples())
    again = rehearsal.make_model(tmp_path / "again", examples, seed=42)
    other = rehearsal.make_model(tmp_path / "other", examples, seed=43)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (maker.folder, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]
    assert (maker.folder / "tokenizer.model").read_bytes() == (again / "tokenizer.model").read_bytes()
    assert AutoConfig.from_pretrained(again).model_type == "gemma2"
    assert 1e6 < len(weights[0]) < 6e6  # bytes; two for each parameter


def test_the_rehearsals_tokenizer_reads_as_sentencepiece_does(maker: Maker, workplace: Workplace) -> None:
    import sentencepiece

    tokenizer = maker.tokenizer()
    original = sentencepiece.SentencePieceProcessor(model_file=str(maker.folder / "tokenizer.model"))
    for example in load(str(workplace.data), "auto").examples():
        assert isinstance(example, Conversation)
        for turn in example.turns:
            assert tokenizer(turn.content, add_special_tokens=False)["input_ids"] == original.encode(turn.content)
