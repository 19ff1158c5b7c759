"""`execution.log`: what the command says, without secrets, of limited size, and never a reason to end it."""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tunestack_train.experiments.redaction import Redactor

_LONGEST_LINE: Final = 1 << 16
_TAIL_BYTES: Final = 1 << 18


class LogFile:
    """Takes bytes as they come and writes whole lines. Full, it becomes `execution.log.1` and a new one begins."""

    def __init__(self, path: Path, most_bytes: int, redactor: Redactor, on_failure: Callable[[OSError], None]) -> None:
        self._path = path
        self._most = most_bytes
        self._redactor = redactor
        self._on_failure = on_failure
        self._rest = b""
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._size = path.stat().st_size if path.exists() else 0

    def recall(self) -> float | None:
        """Knows again the end of what an earlier runner wrote. Returns when that was, in seconds since 1970."""
        try:
            with self._path.open("rb") as stream:
                stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
                self._remember(stream.read())
            return self._path.stat().st_mtime
        except OSError:
            return None

    def write(self, data: bytes) -> None:
        """Adds output. Secrets are looked for in whole lines, so that none is cut in two between reads."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._put([line + b"\n" for line in lines])
        if len(self._rest) > _LONGEST_LINE:
            # No secret is this long: cut so that one that has begun at the end stays in what is left.
            cut, self._rest = self._rest[: -_LONGEST_LINE // 2], self._rest[-_LONGEST_LINE // 2 :]
            self._put([cut])

    def say(self, line: str) -> None:
        """Adds a line of the runner's own."""
        self.flush()
        self._put([f"[tunestack] {line}\n".encode()])

    def flush(self) -> None:
        """Writes what has no end of line yet."""
        if self._rest:
            rest, self._rest = self._rest, b""
            self._put([rest + b"\n"])

    def tail(self, most_bytes: int) -> bytes:
        """The end of the log, in whole lines where there are such."""
        end = b"".join(tuple(self._tail)) + self._rest_shown()
        if len(end) <= most_bytes:
            return end
        end = end[-most_bytes:]
        return end[end.find(b"\n") + 1 :] if b"\n" in end[:-1] else end

    def shown(self, text: str) -> str:
        """The text without secrets."""
        return self._redactor.text(text)

    def _rest_shown(self) -> bytes:
        return self._redactor.text(self._rest.decode(errors="replace")).encode()

    def _put(self, lines: list[bytes]) -> None:
        if not lines:
            return
        shown = self._redactor.text(b"".join(lines).decode(errors="replace")).encode()
        self._remember(shown)
        try:
            if self._size and self._size + len(shown) > self._most:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
                self._size = 0
            with self._path.open("ab") as stream:
                stream.write(shown)
            self._size += len(shown)
        except OSError as error:
            self._on_failure(error)

    def _remember(self, shown: bytes) -> None:
        self._tail.append(shown)
        self._tail_bytes += len(shown)
        while self._tail_bytes > _TAIL_BYTES and len(self._tail) > 1:
            self._tail_bytes -= len(self._tail.popleft())
