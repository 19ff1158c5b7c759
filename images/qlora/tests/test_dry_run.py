"""What a dry run shows of the data before anything is trained: format, samples with what is learnt, tokens, drops."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import SOURCES, Workplace, write_jsonl
from tunestack_train import rehearsal
from tunestack_train.cli import main
from tunestack_train.data.examples import Conversation, PromptCompletion, Turn
from tunestack_train.data.load import load
from tunestack_train.data.preview import CLOSE, OPEN, Piece, Sample, plain_sample, tokenised_sample
from tunestack_train.data.tokens import Renderer, choose_template
from tunestack_train.model import load_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMATS = SOURCES.parent.parent.parent / "examples" / "data" / "formats"


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    return


@pytest.fixture(scope="module")
def tokenizer(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> "PreTrainedTokenizerBase":
    folder = rehearsal.make_tokenizer(
        tmp_path_factory.mktemp("tokenizer"), load(str(workplace.data), "auto").examples()
    )
    tokenizer = load_tokenizer(folder, "rehearsal")
    choose_template(tokenizer, "auto")
    return tokenizer


def shown(capsys: pytest.CaptureFixture[str], data: Path, *options: str, code: int = 0) -> str:
    assert main(["run", "--name=my-run", "--preset=rehearsal", f"--data={data}", "--dry-run", *options]) == code
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out if code == 0 else captured.out + captured.err


def reported(capsys: pytest.CaptureFixture[str], data: Path, *options: str, code: int = 0) -> dict[str, object]:
    assert (
        main(["run", "--name=my-run", "--preset=rehearsal", f"--data={data}", "--dry-run", "--json", *options]) == code
    )
    report = json.loads(capsys.readouterr().out)
    assert isinstance(report, dict)
    return report


@pytest.mark.parametrize(
    ("name", "data_format", "learnt"),
    [
        ("chat.json", "chat", "assistant"),
        ("instruction.jsonl", "instruction", "output"),
        ("prompt-completion.csv", "prompt_completion", "completion"),
        ("text.jsonl", "text", "text"),
    ],
)
def test_every_format_is_recognised_and_its_answers_are_marked(
    name: str, data_format: str, learnt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shown(capsys, FORMATS / name)
    first = next(load(str(FORMATS / name), "auto").examples())
    answer = {
        "assistant": lambda: first.turns[-1].content,  # type: ignore[union-attr]
        "output": lambda: first.turns[-1].content,  # type: ignore[union-attr]
        "completion": lambda: first.completion,  # type: ignore[union-attr]
        "text": lambda: first.text,  # type: ignore[union-attr]
    }[learnt]()
    assert f"rows of {data_format} in {name}" in out
    assert f"{OPEN}{answer}".replace("\n", "\n  ") in out
    assert out.count(OPEN) == out.count(CLOSE)
    assert len([line for line in out.splitlines() if line.endswith(" learnt")]) == 3


def test_samples_tokens_and_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, object]] = [{"prompt": "Why?", "completion": " Because."} for _ in range(8)]
    rows += [{"prompt": "Why? " * 60, "completion": " So."}, {"prompt": "Why?", "completion": " So it is." * 30}]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    with source.open("a", encoding="utf-8") as file:
        file.write('{"prompt": "Why?"}\n')
    out = shown(capsys, source, "--set=bad_rows=drop", "--set=max_length=40")
    assert "data: 10 rows of prompt_completion in a.jsonl" in out
    assert "left out: 1 row that cannot be used\n    a.jsonl:11: has no completion; it has prompt" in out
    assert f"a.jsonl:1  {OPEN}" not in out
    assert f"<bos>Why?{OPEN} Because.<eos>{CLOSE}" in out
    assert "cut at max_length = 40: 1 examples" in out
    assert "left out: 1 example without anything to learn\n    a.jsonl:9: nothing to learn is left" in out


def test_the_report_for_machines_says_the_same(capsys: pytest.CaptureFixture[str], workplace: Workplace) -> None:
    report = reported(capsys, workplace.data)
    assert list(report) == ["config", "sources", "model", "data", "samples", "tokens", "memory", "error"]
    tokens, samples = report["tokens"], report["samples"]
    assert isinstance(tokens, dict)
    assert isinstance(samples, dict)
    assert (tokens["examples"], tokens["dropped"]["count"], report["error"]) == (60, 0, None)
    assert set(tokens["lengths"]) == {"least", "median", "p95", "most"}
    assert len(samples["first"]) == 3
    marked = "".join(piece["text"] for piece in samples["first"][1]["pieces"] if piece["learnt"])
    assert marked.startswith("When the adapter is restored, the log says so")


def test_a_gated_model_hides_only_what_needs_its_tokenizer(
    workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--preset=gemma-2b",)
    out = shown(capsys, workplace.data, *options, code=5)
    assert "google/gemma-2-2b: cannot be had" in out
    assert "data: 60 rows of chat" in out
    assert "samples (without chat template" in out
    assert f"assistant: {OPEN}When a run is saved" in out
    assert "tokens: not counted" in out
    assert "google/gemma-2-2b is gated" in out
    report = reported(capsys, workplace.data, *options, code=5)
    assert report["tokens"] is None
    assert "is gated" in str(report["error"])


def test_a_given_template_is_what_is_shown(
    tmp_path: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}", encoding="utf-8")
    out = shown(capsys, workplace.data, f"--set=chat_template={template}")
    assert f"chat template: {template}" in out
    assert "[user] What happens when the adapter is restored, case 1?" in out


def test_what_a_template_refuses_is_named_by_row(
    tmp_path: Path, workplace: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ raise_exception('never') }}", encoding="utf-8")
    out = shown(capsys, workplace.data, f"--set=chat_template={template}", code=3)
    assert "the chat template cannot render 60 of 60 examples" in out
    assert "questions.jsonl:1: the chat template refuses it: never" in out


TEXTS = st.text(st.sampled_from("ab é日\n🙂") | st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@given(prompt=TEXTS, completion=TEXTS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_sample_is_the_whole_text_and_marks_its_answer(
    prompt: str, completion: str, tokenizer: "PreTrainedTokenizerBase"
) -> None:
    example = PromptCompletion("a:1", prompt, completion)
    sample = tokenised_sample(tokenizer, example, 1 << 20)
    text = Renderer(tokenizer).render(example).text
    assert "".join(piece.text for piece in sample.pieces) == f"<bos>{text}"
    learnt = "".join(piece.text for piece in sample.pieces if piece.learnt)
    # A token that reaches over the border is not learnt, so the beginning of the answer may be missing.
    assert f"{completion}<eos>".endswith(learnt)
    assert learnt.endswith("<eos>")


def test_a_cut_sample_says_how_much_is_missing(tokenizer: "PreTrainedTokenizerBase") -> None:
    example = Conversation("a:1", (Turn("user", "Why?"), Turn("assistant", "Because it is so.")))
    whole = tokenised_sample(tokenizer, example, 256)
    cut = tokenised_sample(tokenizer, example, (whole.tokens or 0) - 3)
    assert (cut.cut, cut.learnt) == (3, (whole.learnt or 0) - 3)
    assert "… 3 tokens cut" in cut.describe(colour=False)


def test_colour_on_a_terminal_marks_otherwise_and_no_control_characters() -> None:
    sample = Sample("a:1", (Piece("Why?\x1b[2J\n", learnt=False), Piece("So.\nYes.", learnt=True)))
    assert sample.describe(colour=False) == f"a:1\n  Why?\\x1b[2J\n  {OPEN}So.\n  Yes.{CLOSE}"
    coloured = sample.describe(colour=True)
    assert "\x1b[1;32mSo.\x1b[0m\n  \x1b[1;32mYes.\x1b[0m" in coloured
    assert "\x1b[2J" not in coloured


def test_a_long_part_is_shortened_in_the_middle() -> None:
    text = plain_sample(PromptCompletion("a:1", "p" * 5000, "yes")).describe(colour=False)
    assert "[… 4,400 characters …]" in text
    assert text.endswith(f"{OPEN}yes{CLOSE}")
