"""What a run learns from, and what it starts with: data, model, tokenizer, tokens, and what is held out.

With several processes the first one does what is slow; the others find it done.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tunestack_train import rehearsal
from tunestack_train.data.cache import ContentCache
from tunestack_train.data.load import Dropped, TrainingData, load
from tunestack_train.evaluation import Split, hold_out
from tunestack_train.manifest import newest_complete, problems
from tunestack_train.model import load_tokenizer, locate_model
from tunestack_train.presets import REHEARSAL_MODEL
from tunestack_train.processes import Processes
from tunestack_train.progress import Console
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import NO_EVAL_DATA, RunConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tunestack_train.data.token_set import TokenSet

T = TypeVar("T")


class Inputs:
    """The inputs of the run in `folder`, told on the console as they are found."""

    def __init__(
        self, config: RunConfig, folder: Path, cache: ContentCache, processes: Processes, console: Console
    ) -> None:
        self.config = config
        self.folder = folder
        self.cache = cache
        self.processes = processes
        self.console = console

    def load_data(self) -> TrainingData:
        config = self.config
        return load(config.data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=self.cache)

    def model_folder(self, data: TrainingData) -> Path:
        config = self.config
        if config.model == REHEARSAL_MODEL:
            return self.processes.by_first(lambda: self._make_rehearsal_model(data))
        token = read_secret("hf-token", "HF_TOKEN")
        return self._first_then_all(lambda: locate_model(config.model, config.model_revision, token, self.console.say))

    def _make_rehearsal_model(self, data: TrainingData) -> Path:
        folder = self.folder / "model"
        if problems(folder) or newest_complete(self.folder) is None:
            self.console.say("making a tiny Gemma 2 and its tokenizer from the data")
            rehearsal.make_model(folder, data.examples(), self.config.seed)
        return folder

    def tokenise(self, data: TrainingData, model_folder: Path) -> "tuple[PreTrainedTokenizerBase, TokenSet]":
        """The model's tokenizer, with the chat template that the run uses, and the data as its tokens."""
        from tunestack_train.data.token_set import tokenise
        from tunestack_train.data.tokens import choose_template

        config = self.config
        tokenizer = load_tokenizer(model_folder, config.model)
        template = choose_template(tokenizer, config.chat_template)
        tokens = self._first_then_all(lambda: tokenise(data, tokenizer, model_folder, config.max_length, self.cache))
        self._say_data(tokens, template)
        return tokenizer, tokens

    def split(self, tokens: "TokenSet", tokenizer: "PreTrainedTokenizerBase", model_folder: Path) -> Split:
        """What is trained on, and what is held out for evaluation."""
        from tunestack_train.data.token_set import tokenise

        config = self.config
        if config.eval_data == NO_EVAL_DATA:
            split = hold_out(tokens.dataset(), config.eval_share)
            if split.held_out is not None:
                self.console.say(f"evaluation: {len(split.held_out)} of {tokens.counts.examples} examples held out")
            return split
        data = load(config.eval_data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=self.cache)
        held_out = self._first_then_all(lambda: tokenise(data, tokenizer, model_folder, config.max_length, self.cache))
        self.console.say(f"evaluation: {held_out.counts.examples} examples of {data.source}")
        return Split(tokens.dataset(), held_out.dataset())

    def _first_then_all(self, work: Callable[[], T]) -> T:
        """What is slow the first time and found ready afterwards: on another machine it may have to be done again."""
        if self.processes.several:
            self.processes.by_first(lambda: work() and None)
        return work()

    def _say_data(self, tokens: "TokenSet", template: str) -> None:
        counts, dropped = tokens.counts, tokens.dropped
        cut = f", {counts.cut} cut at {self.config.max_length}" if counts.cut else ""
        self.console.say(
            f"tokens: {counts.tokens:,} in {counts.examples} examples, {counts.learnt / counts.tokens:.0%} of them "
            f"learnt{cut}; chat template: {template}"
        )
        self.say_dropped(dropped)

    def say_dropped(self, dropped: Dropped) -> None:
        for row in dropped.first[:5]:
            self.console.say(f"note: left out {row}")
        if dropped.count > 5:
            self.console.say(f"note: left out {dropped.count - 5} more")
