"""From a JSONL file to tokens and labels: ours, ours from the cache, and `datasets.map` with its defaults.

`datasets` does what scripts for fine-tuning usually do: `load_dataset("json")`, then a function for each row that
renders the conversation and its prompt by the chat template and masks the prompt. Both sides must give the same tokens
and labels. Every round begins with empty caches; the least time of the rounds counts.
"""

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from measures import Measure, report, say
from tunestack_train import rehearsal
from tunestack_train.data.cache import ContentCache
from tunestack_train.data.load import load
from tunestack_train.data.token_set import TokenSet, tokenise
from tunestack_train.data.tokens import IGNORED, choose_template
from tunestack_train.device import set_up_libraries
from tunestack_train.model import load_tokenizer

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

ROWS: Final = 10_000
ROUNDS: Final = 3
MAX_LENGTH: Final = 1024
SUBJECTS: Final = ("a run", "the adapter", "a checkpoint", "the manifest", "a snapshot", "the image", "a volume")
VERBS: Final = ("is saved", "is restored", "is checked", "is removed", "is named", "is shown")


def main() -> None:
    set_up_libraries()
    with tempfile.TemporaryDirectory() as scratch:
        measure(Path(scratch))


def measure(scratch: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    source = write_rows(scratch / "rows.jsonl")
    say(f"{ROWS:,} conversations, {source.stat().st_size / 1e6:.1f} MB")
    examples = islice(load(str(source), "auto").examples(), 2000)
    (scratch / "tokenizer").mkdir()
    folder = rehearsal.make_tokenizer(scratch / "tokenizer", examples)
    tokenizer = load_tokenizer(folder, "rehearsal")
    choose_template(tokenizer, "auto")

    def ours(cache: Path) -> TokenSet:
        kept = ContentCache(cache)
        return tokenise(load(str(source), "auto", cache=kept), tokenizer, folder, MAX_LENGTH, kept)

    seconds: dict[str, list[float]] = {"ours": [], "cached": [], "map": [], "map cached": [], "batched": []}
    for number in range(ROUNDS):
        cache, their_cache = scratch / "ours", scratch / "theirs"
        tokens, spent = timed(lambda: ours(cache))  # noqa: B023 - called at once
        seconds["ours"].append(spent)
        seconds["cached"].append(timed(lambda: ours(cache))[1])  # noqa: B023
        mapped, spent = timed(lambda: theirs(source, tokenizer, their_cache))  # noqa: B023
        seconds["map"].append(spent)
        seconds["map cached"].append(timed(lambda: theirs(source, tokenizer, their_cache))[1])  # noqa: B023
        seconds["batched"].append(timed(lambda: theirs(source, tokenizer, scratch / "batched", batched=True))[1])
        if number == 0:
            require_same(tokens, mapped)
        for path in (cache, their_cache, scratch / "batched"):
            shutil.rmtree(path)
        say(
            f"round {number + 1} of {ROUNDS}: "
            + ", ".join(f"{way} {times[-1]:.2f} s" for way, times in seconds.items())
        )
    least = {way: min(times) for way, times in seconds.items()}
    report(
        Measure("ours", least["ours"], "s"),
        Measure("ours, cached and verified", least["cached"], "s"),
        Measure("datasets.map, its defaults", least["map"], "s"),
        Measure("datasets.map, its own cache", least["map cached"], "s"),
        Measure("datasets.map, batched=True", least["batched"], "s"),
        Measure("times as fast as datasets.map", least["map"] / least["ours"], "×", ">= 1.5"),
        Measure("times as fast as datasets.map, cached", least["map"] / least["cached"], "×", ">= 20"),
        Measure("times as fast as datasets.map batched", least["batched"] / least["ours"], "×"),
    )


def write_rows(path: Path) -> Path:
    """Conversations with one question and every fifth with two, each with words of its own."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(ROWS):
            subject, verb = SUBJECTS[number % len(SUBJECTS)], VERBS[number % len(VERBS)]
            question = f"What happens when {subject} {verb} for the {number}th time, and where do I see it?"
            answer = f"When {subject} {verb}, the log of run {number} says so. " * (1 + number % 4)
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer.strip()}]
            if number % 5 == 0:
                turns += [{"role": "user", "content": "And then?"}, {"role": "assistant", "content": "Nothing more."}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return path


def theirs(source: Path, tokenizer: "PreTrainedTokenizerBase", cache: Path, *, batched: bool = False) -> "Dataset":
    from datasets import load_dataset

    def one(row: dict[str, Any]) -> dict[str, list[int]]:
        return encode(tokenizer, row["messages"])

    def many(rows: dict[str, list[Any]]) -> dict[str, list[list[int]]]:
        encoded = [encode(tokenizer, messages) for messages in rows["messages"]]
        return {key: [row[key] for row in encoded] for key in ("input_ids", "labels")}

    data = load_dataset("json", data_files=str(source), split="train", cache_dir=str(cache))
    return data.map(many, batched=True) if batched else data.map(one)


def encode(tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]]) -> dict[str, list[int]]:
    """A conversation by the chat template, its answers labelled: what an answer adds to the tokens is learnt."""
    ids = ids_of(tokenizer, messages)
    labels = [IGNORED] * len(ids)
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            begin = len(ids_of(tokenizer, messages[:index], add_generation_prompt=True))
            end = len(ids) if index == len(messages) - 1 else len(ids_of(tokenizer, messages[: index + 1]))
            labels[begin:end] = ids[begin:end]
    return {"input_ids": ids[:MAX_LENGTH], "labels": labels[:MAX_LENGTH]}


def ids_of(
    tokenizer: "PreTrainedTokenizerBase", messages: list[dict[str, str]], *, add_generation_prompt: bool = False
) -> list[int]:
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=add_generation_prompt, return_dict=False))


def require_same(tokens: TokenSet, mapped: "Dataset") -> None:
    ours = tokens.dataset()
    if len(ours) != len(mapped):
        sys.exit(f"{len(ours)} examples of ours and {len(mapped)} of datasets.map")
    for number, (mine, other) in enumerate(zip(ours, mapped, strict=True), start=1):
        if mine["input_ids"] != other["input_ids"] or mine["labels"] != other["labels"]:
            sys.exit(f"row {number} has other tokens or labels than datasets.map gives it")


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begin


if __name__ == "__main__":
    main()
