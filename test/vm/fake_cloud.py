"""What a VM asks of Google and of package repositories, answered from a folder: for tests alone.

    metadata/…      values of the metadata server, one a file        secrets/NAME    a secret's value
    bucket/…        objects of the one bucket                        denied/NAME     a secret that may not be read
    www/HOST/…      files that other hosts serve                     attach          program that attaches the disk
    attach-error, resize-error: the text with which Google refuses

Every request is a line of `requests`. As a program it listens on port 80, and with a certificate on 443.
"""

import base64
import hashlib
import json
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "the-token-of-the-vm"
PAGE = 2


class Cloud:
    """The state: a folder that a test fills and reads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = threading.Lock()
        for folder in ("metadata", "bucket", "secrets", "denied", "www"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        token = {"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"}
        self.metadata("instance/service-accounts/default/token", json.dumps(token))

    def metadata(self, path: str, value: str) -> None:
        self._write(self.root / "metadata" / path, value.encode())

    def put(self, name: str, content: bytes) -> None:
        self._write(self.root / "bucket" / name, content)

    def note(self, line: str) -> None:
        with self._lock, (self.root / "requests").open("a") as file:
            file.write(f"{time.time():.3f} {line}\n")

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.new")
        aside.write_bytes(content)
        aside.rename(path)


class Handler(BaseHTTPRequestHandler):
    """One request. The host that was asked decides who answers."""

    protocol_version = "HTTP/1.1"
    cloud: Cloud

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        path = asked.path
        host = (self.headers.get("Host") or "").split(":")[0]
        self.cloud.note(f"{self.command} {host}{self.path}")
        if path.startswith("/computeMetadata/v1/"):
            self._metadata(path.removeprefix("/computeMetadata/v1/"))
        elif (self.cloud.root / "www" / host).is_dir():
            self._file(self.cloud.root / "www" / host / unquote(path).lstrip("/"))
        elif path == "/v2/":
            self._registry()
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._send(401, b"who are you?")
        elif path.startswith(("/storage/", "/upload/")):
            self._storage(path)
        elif path.endswith(":access"):
            self._secret(path.split("/secrets/")[1].split("/")[0])
        elif path.endswith("/attachDisk"):
            self._compute("attach", "attach-error")
        elif path.endswith("/resize"):
            self._compute("resize", "resize-error")
        else:
            self._send(404, b"nobody knows this address")

    def _metadata(self, path: str) -> None:
        if self.headers.get("Metadata-Flavor") != "Google":
            self._send(403, b"the header Metadata-Flavor: Google is missing")
            return
        file = self.cloud.root / "metadata" / path
        until = time.monotonic() + float(self.query.get("timeout_sec", "0"))
        while True:
            if not file.is_file():
                self._send(404, b"no such value")
                return
            value = file.read_bytes()
            etag = hashlib.sha256(value).hexdigest()[:16]
            waits = self.query.get("wait_for_change") == "true" and etag == self.query.get("last_etag")
            if not waits or time.monotonic() >= until:
                self._send(200, value, {"ETag": etag, "Metadata-Flavor": "Google"})
                return
            time.sleep(0.02)

    def _registry(self) -> None:
        expected = base64.b64encode(f"oauth2accesstoken:{TOKEN}".encode()).decode()
        if self.headers.get("Authorization") == f"Basic {expected}":
            self._send(200, b"{}", {"Docker-Distribution-Api-Version": "registry/2.0"})
        else:
            self._send(401, b"{}", {"WWW-Authenticate": 'Basic realm="fake"'})

    def _storage(self, path: str) -> None:
        bucket = self.cloud.root / "bucket"
        if path.startswith("/upload/"):
            self.cloud.put(self.query["name"], self.body)
            self._json({"name": self.query["name"]})
            return
        name = unquote(path.split("/o", 1)[1].lstrip("/"))
        file = bucket / name
        if name == "":
            self._json(self._listed(bucket))
        elif not file.is_file():
            self._send(404, b"No such object")
        elif self.command == "DELETE":
            file.unlink()
            self._send(204, b"")
        elif self.query.get("alt") == "media":
            self._send(200, file.read_bytes())
        else:
            self._json(described(bucket, file))

    def _listed(self, bucket: Path) -> dict[str, Any]:
        files = sorted(path for path in bucket.rglob("*") if path.is_file())
        items = [described(bucket, file) for file in files]
        found = [item for item in items if item["name"].startswith(self.query.get("prefix", ""))]
        begin = int(self.query.get("pageToken") or 0)
        more = {"nextPageToken": str(begin + PAGE)} if begin + PAGE < len(found) else {}
        return {"items": found[begin : begin + PAGE], **more}

    def _secret(self, name: str) -> None:
        if (self.cloud.root / "denied" / name).exists():
            self._send(403, b"Permission 'secretmanager.versions.access' denied")
        elif (self.cloud.root / "secrets" / name).exists():
            value = (self.cloud.root / "secrets" / name).read_bytes()
            self._json({"payload": {"data": base64.b64encode(value).decode()}})
        else:
            self._send(404, b"Secret not found")

    def _compute(self, program: str, refusal: str) -> None:
        refused, action = self.cloud.root / refusal, self.cloud.root / program
        if refused.exists():
            self._send(400, refused.read_bytes())
            return
        if action.exists():
            subprocess.run([str(action)], check=True)
        self._json({"status": "RUNNING"})

    def _file(self, file: Path) -> None:
        if file.is_file():
            self._send(200, file.read_bytes())
        else:
            self._send(404, b"not found")

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode())

    def _send(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet: requests are noted in a file."""


def described(bucket: Path, file: Path) -> dict[str, str]:
    """An object as the JSON API shows it."""
    content = file.read_bytes()
    return {
        "name": str(file.relative_to(bucket)),
        "generation": str(file.stat().st_mtime_ns),
        "size": str(len(content)),
        "md5Hash": base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode(),
    }


def listen(cloud: Cloud, address: tuple[str, int], certificate: Path | None = None) -> ThreadingHTTPServer:
    """Answers in a thread until the server is shut down; `certificate` holds key and certificate for TLS."""
    server = ThreadingHTTPServer(address, type("OwnHandler", (Handler,), {"cloud": cloud}))
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


if __name__ == "__main__":
    fake = Cloud(Path(sys.argv[1]))
    listen(fake, ("127.0.0.1", 80))
    listen(fake, ("127.0.0.1", 443), Path(sys.argv[2]))
    threading.Event().wait()
