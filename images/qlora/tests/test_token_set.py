"""Tokenised sets: the same as tokens made one by one, kept by content, verified, made anew, and removed when old."""

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import Workplace, conversations, write_jsonl
from tunestack_train import rehearsal
from tunestack_train.data import cache as cache_module
from tunestack_train.data.cache import ContentCache
from tunestack_train.data.examples import PromptCompletion
from tunestack_train.data.load import TrainingData, load
from tunestack_train.data.token_set import TokenSet, tokenise
from tunestack_train.data.tokens import IGNORED, choose_template, encode
from tunestack_train.errors import DataError, DiskFullError
from tunestack_train.model import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@pytest.fixture(scope="module")
def model(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    examples = load(str(workplace.data), "auto").examples()
    return rehearsal.make_model(tmp_path_factory.mktemp("rehearsal") / "model", examples, seed=42)


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> "PreTrainedTokenizerBase":
    tokenizer = load_tokenizer(model, "rehearsal")
    choose_template(tokenizer, "auto")
    return tokenizer


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the entries that a cache had to make."""
    made: list[str] = []
    original = cache_module.write_folder

    def write_folder(destination: Path, *rest: object) -> Path:
        made.append(destination.name.partition("-")[0])
        return original(destination, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_module, "write_folder", write_folder)
    return made


def rows_of(tokens: TokenSet) -> list[tuple[list[int], list[int]]]:
    return [(row["input_ids"], row["labels"]) for row in tokens.dataset()]


def test_a_set_holds_what_encoding_gives_in_the_same_order(
    workplace: Workplace, model: Path, tokenizer: "PreTrainedTokenizerBase", tmp_path: Path
) -> None:
    data = load(str(workplace.data), "auto")
    tokens = tokenise(data, tokenizer, model, 256, ContentCache(tmp_path))
    expected = list(encode(tokenizer, data.examples(), 256))
    assert rows_of(tokens) == [(example.input_ids, example.labels) for example in expected]
    assert list(tokens.first(3)) == expected[:3]
    lengths = sorted(len(example.input_ids) for example in expected)
    assert (tokens.counts.examples, tokens.counts.tokens) == (60, sum(lengths))
    assert (tokens.counts.lengths.least, tokens.counts.lengths.median) == (lengths[0], lengths[29])
    assert (tokens.counts.lengths.p95, tokens.counts.lengths.most) == (lengths[57], lengths[-1])
    assert tokens.counts.learnt == sum(label != IGNORED for example in expected for label in example.labels)


def test_a_set_is_made_once_for_its_content(
    workplace: Workplace,
    model: Path,
    tokenizer: "PreTrainedTokenizerBase",
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = counted(monkeypatch)
    source = write_jsonl(tmp_path / "a.jsonl", conversations(10))
    cache = ContentCache(tmp_path / "cache")

    def use(max_length: int = 256) -> TokenSet:
        return tokenise(load(str(source), "auto", cache=cache), tokenizer, model, max_length, cache)

    first = rows_of(use())
    assert (rows_of(use()), made) == (first, ["rows", "tokens"])
    use(max_length=250)
    assert made == ["rows", "tokens", "tokens"]
    monkeypatch.setattr(tokenizer, "chat_template", f"{tokenizer.chat_template} ")
    use()
    assert made[3:] == ["tokens"]
    monkeypatch.undo()
    made = counted(monkeypatch)
    write_jsonl(source, conversations(11))
    use()
    assert made == ["rows", "tokens"]
    monkeypatch.setattr(cache_module, "_code_version", lambda: "another")
    use()
    assert made == ["rows", "tokens"] * 2


@given(position=st.integers(0, 1 << 30), how=st.sampled_from(["flip", "cut", "remove"]))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_set_is_made_anew(
    position: int,
    how: str,
    workplace: Workplace,
    model: Path,
    tokenizer: "PreTrainedTokenizerBase",
    tmp_path: Path,
) -> None:
    data = load(str(workplace.data), "auto")
    cache = ContentCache(tmp_path)
    tokens = tokenise(data, tokenizer, model, 256, cache)
    content = tokens.path.read_bytes()
    at = position % len(content)
    if how == "remove":
        tokens.path.unlink()
    elif how == "cut":
        tokens.path.write_bytes(content[:at])
    else:
        tokens.path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    again = tokenise(data, tokenizer, model, 256, cache)
    assert again.path.read_bytes() == content


def test_what_was_used_longest_ago_goes_when_the_cache_is_full(tmp_path: Path) -> None:
    cache = ContentCache(tmp_path, limit=2500)

    def entry(name: str) -> Path:
        path = cache.get(cache.key("test", name), lambda folder: folder.joinpath("x").write_bytes(bytes(800)) and None)
        os.utime(path, (len(order), len(order)))
        order.append(name)
        return path

    order: list[str] = []
    paths = {name: entry(name) for name in ("a", "b", "a")}
    paths["c"] = entry("c")
    assert [name for name, path in paths.items() if path.exists()] == ["a", "c"]
    assert sum(path.is_dir() for path in tmp_path.iterdir()) == 2


def test_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    made: list[int] = []
    entered = threading.Event()

    def fill(folder: Path) -> None:
        made.append(1)
        entered.wait(0.2)
        folder.joinpath("x").write_text("x", encoding="utf-8")

    def use() -> None:
        cache = ContentCache(tmp_path)
        assert (cache.get(cache.key("test", 1), fill) / "x").read_text(encoding="utf-8") == "x"

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_a_cache_that_cannot_be_written_is_replaced_by_one_of_the_process(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cache = ContentCache(tmp_path / "file" / "below")
    entry = cache.get(cache.key("test", 1), lambda folder: folder.joinpath("x").touch())
    assert (entry / "x").exists()
    assert not entry.is_relative_to(tmp_path)


def test_a_disk_that_is_full_is_named_and_leaves_nothing_half(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        folder.joinpath("x").write_text("x", encoding="utf-8")
        with Path("/dev/full").open("wb") as full:
            full.write(b"tokens")

    cache = ContentCache(tmp_path)
    with pytest.raises(DiskFullError):
        cache.get(cache.key("test", 1), fill)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def test_examples_without_anything_left_to_learn_are_dropped_by_name(
    model: Path, tokenizer: "PreTrainedTokenizerBase", tmp_path: Path
) -> None:
    question = [{"role": "user", "content": "Why? " * 20}, {"role": "assistant", "content": "Because."}]
    short = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]
    data = load(str(write_jsonl(tmp_path / "a.jsonl", [{"messages": question}, {"messages": short}])), "auto")
    tokens = tokenise(data, tokenizer, model, 24, ContentCache(tmp_path / "cache"))
    assert (tokens.counts.examples, tokens.dropped.count) == (1, 1)
    assert tokens.dropped.first[0].origin == "a.jsonl:1"
    assert "nothing to learn is left in its first 24 tokens" in tokens.dropped.first[0].reason
    with pytest.raises(DataError, match=r"no example has anything to learn within max_length = 8 tokens: a\.jsonl:1"):
        tokenise(data, tokenizer, model, 8, ContentCache(tmp_path / "cache"))


def test_data_that_changes_while_it_is_read_is_noticed(
    model: Path, tokenizer: "PreTrainedTokenizerBase", tmp_path: Path
) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", conversations(10))
    data: TrainingData = load(str(source), "auto")
    write_jsonl(source, conversations(9))
    with pytest.raises(DataError, match="was changed while it was read: it had 10 rows, now 9"):
        tokenise(data, tokenizer, model, 256, ContentCache(tmp_path / "cache"))


TEXTS = st.text(
    st.sampled_from("ab é日\n\t<>🙂") | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40
)


@given(prompt=TEXTS, completion=TEXTS)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_labels_are_those_of_the_definition(prompt: str, completion: str, tokenizer: "PreTrainedTokenizerBase") -> None:
    """By the definition, one token after the other: it is learnt when its text begins in the completion."""
    (encoded,) = encode(tokenizer, [PromptCompletion("a:1", prompt, completion)], 1 << 20)
    given_text = prompt + completion + str(tokenizer.eos_token)
    reference = tokenizer(given_text, return_offsets_mapping=True)
    assert encoded.input_ids == reference["input_ids"]
    assert encoded.labels == [
        token if begin >= len(prompt) and end > begin else IGNORED
        for token, (begin, end) in zip(reference["input_ids"], reference["offset_mapping"], strict=True)
    ]
