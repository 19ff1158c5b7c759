import csv
import gzip
import json
import tracemalloc
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunestack_train.data import stream
from tunestack_train.data.examples import Conversation, PromptCompletion, Text
from tunestack_train.data.load import load
from tunestack_train.data.rows import BadRow, Row, find_files, read_rows
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
    assert [example.origin for example in tuple(data.examples())] == ["a.jsonl:1", "a.jsonl:3"]
    assert isinstance(next(data.examples()), Conversation)
    assert [turn.content for turn in next(data.examples()).turns] == ["Why?", "Because."]


def test_a_json_list_names_the_line_of_each_row(tmp_path: Path) -> None:
    data = load(str(file(tmp_path, "a.json", json.dumps([{"text": "one"}, {"text": "two"}], indent=2))), "auto")
    assert tuple(data.examples()) == (Text("a.json:2", "one"), Text("a.json:5", "two"))


def test_a_json_file_of_lines_is_read_as_lines(tmp_path: Path) -> None:
    data = load(str(file(tmp_path, "a.json", '{"text": "one"}\n{"text": "two"}\n')), "auto")
    assert tuple(data.examples()) == (Text("a.json:1", "one"), Text("a.json:2", "two"))


def test_csv_with_quoted_line_breaks(tmp_path: Path) -> None:
    content = 'prompt,completion\r\n"a, and\nb",c\r\nd,"e ""f"""\r\n'
    data = load(str(file(tmp_path, "a.csv", content)), "auto")
    assert tuple(data.examples()) == (
        PromptCompletion("a.csv:2", "a, and\nb", "c"),
        PromptCompletion("a.csv:4", "d", 'e "f"'),
    )


def test_chat_in_csv_and_in_parquet_is_the_chat_of_json(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["messages"], [json.dumps(QUESTION["messages"])]])
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([QUESTION]), tmp_path / "a.parquet")
    from_csv = next(load(str(tmp_path / "a.csv"), "auto").examples())
    from_parquet = next(load(str(tmp_path / "a.parquet"), "auto").examples())
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
    turns = [example.turns for example in tuple(data.examples()) if isinstance(example, Conversation)]
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
    assert [example.text for example in tuple(data.examples()) if isinstance(example, Text)] == ["first", "second"]


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
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), "a.jsonl:1: is UTF-16; convert the file to UTF-8"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16-le"), "a.jsonl:1: holds a zero byte"),
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
    assert tuple(load(str(source), "text").examples()) == (Text("a.jsonl:1", "x"),)
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
    assert (data.data_format, next(data.examples()).origin) == ("chat", "some/questions:row 1")
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


def _gzipped(content: bytes) -> bytes:
    """Without the time of day: it stands in the names of tests, on which all workers have to agree."""
    return gzip.compress(content, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.jsonl", _gzipped(b'{"text": "x"}'), "a.jsonl:1: is compressed with gzip; name it so"),
        ("a.json", b"PK\x03\x04zip", "a.json:1: is a ZIP archive"),
        ("a.csv", b"PAR1PAR1", "a.csv:1: is a Parquet file; name it so"),
        ("a.jsonl", b"%PDF-1.7", "a.jsonl:1: is a PDF"),
        ("a.jsonl.gz", b'{"text": "x"}', "a.jsonl.gz: is not gzip"),
        ("a.jsonl.gz", _gzipped(b'{"text": "x"}\n' * 1000)[:-9], "a.jsonl.gz: the compressed file breaks off"),
        ("a.csv.gz", _gzipped(b"text\nx\n")[:-2], "a.csv.gz: the compressed file breaks off"),
        ("a.json.gz", _gzipped(b'[{"text": "x"},'), "a.json.gz:1: is not JSON: Expecting value at column 16"),
        ("a.jsonl.gz", _gzipped(b'{"text": "x"}\n{"tex'), "a.jsonl.gz:2: is not JSON: Unterminated string"),
        ("a.parquet.gz", b"", "ends in .gz, which says nothing about its format"),
        ("a.json", b'[{"text": "x"},\n {"text": "caf\xe9"}]', "a.json:2: is not UTF-8 (byte 0xe9)"),
        ("a.json", b'[{"text": "x"},\n {"text": "\0"}]', "a.json:2: holds a zero byte"),
        ("a.csv", b"text\nx\ncaf\xe9\n", "a.csv:3: is not UTF-8 (byte 0xe9)"),
        ("a.csv", b"text,text\nx,y\n", "a.csv:1: the header names text twice"),
        ("a.csv", b"prompt;completion\nx;y\n", "its columns (prompt;completion) are those of no known format"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: is not usable JSON: it is nested too deeply"),
        ("a.json", b"[" * 100_000, "a.json:1: is not usable JSON: it is nested too deeply"),
    ],
)
def test_files_of_another_kind_and_files_that_break_off_are_named(
    tmp_path: Path, name: str, content: bytes, expected: str
) -> None:
    assert expected in broken(file(tmp_path, name, content))


def test_a_row_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "ROW_LIMIT", 1 << 20)
    source = file(tmp_path, "a.jsonl", b'{"text": "' + b"x" * (8 << 20))
    assert "a.jsonl:1: is longer than 1 MiB; are there no line breaks between the rows?" in broken(source)


def write_many(path: Path, rows: int) -> Path:
    """Some 4 KB in each row, in the format of the path's ending."""
    row = {"prompt": "Why? " * 800, "completion": "Because."}
    with gzip.open(path, "wt") if path.suffix == ".gz" else path.open("w") as target:
        if ".csv" in path.suffixes:
            writer = csv.DictWriter(target, list(row))
            writer.writeheader()
            writer.writerows([row] * rows)
        elif ".json" in path.suffixes:
            target.write("[" + ",\n".join([json.dumps(row)] * rows) + "]")
        else:
            target.writelines([json.dumps(row) + "\n"] * rows)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str) -> None:
    """Four times the file takes the same memory, which is a fraction of it."""

    def peak(rows: int) -> int:
        source = write_many(tmp_path / name, rows)
        tracemalloc.start()
        try:
            data = load(str(source), "auto")
            assert sum(1 for _ in data.examples()) == rows
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(1000), peak(4000)
    assert large < small * 1.2
    assert large < 8e6


def test_a_file_that_cannot_be_read_at_all_is_refused_before_it_is_hashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunestack_train.data.load.hash_files", lambda *_: pytest.fail("hashed"))
    huge = tmp_path / "a.jsonl"
    with huge.open("wb") as content:
        content.truncate(1 << 40)
    with pytest.raises(DataError) as refused:
        load(str(huge), "auto")
    assert refused.value.message == (
        f"{huge} cannot be read:\n  a.jsonl:1: is longer than 64 MiB; are there no line breaks between the rows?"
    )
    assert "bad_rows=drop leaves out single rows alone" in refused.value.remedy
    file(tmp_path, "b.csv", "text\nfirst\n")
    with pytest.raises(DataError, match=f"1 file of {tmp_path} cannot be read:\n  a.jsonl:1: is longer"):
        load(str(tmp_path), "auto")


def test_bad_rows_are_left_out_where_that_is_wanted(tmp_path: Path) -> None:
    source = file(tmp_path, "a.jsonl", '{"text": "x"}\n{"text": 7}\n{"txt": "y"}\nnonsense\n{"text": "z"}\n')
    data = load(str(source), "auto", drop_bad_rows=True)
    assert [example.origin for example in data.examples()] == ["a.jsonl:1", "a.jsonl:5"]
    assert (data.rows, data.dropped.count) == (2, 3)
    assert [str(row) for row in data.dropped.first] == [
        "a.jsonl:2: text is not text but 7",
        "a.jsonl:3: has no text; it has txt",
        "a.jsonl:4: is not JSON: Expecting value at column 1",
    ]
    torn = file(tmp_path, "b.jsonl.gz", _gzipped(b'{"text": "x"}\n' * 1000)[:-9])
    with pytest.raises(DataError, match="the compressed file breaks off"):
        load(str(torn), "auto", drop_bad_rows=True)
    with pytest.raises(DataError, match="holds no rows that can be used"):
        load(str(file(tmp_path, "c.jsonl", '{"text": 7}\n')), "text", drop_bad_rows=True)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FREE = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(
    rows=st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3) | st.integers(), max_size=6),
    indent=st.sampled_from([None, 0, 3]),
    chunk=st.integers(1, 40),
    ascii_only=st.booleans(),
)
@FREE
def test_a_json_list_is_read_alike_whatever_the_size_of_the_pieces(
    rows: list[dict[str, object] | int], indent: int | None, chunk: int, ascii_only: bool, tmp_path: Path
) -> None:
    source = file(tmp_path, "a.json", json.dumps(rows, indent=indent, ensure_ascii=ascii_only))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "CHUNK", chunk)
        patch.setattr("tunestack_train.data.rows.CHUNK", chunk)
        read = list(read_rows(source))
    # A number is no row, and one that goes over two pieces is one number all the same.
    assert [row.fields if isinstance(row, Row) else None for row in read] == [
        row if isinstance(row, dict) else None for row in rows
    ]
    lines = source.read_text(encoding="utf-8").split("\n")
    for row, written in zip(read, rows, strict=True):
        line = lines[int(row.origin.removeprefix("a.json:")) - 1]
        assert ("{" if isinstance(written, dict) else str(written)) in line


@given(rows=st.lists(st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=3), min_size=1, max_size=6))
@FREE
def test_json_lines_are_read_as_they_were_written(rows: list[dict[str, object]], tmp_path: Path) -> None:
    read = list(read_rows(file(tmp_path, "a.jsonl", "\n".join(map(json.dumps, rows)))))
    assert [(row.origin, row.fields) for row in read if isinstance(row, Row)] == [
        (f"a.jsonl:{number}", row) for number, row in enumerate(rows, start=1)
    ]


@given(
    rows=st.lists(
        st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1)] * 2), min_size=1
    )
)
@FREE
def test_csv_is_read_as_it_was_written(rows: list[tuple[str, str]], tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([("prompt", "completion"), *rows])
    read = [row.fields for row in read_rows(tmp_path / "a.csv") if isinstance(row, Row)]
    assert read == [{"prompt": prompt, "completion": completion} for prompt, completion in rows]


@given(position=st.integers(0, 10_000), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet", "a.jsonl.gz"]))
@FREE
def test_a_file_that_is_cut_anywhere_ends_in_rows_and_reasons(position: int, name: str, tmp_path: Path) -> None:
    """Never a trace: what was whole before the cut is read, and at most one reason says what is wrong."""
    path = tmp_path / name
    if name == "a.parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([QUESTION] * 10), path)
    else:
        write_many(path, 10)
    content = path.read_bytes()
    path.write_bytes(content[: position % len(content)])
    read = list(read_rows(path))
    bad = [row for row in read if isinstance(row, BadRow)]
    assert len(bad) <= 1
    assert all(str(row).startswith(name) for row in bad)
