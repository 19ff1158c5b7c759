"""google.colab.drive: a link to a folder."""

from pathlib import Path

from google.colab import called, folder


def mount(mountpoint: str, force_remount: bool = False) -> None:
    called("drive.mount", mountpoint=mountpoint, force_remount=force_remount)
    point = Path(mountpoint)
    if point.is_symlink() and force_remount:
        point.unlink()
    if not point.exists():
        point.symlink_to(folder() / "drive")
