"""Whether there is room on the disks to start something new."""

import shutil
from collections.abc import Iterable
from pathlib import Path


def lack_of_room(folders: Iterable[Path], least_bytes: int) -> tuple[str, str] | None:
    """Which folder has too little, and what to do; None where all have enough. Raises OSError for one that is gone."""
    for folder in folders:
        free = shutil.disk_usage(folder).free
        if free < least_bytes:
            message = f"{folder} has {free >> 20} MiB left; nothing new is started"
            return message, f"make room: {least_bytes >> 20} MiB are wanted"
    return None
