"""Google Drive in a session: mounted, and mounted again when it drops."""

import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# A mount that dropped may hang whoever asks for it, so a child asks.
_PATIENCE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Drive:
    """`point` is where Drive is mounted, `folder` the session's folder in it. Without a point there is no Drive."""

    folder: Path
    point: Path | None = Path("/content/drive")

    def mount(self) -> None:
        """Mounts Drive where it is not, and makes the folder."""
        if self.point is not None and not self.is_there():
            self._mount(again=self.point.exists())
        self.folder.mkdir(parents=True, exist_ok=True)

    def is_there(self) -> bool:
        """Whether Drive answers; a mount that dropped is a folder that cannot be read, or an empty one."""
        if self.point is None:
            return True
        command = ["/bin/ls", str(self.point / "MyDrive")]
        try:
            ended = subprocess.run(command, check=False, capture_output=True, timeout=_PATIENCE_SECONDS)  # noqa: S603
        except subprocess.TimeoutExpired:
            return False
        return ended.returncode == 0

    def mend(self) -> bool:
        """Mounts Drive again where it dropped; whether it had."""
        if self.is_there():
            return False
        sys.stdout.write("Drive dropped: mounting it again\n")
        self._mount(again=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        return True

    def flush(self) -> None:
        """Waits until what was written is on Drive and not only in this machine's cache. Drive stays mounted."""
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["/bin/sync", "-f", str(self.folder)], check=False)  # noqa: S603

    def _mount(self, *, again: bool) -> None:
        from google.colab import drive

        drive.mount(str(self.point), force_remount=again)
