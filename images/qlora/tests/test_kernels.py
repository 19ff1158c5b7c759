"""Which kernels are chosen for which model and device, and which are refused."""

import contextlib
import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import SOURCES
from test_loss import tiny
from tunestack_train import attention, compiler, kernels
from tunestack_train.attention import AttentionNeeds, attention_needs, decide
from tunestack_train.device import Device, importing
from tunestack_train.errors import SettingsError

GEMMA2 = AttentionNeeds("gemma2", caps_scores=True, dropout=False, largest_head=256, sdpa=False, flash=True, flex=True)
LLAMA = AttentionNeeds("llama", caps_scores=False, dropout=False, largest_head=128, sdpa=True, flash=True, flex=True)
CPU = Device("cpu", "CPU", None)
CUDA = Device("cuda", "GPU", 24 << 30, 0)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of packages that seem to be installed; a C compiler is there, unless the test takes it away."""
    names: set[str] = set()
    for module in (attention, kernels):
        monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: name if name in names else None)
    monkeypatch.setattr(attention, "missing_for_kernels", lambda: None)
    return names


def test_models_say_what_they_need() -> None:
    gemma = attention_needs(tiny("gemma2").config)
    assert gemma == replace(GEMMA2, largest_head=8)
    assert attention_needs(tiny("llama").config) == replace(LLAMA, largest_head=8)


@pytest.mark.parametrize(
    ("needs", "device", "flash", "precision", "expected"),
    [
        (GEMMA2, CPU, True, "bf16", "eager"),
        (LLAMA, CPU, True, "bf16", "sdpa"),
        (GEMMA2, CUDA, False, "bf16", "eager"),
        (GEMMA2, CUDA, True, "bf16", "flash_attention_2"),
        (LLAMA, CUDA, True, "bf16", "flash_attention_2"),
        (LLAMA, CUDA, False, "bf16", "sdpa"),
        (LLAMA, CUDA, True, "float32", "sdpa"),
        (replace(GEMMA2, largest_head=512), CUDA, True, "bf16", "eager"),
        (replace(LLAMA, sdpa=False, flash=False), CUDA, True, "bf16", "eager"),
    ],
)
def test_the_fastest_that_computes_the_same_is_chosen(
    installed: set[str], needs: AttentionNeeds, device: Device, flash: bool, precision: str, expected: str
) -> None:
    if flash:
        installed.add("flash_attn")
    chosen = decide("auto", needs, device, precision)
    assert chosen.name == expected
    assert chosen.reason
    assert decide(expected, needs, device, precision).reason == "as set"


@pytest.mark.parametrize(
    ("wanted", "needs", "device", "precision", "reason"),
    [
        ("sdpa", GEMMA2, CUDA, "bf16", "gemma2 caps attention scores, which sdpa would leave out"),
        ("flash_attention_2", LLAMA, CPU, "bf16", "needs CUDA"),
        ("flash_attention_2", LLAMA, CUDA, "bf16", "flash-attn, which is not installed"),
        ("flex_attention", GEMMA2, CPU, "bf16", "trains on CUDA alone"),
        ("flex_attention", replace(LLAMA, dropout=True), CUDA, "bf16", "attention dropout"),
        ("flex_attention", replace(LLAMA, flex=False), CUDA, "bf16", "no flex_attention for llama"),
    ],
)
def test_what_would_train_wrongly_or_not_at_all_is_refused(
    installed: set[str], wanted: str, needs: AttentionNeeds, device: Device, precision: str, reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason) as caught:
        decide(wanted, needs, device, precision)
    assert "eager" in caught.value.remedy


def test_flash_attention_takes_no_float32(installed: set[str]) -> None:
    installed.add("flash_attn")
    with pytest.raises(SettingsError, match="precision is float32"):
        decide("flash_attention_2", LLAMA, CUDA, "float32")


def test_a_kernel_that_is_compiled_needs_a_compiler(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert decide("flex_attention", GEMMA2, CUDA, "bf16").name == "flex_attention"
    monkeypatch.setattr(attention, "missing_for_kernels", lambda: "there is no C compiler")
    with pytest.raises(SettingsError, match="compiles its kernel here, and there is no C compiler"):
        decide("flex_attention", GEMMA2, CUDA, "bf16")


def test_liger_is_left_out_where_it_cannot_run(installed: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("gemma2")
    assert kernels.use_liger(model, "off", CUDA) == "off"
    assert kernels.use_liger(model, "auto", CPU) == "off: Liger's kernels run on CUDA alone"
    assert "not installed" in kernels.use_liger(model, "auto", CUDA)
    installed.add("liger_kernel")
    monkeypatch.setattr(kernels, "missing_for_kernels", lambda: "there is no C compiler")
    assert "there is no C compiler" in kernels.use_liger(model, "auto", CUDA)
    with pytest.raises(SettingsError, match="liger = on: Liger's kernels are compiled here, and there is no C comp"):
        kernels.use_liger(model, "on", CUDA)


def test_what_a_compiler_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"triton"}
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(compiler.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert compiler.missing_for_kernels() == "there is no C compiler"
    compiler_there = tmp_path / "gcc"
    compiler_there.touch(0o755)
    assert compiler.missing_for_kernels() == "Python's headers (python3-dev) are not installed"
    (tmp_path / "Python.h").touch()
    assert compiler.missing_for_kernels() is None
    there.clear()
    assert compiler.missing_for_kernels() == "the package triton is not installed"


@pytest.mark.parametrize(("compiler_there", "loaded"), [(False, "False"), (True, "True")])
def test_what_cannot_compile_is_not_loaded(*, compiler_there: bool, loaded: str) -> None:
    code = """
import sys
from tunestack_train import device
device.missing_for_kernels = (lambda: None) if sys.argv[1] == "True" else (lambda: "there is no C compiler")
device.set_up_libraries()
import bitsandbytes
print("torch._inductor.compile_fx" in sys.modules)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TORCHDYNAMO_DISABLE"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(compiler_there)],
        env=environment | {"PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == loaded


def test_garbage_is_collected_again_after_an_import_that_failed() -> None:
    with contextlib.suppress(ImportError), importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
