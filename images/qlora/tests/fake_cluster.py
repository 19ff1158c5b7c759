"""An API server with jobs and pods alone. Admitted jobs run their commands for real, as processes of this machine."""

import json
import os
import signal
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

NAMESPACE = "tunestack-team"
TOKEN = "token-of-the-service-account"
JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

Object = dict[str, Any]


@dataclass
class Running:
    """The process of a pod and the lines that it has said, with their times."""

    process: "subprocess.Popen[str]"
    lines: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False


@dataclass
class FakeCluster:
    """`admits`: jobs start by themselves. `answer` is a status that every request gets in place of the content."""

    folder: Path
    admits: bool = True
    answer: int | None = None
    logs: bool = True
    jobs: dict[str, Object] = field(default_factory=dict)
    pods: dict[str, Object] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    running: dict[str, Running] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def start(self) -> "FakeCluster":
        certificate, key = self.folder / "ca.crt", self.folder / "ca.key"
        subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
        files = ["-out", str(certificate), "-keyout", str(key)]
        subprocess.run([*made, *files], check=True, capture_output=True)
        (self.folder / "token").write_text(TOKEN)
        (self.folder / "namespace").write_text(NAMESPACE)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        for running in self.running.values():
            _end(running.process, signal.SIGKILL)

    @property
    def environment(self) -> dict[str, str]:
        """What a pod's environment says of the server."""
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self._server.server_address[1]),
            "TUNESTACK_IMAGE_DIGEST": "registry.example.com/ml/training@sha256:abc",
        }

    def asked(self, method: str) -> list[str]:
        return [path for verb, path in self.requests if verb == method]

    def only_job(self) -> Object:
        [job] = self.jobs.values()
        return job

    # --- what a cluster does ---------------------------------------------------------------------------------------

    def create(self, job: Object) -> tuple[int, Object]:
        name = job["metadata"]["name"]
        with self.lock:
            if name in self.jobs:
                return 409, {"message": f'jobs.batch "{name}" already exists'}
            job["metadata"]["creationTimestamp"] = _now()
            # Kueue does so with what is labelled for one of its queues.
            job["spec"]["suspend"] = "kueue.x-k8s.io/queue-name" in job["metadata"]["labels"]
            job["status"] = {}
            self.jobs[name] = job
            if self.admits:
                self.admit(name)
        return 201, job

    def admit(self, name: str) -> None:
        """The queue has room: the job's pod starts."""
        with self.lock:
            job = self.jobs[name]
            job["spec"]["suspend"] = False
            job["status"]["startTime"] = _now()
            pod_name = f"{name}-{len(self.pods):05d}"
            template = job["spec"]["template"]
            labels = template["metadata"]["labels"] | {"batch.kubernetes.io/job-name": name}
            [container] = template["spec"]["containers"]
            self.pods[pod_name] = {
                "metadata": {"name": pod_name, "labels": labels, "creationTimestamp": _now()},
                "spec": {"nodeName": "gpu-node-1"},
                "status": {"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]},
            }
            variables = {one["name"]: one["value"] for one in container["env"]}
            process = subprocess.Popen(
                container["args"],
                cwd=container["workingDir"],
                env={"PATH": os.environ["PATH"]} | variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            self.running[pod_name] = Running(process)
        threading.Thread(target=self._watch, args=(name, pod_name), daemon=True).start()

    def suspend(self, name: str) -> None:
        """The queue takes the place away for somebody else."""
        with self.lock:
            self.jobs[name]["spec"]["suspend"] = True
            self._remove_pods(name)

    def remove(self, name: str) -> None:
        with self.lock:
            self._remove_pods(name)
            self.jobs.pop(name, None)

    def _remove_pods(self, name: str) -> None:
        for pod in [one for one in self.pods.values() if _job_of(one) == name]:
            del self.pods[pod["metadata"]["name"]]
            _end(self.running[pod["metadata"]["name"]].process, signal.SIGTERM)

    def _watch(self, name: str, pod_name: str) -> None:
        running, limit = self.running[pod_name], self.jobs[name]["spec"]["activeDeadlineSeconds"]
        late = threading.Timer(limit, self._exceed, (name, pod_name))
        late.start()
        assert running.process.stdout is not None
        for line in running.process.stdout:
            running.lines.append((datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z", line))
        code = running.process.wait()
        late.cancel()
        running.ended = True
        with self.lock:
            if pod_name in self.pods and name in self.jobs:
                exit_code = code if code >= 0 else 128 - code
                terminated = {"exitCode": exit_code, "reason": "Completed" if code == 0 else "Error"}
                self.pods[pod_name]["status"] = {
                    "phase": "Succeeded" if code == 0 else "Failed",
                    "containerStatuses": [{"state": {"terminated": terminated}}],
                }
                self._finish(name, "Complete" if code == 0 else "Failed", "BackoffLimitExceeded")

    def _exceed(self, name: str, pod_name: str) -> None:
        with self.lock:
            if pod_name in self.pods and name in self.jobs:
                self._finish(name, "Failed", "DeadlineExceeded")
                self._remove_pods(name)

    def _finish(self, name: str, kind: str, reason: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": _now()}
        self.jobs[name]["status"].setdefault("conditions", []).append(condition)


def _handler(cluster: FakeCluster) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class, not one function
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            if not self._may():
                return
            if url.path.endswith("/log"):
                self._say_log(url.path.split("/")[-2], query)
            else:
                found = {JOBS: cluster.jobs, PODS: cluster.pods}[url.path]
                with cluster.lock:
                    items = [one for one in found.values() if _has(one, query["labelSelector"])]
                    self._send(200, {"items": items})

        def do_POST(self) -> None:
            body = self._body()
            if self._may():
                self._send(*cluster.create(body))

        def do_PATCH(self) -> None:
            body = self._body()
            if self._may():
                assert self.headers["Content-Type"] == "application/merge-patch+json"
                job = cluster.jobs[self.path.split("/")[-1]]
                job["metadata"]["labels"] |= body["metadata"]["labels"]
                self._send(200, job)

        def do_DELETE(self) -> None:
            assert self._body() == {"propagationPolicy": "Foreground"}
            if self._may():
                cluster.remove(self.path.split("/")[-1])
                self._send(200, {})

        def _may(self) -> bool:
            cluster.requests.append((self.command, urlsplit(self.path).path))
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self._send(401, {"message": "Unauthorized"})
            elif cluster.answer is not None:
                self._send(cluster.answer, {"message": "the fake cluster was told to say so"})
            else:
                return True
            return False

        def _say_log(self, pod: str, query: dict[str, str]) -> None:
            running = cluster.running.get(pod)
            if running is None or not cluster.logs:
                self._send(500, {"message": "no kubelet answers"})
                return
            self.send_response(200)
            self.end_headers()
            said = 0
            while True:
                ended = running.ended
                for stamp, line in running.lines[said:]:
                    if stamp >= query.get("sinceTime", ""):
                        self.wfile.write(f"{stamp} {line}".encode())
                        self.wfile.flush()
                    said += 1
                if ended or query["follow"] == "false":
                    return
                time.sleep(0.02)

        def _body(self) -> Object:
            found: Object = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            return found

        def _send(self, status: int, content: Object) -> None:
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    return Handler


def _has(found: Object, selector: str) -> bool:
    key, _, value = selector.partition("=")
    return bool(found["metadata"]["labels"].get(key) == value)


def _job_of(pod: Object) -> object:
    return pod["metadata"]["labels"]["batch.kubernetes.io/job-name"]


def _end(process: "subprocess.Popen[str]", number: int) -> None:
    """As a kubelet does it: the first process gets the signal, and it hands it on."""
    if process.poll() is None:
        process.send_signal(number)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
