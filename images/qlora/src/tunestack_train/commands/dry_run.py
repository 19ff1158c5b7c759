"""`tunestack-train run --dry-run`: settings, data and model as a run would take them, without training.

What it prints comes in sections; a new one is a function that gives a `Section`, and its line in `_sections`.
"""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train import rehearsal
from tunestack_train.data.cache import ContentCache, default_folder
from tunestack_train.data.load import Dropped, TrainingData, load
from tunestack_train.data.preview import CLOSE, OPEN, Sample, plain_sample, tokenised_sample
from tunestack_train.errors import ModelUnavailableError
from tunestack_train.estimate import report
from tunestack_train.estimate.architecture import UnknownArchitecture
from tunestack_train.estimate.base import architecture_of
from tunestack_train.estimate.fit import advice, estimate, here
from tunestack_train.model import cached_model, load_tokenizer, locate_tokenizer
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.processes import Processes
from tunestack_train.resolve import Resolved
from tunestack_train.secret_files import read_secret

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunestack_train.data.token_set import TokenSet

_SAMPLES: Final = 3
_DROPPED_SHOWN: Final = 10


@dataclass(frozen=True)
class Section:
    """A part of the report: lines for people under a title, and the same for machines under a key."""

    key: str
    title: str
    lines: tuple[str, ...]
    value: object


@dataclass(frozen=True)
class Inspected:
    """What a dry run has found out. Without a tokenizer `tokens` is None and `missing` says why."""

    resolved: Resolved
    data: TrainingData
    model: str
    template: str | None
    samples: tuple[Sample, ...]
    tokens: "TokenSet | None"
    missing: ModelUnavailableError | None


def show(resolved: Resolved, *, as_json: bool) -> int:
    """Prints what a run of these settings would do; raises as the run would for what is wrong.

    Where the tokenizer cannot be had, all that does not need it is shown before that is said.
    """
    inspected = _inspect(resolved)
    sections = list(_sections(inspected, colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    missing = inspected.missing
    if as_json:
        error = None if missing is None else {"message": missing.message, "remedy": missing.remedy}
        print(json.dumps({**{section.key: section.value for section in sections}, "error": error}, indent=1))
        return 0 if missing is None else missing.exit_code
    for section in sections:
        lines = [*([section.title] if section.title else []), *section.lines]
        if lines:
            print("\n".join([*lines, ""]))
    if missing is not None:
        sys.stdout.flush()
        raise missing
    return 0


def _sections(inspected: Inspected, *, colour: bool) -> Iterator[Section]:
    config, sources = inspected.resolved.config.as_dict(), inspected.resolved.sources
    settings = tuple(f"{key:28} {value!s:40} {sources[key]}" for key, value in config.items())
    yield Section("config", "", settings, config)
    yield Section("sources", "", (), dict(sources))
    yield Section("model", f"model: {inspected.resolved.config.model}: {inspected.model}", (), inspected.model)
    yield _data_section(inspected.data)
    yield _samples_section(inspected, colour=colour)
    yield _tokens_section(inspected)
    yield _memory_section(inspected)


def _data_section(data: TrainingData) -> Section:
    title = f"data: {data.rows:,} rows of {data.data_format} in {', '.join(data.files)} (sha256 {data.sha256[:12]})"
    value = {**data.summary(), "dropped_rows": data.dropped.as_dict()["first"]}
    return Section("data", title, _dropped_lines(data.dropped, "row", "that cannot be used"), value)


def _samples_section(inspected: Inspected, *, colour: bool) -> Section:
    learnt = "in green" if colour else f"between {OPEN} and {CLOSE}"
    rendered = "without chat template" if inspected.template is None else f"chat template: {inspected.template}"
    lines = tuple(sample.describe(colour=colour) for sample in inspected.samples)
    value = {"chat_template": inspected.template, "first": [sample.as_dict() for sample in inspected.samples]}
    return Section("samples", f"samples ({rendered}; learnt is what stands {learnt}):", lines, value)


def _tokens_section(inspected: Inspected) -> Section:
    if inspected.tokens is None:
        return Section("tokens", "tokens: not counted, as the tokenizer is not here (see the end)", (), None)
    counts, dropped = inspected.tokens.counts, inspected.tokens.dropped
    lengths = counts.lengths
    lines = (
        f"  in each: {lengths.least} least, {lengths.median} median, {lengths.p95} p95, {lengths.most} most",
        f"  cut at max_length = {inspected.resolved.config.max_length}: {counts.cut:,} examples",
        *_dropped_lines(dropped, "example", "without anything to learn"),
    )
    share = counts.learnt / counts.tokens
    title = f"tokens: {counts.tokens:,} in {counts.examples:,} examples, {counts.learnt:,} of them learnt ({share:.0%})"
    return Section("tokens", title, lines, {**asdict(counts), "dropped": dropped.as_dict()})


def _memory_section(inspected: Inspected) -> Section:
    config, tokens = inspected.resolved.config, inspected.tokens
    try:
        architecture = architecture_of(config)
    except UnknownArchitecture as unknown:
        return Section("memory", f"memory: not estimated: {unknown}", (), None)
    machine = replace(here(config.device), processes=Processes.from_environment().count)
    mean = None if tokens is None else ceil(tokens.counts.tokens / tokens.counts.examples)
    examples = inspected.data.rows if tokens is None else tokens.counts.examples
    found = estimate(config, architecture, machine, examples=examples, sequence=mean)
    less = () if found.verdict == "fits" else advice(config, architecture, machine)
    return Section("memory", report.title(found), report.lines(found, less), report.as_dict(found, less))


def _dropped_lines(dropped: Dropped, one: str, why: str) -> tuple[str, ...]:
    if not dropped.count:
        return ()
    shown = tuple(f"    {row}" for row in dropped.first[:_DROPPED_SHOWN])
    more = (f"    and {dropped.count - len(shown):,} more",) if dropped.count > len(shown) else ()
    what = one if dropped.count == 1 else f"{one}s"
    return (f"  left out: {dropped.count:,} {what} {why}", *shown, *more)


def _inspect(resolved: Resolved) -> Inspected:
    config = resolved.config
    cache = ContentCache(default_folder())
    data = load(config.data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=cache)
    examples = list(islice(data.examples(), _SAMPLES))
    with tempfile.TemporaryDirectory(prefix="tunestack-") as scratch:
        try:
            folder = _tokenizer_folder(resolved, data, Path(scratch))
        except ModelUnavailableError as error:
            samples = tuple(plain_sample(example) for example in examples)
            return Inspected(resolved, data, "cannot be had", None, samples, None, error)
        from tunestack_train.data.token_set import tokenise
        from tunestack_train.data.tokens import choose_template

        tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder, config.model)
        template = choose_template(tokenizer, config.chat_template)
        # All of the data first: what the template cannot render is named then, by row.
        tokens = tokenise(data, tokenizer, folder, config.max_length, cache)
        samples = tuple(tokenised_sample(tokenizer, example, config.max_length) for example in examples)
    return Inspected(resolved, data, _model_state(config.model, config.model_revision), template, samples, tokens, None)


def _tokenizer_folder(resolved: Resolved, data: TrainingData, scratch: Path) -> Path:
    config = resolved.config
    if config.model == REHEARSAL_MODEL:
        return rehearsal.make_tokenizer(scratch, data.examples())
    return locate_tokenizer(config.model, config.model_revision, read_secret("hf-token", "HF_TOKEN"))


def _model_state(model: str, revision: str) -> str:
    if model == REHEARSAL_MODEL:
        return "made on the spot"
    if Path(model).expanduser().is_dir():
        return "a folder here"
    return "in the cache" if cached_model(model, revision) is not None else "to be downloaded from the Hugging Face hub"
