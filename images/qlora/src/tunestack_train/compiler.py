"""Whether kernels can be compiled while a run is under way.

Triton, which flex_attention and Liger's kernels are written for, compiles a small C program against Python's headers at
the first use of each kernel (triton/runtime/build.py). The images have no compiler.
"""

import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path


def missing_for_kernels() -> str | None:
    """What Triton lacks here, in words; None when it can compile."""
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "there is no C compiler"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "Python's headers (python3-dev) are not installed"
    return None
