"""Where models come from: folders, the cache, a hub (played by a small server); and what is said when they don't."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from conftest import SOURCES
from tunestack_train.errors import ModelUnavailableError
from tunestack_train.model import locate_model, needs_token

COMMIT = "0" * 39 + "1"
FILES = {
    "config.json": b'{"model_type": "gemma2"}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "notes.gguf": b"not wanted",
}
LOCATE = """
import json, sys
from tunestack_train.errors import TunestackError
from tunestack_train.model import locate_model
said = []
try:
    folder = locate_model(sys.argv[1], "main", sys.argv[2] or None, said.append)
    print(json.dumps({"files": sorted(path.name for path in folder.iterdir()), "said": said}))
except TunestackError as error:
    print(json.dumps({"exit_code": error.exit_code, "message": error.message, "remedy": error.remedy}))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as huggingface.co does for one open model, one gated one, and none else."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/some/open/tree/"):
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in FILES.items()
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/api/models/some/open"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in FILES.items()]
            answer = {"id": "some/open", "modelId": "some/open", "sha": COMMIT, "siblings": siblings, "tags": []}
            self._send(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
        elif path.startswith("/some/open/resolve/"):
            content = FILES[path.rpartition("/")[2]]
            self._send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT})
        elif "some/gated" in path:
            self._send(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to it is restricted"})
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def locate(model: str, home: Path, endpoint: str, token: str = "", **environment: str) -> dict[str, object]:
    """What locating a model says, in a process of its own: the hub's address is read once, at import."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environ |= {"PYTHONPATH": str(SOURCES), "HF_HOME": str(home), "HF_ENDPOINT": endpoint, **environment}
    done = subprocess.run(
        [sys.executable, "-c", LOCATE, model, token],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def test_a_model_is_downloaded_once_and_then_found_without_a_network(hub: str, tmp_path: Path) -> None:
    first = locate("some/open", tmp_path, hub)
    assert first["files"] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert "downloading some/open" in str(first["said"])
    again = locate("some/open", tmp_path, "http://127.0.0.1:9")
    assert again == {"files": first["files"], "said": []}


def test_a_gated_model_says_what_to_do(hub: str, tmp_path: Path) -> None:
    refused = locate("some/gated", tmp_path, hub, token="hf_mine")
    assert (refused["exit_code"], refused["message"]) == (
        5,
        "some/gated is gated, and the token given has no access to it",
    )
    assert "accept the licence at https://huggingface.co/some/gated" in str(refused["remedy"])
    assert "hf_mine" not in json.dumps(refused)


def test_a_model_that_is_not_there_is_said(hub: str, tmp_path: Path) -> None:
    answer = locate("some/typo", tmp_path, hub)
    assert (answer["exit_code"], str(answer["message"]).startswith("the hub has no model some/typo")) == (5, True)


@pytest.mark.parametrize("offline", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["no network", "told to be offline"])
def test_a_hub_that_cannot_be_reached_is_said_at_once(tmp_path: Path, offline: dict[str, str]) -> None:
    answer = locate("some/open", tmp_path, "http://127.0.0.1:9", **offline)
    assert answer["exit_code"] == 5
    assert "is not in the cache" in str(answer["message"])
    assert "--model FOLDER" in str(answer["remedy"])


def test_gemma_without_a_token_is_not_even_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunestack_train.model.cached_model", lambda model, revision: None)
    with pytest.raises(ModelUnavailableError, match=r"google/gemma-2-2b is gated, and no Hugging Face token is given"):
        locate_model("google/gemma-2-2b", "main", None, print)
    assert needs_token("google/gemma-2-9b")
    assert not needs_token("google/flan-t5-small")


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        ({}, "config.json is missing"),
        ({"config.json": "{}"}, "the tokenizer's files are missing"),
        ({"config.json": "{}", "tokenizer.json": "{}"}, "model.safetensors missing"),
        (
            {
                "config.json": "{}",
                "tokenizer.json": "{}",
                "model-1.safetensors": "",
                "model.safetensors.index.json": json.dumps(
                    {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
                ),
            },
            "model-2.safetensors missing",
        ),
    ],
)
def test_a_folder_that_is_no_whole_model_says_what_it_lacks(
    tmp_path: Path, files: dict[str, str], missing: str
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelUnavailableError) as caught:
        locate_model(str(tmp_path), "main", None, print)
    assert caught.value.message.endswith(missing)


def test_a_path_is_not_taken_for_an_id(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match="there is no folder"):
        locate_model(str(tmp_path / "missing"), "main", None, print)
