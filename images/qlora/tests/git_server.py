"""Git over HTTP as a host serves it: git's own http-backend behind a server that asks for a token and counts bytes."""

import base64
import os
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit


@dataclass
class GitServer:
    """Serves the repositories in `root`. `answer` is a status that every request gets in place of the content."""

    root: Path
    token: str | None = None
    may_write: bool = True
    answer: int | None = None
    requests: int = 0
    received: int = 0
    sent: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self) -> "GitServer":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, repository: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{repository}"

    def count(self, received: int, sent: int) -> None:
        with self._lock:
            self.requests += 1
            self.received += received
            self.sent += sent


def _handler(site: GitServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class, not one function
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve(b"")

        def do_POST(self) -> None:
            self._serve(self._body())

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = bytearray()
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return bytes(parts)

        def _serve(self, body: bytes) -> None:
            head = len(self.requestline) + len(bytes(self.headers)) + 4
            url = urlsplit(self.path)
            writes = "git-receive-pack" in self.path
            if site.answer is not None:
                return self._answer(head + len(body), site.answer, b"no\n")
            if site.token is not None:
                given = self.headers.get("Authorization", "").removeprefix("Basic ")
                if base64.b64decode(given).decode().partition(":")[2] != site.token:
                    wants = {"WWW-Authenticate": 'Basic realm="git"'}
                    return self._answer(head + len(body), 401, b"who are you?\n", wants)
            if writes and not site.may_write:
                return self._answer(head + len(body), 403, b"Write access to repository not granted.\n")
            code, headers, content = self._backend(url.path, url.query, body)
            return self._answer(head + len(body), code, content, headers)

        def _backend(self, path: str, query: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(site.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "REMOTE_USER": "person",
                "REMOTE_ADDR": "127.0.0.1",
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "safe.directory",
                "GIT_CONFIG_VALUE_0": "*",
            }
            done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=True)
            head, _, content = done.stdout.partition(b"\r\n\r\n")
            fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
            return int(fields.pop("Status", "200").split()[0]), fields, content

        def _answer(self, received: int, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            fields = (headers or {}) | {"Content-Length": str(len(content))}
            self.send_response(code)
            for key, value in fields.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)
            site.count(received, len(content) + sum(len(key) + len(value) + 4 for key, value in fields.items()) + 60)

        def log_message(self, *_: object) -> None:
            pass

    return Handler
