"""What the VM asks of Google, by its own account, whose token comes from the metadata server."""

import base64
import hashlib
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

from machine import APPLIED, RUN, AgentError

METADATA = "http://metadata.google.internal/computeMetadata/v1"
STORAGE = "https://storage.googleapis.com"
SECRETS = "https://secretmanager.googleapis.com"
COMPUTE = "https://compute.googleapis.com"

TRIES = 5
TIMEOUT_SECONDS = 60.0
_CHUNK = 1 << 20


class DeniedError(AgentError):
    """The VM's account may not do this."""


@contextmanager
def opened(
    url: str, method: str, body: bytes | None, headers: dict[str, str], timeout: float
) -> Iterator[HTTPResponse]:
    """One request. Raises FileNotFoundError on 404, DeniedError on 403, AgentError where trying again mends nothing."""
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 - the hosts above
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:  # noqa: S310 - as above
            yield answer
    except urllib.error.HTTPError as error:
        if error.code >= 500 or error.code == 429:
            raise ConnectionError(str(error.code)) from None
        if error.code == 404:
            raise FileNotFoundError(url) from None
        told = error.read()[:300].decode(errors="replace")
        raise (DeniedError if error.code == 403 else AgentError)(f"{method} {url}: {error.code} {told}") from None


def _pause(attempt: int) -> None:
    """Before the tries after the first."""
    if attempt > 0:
        time.sleep(min(2.0 ** (attempt - 1), 20))


def call(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> bytes:
    """One request, tried again where network or server stumble. Raises as `opened`; AgentError after the last try."""
    reason: object = None
    for attempt in range(TRIES):
        _pause(attempt)
        try:
            with opened(url, method, body, headers or {}, TIMEOUT_SECONDS) as answer:
                content: bytes = answer.read()
                return content
        except FileNotFoundError:
            raise
        except (OSError, HTTPException) as error:
            reason = error
    raise AgentError(f"{method} {url}: {reason}")


def metadata(path: str) -> str:
    return call(f"{METADATA}/{path}", headers={"Metadata-Flavor": "Google"}).decode()


def next_metadata(path: str, etag: str, wait: float) -> tuple[str, str]:
    """A value and its etag, as soon as it is another than that of `etag`, or after `wait` seconds. Tried once."""
    query = f"wait_for_change=true&timeout_sec={wait:.0f}&last_etag={etag}"
    with opened(f"{METADATA}/{path}?{query}", "GET", None, {"Metadata-Flavor": "Google"}, wait + 30) as answer:
        return answer.read().decode(), answer.headers.get("ETag", "0")


def authorised() -> dict[str, str]:
    token = json.loads(metadata("instance/service-accounts/default/token"))["access_token"]
    return {"Authorization": f"Bearer {token}"}


def own_zone() -> str:
    return metadata("instance/zone").rsplit("/", 1)[-1]


# --- the bucket ----------------------------------------------------------------------------------------------------


def object_url(bucket: str, name: str) -> str:
    return f"{STORAGE}/storage/v1/b/{bucket}/o/{urllib.parse.quote(name, safe='')}"


def get(bucket: str, name: str) -> bytes:
    """An object's content. Raises FileNotFoundError where there is none."""
    return call(f"{object_url(bucket, name)}?alt=media", headers=authorised())


def put(bucket: str, name: str, content: bytes) -> None:
    query = urllib.parse.urlencode({"uploadType": "media", "name": name})
    headers = {**authorised(), "Content-Type": "application/json"}
    call(f"{STORAGE}/upload/storage/v1/b/{bucket}/o?{query}", "POST", content, headers)


def remove(bucket: str, name: str) -> None:
    """Removes an object; one that is not there is none."""
    with suppress(FileNotFoundError):
        call(object_url(bucket, name), "DELETE", headers=authorised())


def listed(bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
    """The objects below a prefix, with name, generation, size and md5Hash."""
    page = ""
    while True:
        query = urllib.parse.urlencode({"prefix": prefix, **({"pageToken": page} if page else {})})
        answer = json.loads(call(f"{STORAGE}/storage/v1/b/{bucket}/o?{query}", headers=authorised()))
        yield from answer.get("items", [])
        page = answer.get("nextPageToken", "")
        if page == "":
            return


def download(bucket: str, item: dict[str, Any], path: Path) -> None:
    """A model's file may be larger than the memory, so it goes straight to the disk, and is compared with its hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.new")
    url = f"{object_url(bucket, item['name'])}?alt=media"
    reason: object = None
    for attempt in range(TRIES):
        _pause(attempt)
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with opened(url, "GET", None, authorised(), TIMEOUT_SECONDS) as answer, aside.open("wb") as file:
                while chunk := answer.read(_CHUNK):
                    digest.update(chunk)
                    file.write(chunk)
        except FileNotFoundError:
            raise
        except (ConnectionError, TimeoutError, urllib.error.URLError, HTTPException) as error:
            reason = error
            continue
        # Composed objects have no such hash.
        if item.get("md5Hash") in (None, base64.b64encode(digest.digest()).decode()):
            aside.rename(path)
            return
        reason = "what came differs from its hash"
    aside.unlink(missing_ok=True)
    raise AgentError(f"{item['name']} could not be fetched from the bucket {bucket}: {reason}")


# --- word to people ------------------------------------------------------------------------------------------------


def status(config: dict[str, Any], stage: str, message: str) -> None:
    """Tells serial console and bucket how far the VM is. A bucket that cannot be reached stops nothing."""
    sys.stdout.write(f"tunestack: {stage}: {message}\n")
    sys.stdout.flush()
    try:
        report = {
            "schema": 1,
            "stage": stage,
            "message": message,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "instance": metadata("instance/name"),
            "zone": own_zone(),
            "machineType": metadata("instance/machine-type").rsplit("/", 1)[-1],
            **({"plan": applied.read_text()} if (applied := RUN / APPLIED).exists() else {}),
        }
        put(config["bucket"], "status/vm.json", json.dumps(report).encode())
    except (AgentError, OSError) as error:
        sys.stdout.write(f"tunestack: the status could not be written: {error}\n")
        sys.stdout.flush()
