"""`gpu_metrics.jsonl`: one JSON object a line, rotated by size to `gpu_metrics.jsonl.1`, `.2`, …"""

import json
from collections.abc import Iterable
from pathlib import Path

from tunestack_train.monitor.appending import append_whole, size_of
from tunestack_train.monitor.samples import JsonValue

_BLOCK = 64 * 1024


class Journal:
    """Appends records; at most `keep` older files of about `max_bytes` each stay beside the newest."""

    def __init__(self, path: Path, max_bytes: int, keep: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    def append(self, records: Iterable[dict[str, JsonValue]]) -> None:
        """Appends all records or none. Raises OSError when they cannot be written."""
        data = "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records).encode()
        size = size_of(self._path)
        if size and size + len(data) > self._max_bytes:
            self._rotate()
        append_whole(self._path, data)

    def repair(self) -> int:
        """Cuts off a last line that a kill left unfinished; the number of bytes cut, nearly always 0."""
        size = size_of(self._path)
        if size == 0:
            return 0
        with self._path.open("r+b") as file:
            end = size
            while end > 0:
                start = max(0, end - _BLOCK)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
        return size - end

    def _rotate(self) -> None:
        def numbered(number: int) -> Path:
            return self._path.with_name(f"{self._path.name}.{number}")

        numbered(self._keep).unlink(missing_ok=True)
        for number in range(self._keep - 1, 0, -1):
            if numbered(number).exists():
                numbered(number).replace(numbered(number + 1))
        if self._keep > 0:
            self._path.replace(numbered(1))
        else:
            self._path.unlink()
