"""The few calls of the API of Kubernetes that a runner makes, with the token that its pod has."""

import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

from tunestack_train.errors import SettingsError, TunestackError
from tunestack_train.experiments.json_text import read
from tunestack_train.experiments.positions import Json

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS: Final = 30.0
_MERGE: Final = "application/merge-patch+json"

Object = Mapping[str, Json]


class ClusterError(TunestackError):
    """The API server cannot be asked, or has refused. `status` is its answer, None where there was none."""

    def __init__(self, message: str, remedy: str, status: int | None = None) -> None:
        super().__init__(message, remedy)
        self.status = status

    @property
    def lasting(self) -> bool:
        """Whether the same request would be refused again."""
        return self.status is not None and 400 <= self.status < 500 and self.status not in {401, 408, 429}


class Api:
    """The API server as a pod's service account reaches it. `folder` holds its token, `ca.crt` and `namespace`."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._token = folder / "token"
        self.namespace = (folder / "namespace").read_text().strip()
        authority = folder / "ca.crt"
        secure = address.startswith("https:")
        self._context = ssl.create_default_context(cafile=str(authority)) if secure else None

    @classmethod
    def of_pod(cls, folder: Path = SERVICE_ACCOUNT) -> "Api":
        """Raises SettingsError where this is no pod with a service account's token."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if host is None or not (folder / "token").exists():
            raise SettingsError(
                f"there is no API server to submit jobs to: no token in {folder}, or no KUBERNETES_SERVICE_HOST",
                "run it in a pod whose service account may have jobs, or leave out --job-template",
            )
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", folder)

    def list(self, kind: str, selector: str) -> list[Object]:
        """The objects of a kind, `jobs` or `pods`, that have the labels."""
        answer = self._call("GET", self._path(kind), {"labelSelector": selector})
        items = answer.get("items")
        return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []

    def create(self, kind: str, content: Object) -> Object:
        return self._call("POST", self._path(kind), {}, content)

    def merge(self, kind: str, name: str, content: Object) -> Object:
        return self._call("PATCH", f"{self._path(kind)}/{name}", {}, content, _MERGE)

    def remove(self, kind: str, name: str) -> None:
        """Asks for the end of an object, which stays until what it has made is gone. It may be gone already."""
        try:
            self._call("DELETE", f"{self._path(kind)}/{name}", {}, {"propagationPolicy": "Foreground"})
        except ClusterError as error:
            if error.status != 404:
                raise

    def log_lines(self, pod: str, query: Mapping[str, str]) -> Iterator[bytes]:
        """What a pod says, line by line as it comes where `follow` is asked for."""
        with self._open("GET", f"{self._path('pods')}/{pod}/log", query) as answer:
            yield from _lines(answer)

    def _path(self, kind: str) -> str:
        group = "/apis/batch/v1" if kind == "jobs" else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{kind}"

    def _call(
        self, method: str, path: str, query: Mapping[str, str], content: Object | None = None, kind: str = ""
    ) -> Object:
        with self._open(method, path, query, content, kind) as answer:
            try:
                found = read(answer.read().decode())
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise _unanswered(error) from error
        return found if isinstance(found, dict) else {}

    def _open(
        self, method: str, path: str, query: Mapping[str, str], content: Object | None = None, kind: str = ""
    ) -> http.client.HTTPResponse:
        url = f"{self._address}{path}" + (f"?{urlencode(query)}" if query else "")
        data = None if content is None else json.dumps(content).encode()
        # Tokens of pods are replaced every hour, so it is read anew for each request.
        headers = {"Authorization": f"Bearer {self._token.read_text().strip()}", "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = kind or "application/json"
        request = urllib.request.Request(url, data, headers, method=method)  # noqa: S310 - of the API server
        try:
            answer: http.client.HTTPResponse = urllib.request.urlopen(  # noqa: S310
                request, timeout=_SECONDS, context=self._context
            )
        except urllib.error.HTTPError as error:
            raise _refused(error, method, path) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unanswered(error) from error
        return answer


def _lines(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        yield from answer
    except (OSError, http.client.HTTPException) as error:
        raise _unanswered(error) from error


def _unanswered(error: Exception) -> ClusterError:
    reason = getattr(error, "reason", error)
    return ClusterError(f"the API server of the cluster does not answer: {reason}", "nothing: it is tried again")


def _refused(error: urllib.error.HTTPError, method: str, path: str) -> ClusterError:
    try:
        told = read(error.read().decode())
    except (OSError, ValueError, http.client.HTTPException):
        told = None
    message = told.get("message") if isinstance(told, dict) else None
    remedy = (
        "give the service account of experiment-runner its role again: pulumi up"
        if error.code in {401, 403}
        else "see what the cluster says of jobs and pods in its namespace"
    )
    return ClusterError(f"{method} {path}: {error.code} {message or error.reason}", remedy, error.code)
