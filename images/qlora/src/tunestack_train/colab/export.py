"""The best model of a training as one file, on Drive and for download."""

import shutil
import sys
import zipfile
from pathlib import Path

from tunestack_train.colab.checkpoints import best
from tunestack_train.errors import SettingsError


def export(checkpoints: Path, exports: Path, name: str) -> Path:
    """Copies the best model below `checkpoints` to `exports`, a folder as a zip archive; returns the file.

    Raises SettingsError where there is no model yet.
    """
    model = best(checkpoints)
    if model is None:
        raise SettingsError(f"there is no model in {checkpoints} yet", "run the training first")
    exports.mkdir(parents=True, exist_ok=True)
    target = exports / (f"{name}.zip" if model.is_dir() else f"{name}{model.suffix}")
    aside = target.with_name(f".{target.name}.partial")
    if model.is_dir():
        # Weights do not shrink; storing them saves minutes.
        with zipfile.ZipFile(aside, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(path for path in model.rglob("*") if path.is_file()):
                archive.write(file, f"{name}/{file.relative_to(model)}")
    else:
        shutil.copyfile(model, aside)
    aside.replace(target)
    sys.stdout.write(f"{model} → {target} ({target.stat().st_size / 2**20:.1f} MiB)\n")
    return target


def offer_download(file: Path) -> None:
    """Opens the browser's download of a file. A session without a browser keeps it where it is."""
    from google.colab import files

    files.download(str(file))
