import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tunestack_train.data.examples import Conversation, PromptCompletion, Text
from tunestack_train.data.load import load
from tunestack_train.data.rows import find_files
from tunestack_train.errors import DataError

QUESTION = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def broken(source: Path, data_format: str = "auto") -> str:
    with pytest.raises(DataError) as caught:
        load(str(source), data_format)
    assert caught.value.exit_code == 3
    assert caught.value.remedy
    return caught.value.message


def test_chat_in_json_lines(tmp_path: Path) -> None:
    data = load(str(file(tmp_path, "a.jsonl", f"\ufeff{json.dumps(QUESTION)}\n\n{json.dumps(QUESTION)}\n")), "auto")
    assert data.data_format == "chat"
    assert [example.origin for example in data.examples] == ["a.jsonl:1", "a.jsonl:3"]
    assert isinstance(data.examples[0], Conversation)
    assert [turn.content for turn in data.examples[0].turns] == ["Why?", "Because."]


def test_a_json_list_names_the_line_of_each_row(tmp_path: Path) -> None:
    data = load(str(file(tmp_path, "a.json", json.dumps([{"text": "one"}, {"text": "two"}], indent=2))), "auto")
    assert data.examples == (Text("a.json:2", "one"), Text("a.json:5", "two"))


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    data = load(str(file(tmp_path, "a.json", '{"text": "one"}\n{"text": "two"}\n')), "auto")
    assert data.examples == (Text("a.json:1", "one"), Text("a.json:2", "two"))


def test_csv_with_quoted_line_breaks(tmp_path: Path) -> None:
    content = 'prompt,completion\r\n"a, and\nb",c\r\nd,"e ""f"""\r\n'
    data = load(str(file(tmp_path, "a.csv", content)), "auto")
    assert data.examples == (
        PromptCompletion("a.csv:2", "a, and\nb", "c"),
        PromptCompletion("a.csv:4", "d", 'e "f"'),
    )


def test_chat_in_csv_and_in_parquet_is_the_chat_of_json(tmp_path: Path) -> None:
    import csv

    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["messages"], [json.dumps(QUESTION["messages"])]])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([QUESTION]), tmp_path / "a.parquet")
    from_csv = load(str(tmp_path / "a.csv"), "auto").examples[0]
    from_parquet = load(str(tmp_path / "a.parquet"), "auto").examples[0]
    assert isinstance(from_csv, Conversation)
    assert isinstance(from_parquet, Conversation)
    assert from_csv.turns == from_parquet.turns
    assert from_parquet.origin == "a.parquet:row 1"


def test_an_instruction_becomes_a_question_and_an_answer(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Translate.", "input": "Haus", "output": "house"},
        {"instruction": "Say hello.", "input": "", "output": "Hello."},
        {"instruction": "Say bye.", "output": "Bye."},
    ]
    data = load(str(file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))), "auto")
    assert data.data_format == "instruction"
    turns = [example.turns for example in data.examples if isinstance(example, Conversation)]
    assert [(question.content, answer.content) for question, answer in turns] == [
        ("Translate.\n\nHaus", "house"),
        ("Say hello.", "Hello."),
        ("Say bye.", "Bye."),
    ]


def test_a_folder_is_read_file_by_file_in_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    file(tmp_path, "sub/b.jsonl", '{"text": "second"}')
    file(tmp_path, "a.csv", "text\nfirst\n")
    file(tmp_path, ".hidden/c.jsonl", "not read")
    file(tmp_path, "README.md", "not read")
    data = load(str(tmp_path), "auto")
    assert data.files == ("a.csv", "sub/b.jsonl")
    assert [example.text for example in data.examples if isinstance(example, Text)] == ["first", "second"]


def test_the_identity_of_data_is_its_content_and_not_its_place(tmp_path: Path) -> None:
    first = load(str(file(tmp_path, "a.jsonl", '{"text": "x"}')), "auto")
    second = load(str(file(tmp_path, "b.jsonl", '{"text": "x"}')), "auto")
    changed = load(str(file(tmp_path, "b.jsonl", '{"text": "y"}')), "auto")
    assert first.sha256 == second.sha256
    assert first.sha256 != changed.sha256


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", b"", "a.jsonl: the file is empty"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "y"\n', "a.jsonl:2: is not JSON: Expecting ',' delimiter"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "y', "a.jsonl:2: is not JSON: Unterminated string"),
        ("a.jsonl", b'{"text": "x"}\n["y"]\n', "a.jsonl:2: is a JSON list where a row is an object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "caf\xe9"}\n', "a.jsonl:2: is not UTF-8 (byte 0xe9)"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), "a.jsonl:1: holds a zero byte"),
        ("a.jsonl", b'{"text": "x"}\n{"text": ""}\n', "a.jsonl:2: text is empty"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 7}\n', "a.jsonl:2: text is not text but 7"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', "a.jsonl:2: has no text; it has txt"),
        ("a.jsonl", b'{"question": "x"}\n', "a.jsonl:1: its columns (question) are those of no known format"),
        ("a.jsonl", b'{"prompt": "x", "completion": " "}', "a.jsonl:1: completion is empty"),
        ("a.jsonl", b'{"instruction": "x", "input": 1, "output": "y"}', "a.jsonl:1: input is not text"),
        ("a.json", b'[{"text": "x"},\n {"text": "y"}', "a.json:2: the file breaks off: its list is not closed"),
        ("a.json", b'[{"text": "x"}\n {"text": "y"}]', "a.json:2: a comma is missing between rows"),
        ("a.json", b'[{"text": "x"},\n {"text": y}]', "a.json:2: is not JSON: Expecting value"),
        ("a.json", b'"text"', "a.json:1: is neither a JSON list of rows nor JSON lines"),
        ("a.csv", b"text,more\nx,y\nz\n", "a.csv:3: has 1 columns where the header names 2"),
        ("a.csv", b'text\n"x\n', "a.csv:2: is not CSV: unexpected end of data"),
        ("a.parquet", b"PAR1 torn", "a.parquet:row 1: is not Parquet, or breaks off"),
        ("a.txt", b"text", "ends in .txt, which says nothing about its format"),
    ],
)
def test_what_cannot_be_read_is_named_by_file_and_line(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    assert expected in broken(file(tmp_path, name, content))


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "messages is not a list of turns, or is empty"),
        ("Why?", "messages is not JSON"),
        (["Why?"], "turn 1 is not an object with role and content"),
        ([{"role": "human", "content": "Why?"}], "turn 1 has the role 'human'"),
        ([{"role": "user", "content": " "}], "turn 1 (user) has no text as its content"),
        ([{"role": "user", "content": "Why?"}], "the last turn is not the assistant's"),
        ([{"role": "system", "content": "Be kind."}], "the last turn is not the assistant's"),
        ([{"role": "assistant", "content": "Because."}], "turn 1 is by assistant where user should speak"),
        (
            [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, {"role": "user", "content": "r"}],
            "turn 3 is by user where assistant should speak",
        ),
    ],
)
def test_a_broken_conversation_is_named_with_the_reason(tmp_path: Path, messages: object, expected: str) -> None:
    source = file(tmp_path, "a.jsonl", json.dumps(QUESTION) + "\n" + json.dumps({"messages": messages}) + "\n")
    message = broken(source)
    assert f"a.jsonl:2: {expected}" in message
    assert "1 row of" in message


def test_all_broken_rows_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    rows = ['{"text": "x"}', *['{"text": ""}'] * 30]
    message = broken(file(tmp_path, "a.jsonl", "\n".join(rows)))
    assert "30 rows of" in message
    assert "a.jsonl:21: text is empty" in message
    assert "a.jsonl:22:" not in message
    assert "and 10 more" in message


def test_a_format_that_was_asked_for_is_not_guessed(tmp_path: Path) -> None:
    source = file(tmp_path, "a.jsonl", '{"text": "x", "prompt": "p", "completion": "c"}')
    assert load(str(source), "auto").data_format == "prompt_completion"
    assert load(str(source), "text").examples == (Text("a.jsonl:1", "x"),)
    assert "has no messages" in broken(source, "chat")


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    assert "there is no file or folder" in broken(tmp_path / "missing.jsonl")
    (tmp_path / "empty").mkdir()
    assert "holds no data file" in broken(tmp_path / "empty")
    with pytest.raises(DataError, match="ends in nothing"):
        find_files(file(tmp_path, "data", "{}"))


def test_a_torn_parquet_file_says_where(tmp_path: Path) -> None:
    whole = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([QUESTION] * 10), whole)
    content = whole.read_bytes()
    assert "breaks off" in broken(file(tmp_path, "b.parquet", content[: len(content) // 2]))


def test_a_data_set_of_the_hub_is_read_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[str, str]] = []

    def load_dataset(name: str, split: str) -> list[dict[str, object]]:
        asked.append((name, split))
        return [dict(QUESTION), {"messages": []}] if name == "some/broken" else [dict(QUESTION)]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    data = load("hub:some/questions", "auto")
    assert (data.data_format, data.examples[0].origin) == ("chat", "some/questions:row 1")
    with pytest.raises(DataError, match=r"some/broken:row 2: messages is not a list"):
        load("hub:some/broken", "auto")
    assert asked == [("some/questions", "train"), ("some/broken", "train")]


def test_a_hub_that_cannot_be_reached_is_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(name: str, split: str) -> list[dict[str, object]]:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(DataError, match=r"cannot be had from the Hugging Face hub: no route to host"):
        load("hub:some/questions", "auto")
