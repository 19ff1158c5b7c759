"""The GPU library on a CPU, and on simulated CUDA and MPS devices: several, without bf16, with little memory."""

import collections
import dataclasses
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import tunestack_train.gpu as library
from tunestack_train import device as run_device
from tunestack_train.errors import SettingsError
from tunestack_train.gpu import host, mock
from tunestack_train.gpu.mock import SimulatedGPU

GIB, MIB = 1 << 30, 1 << 20
simulated = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: the mock steps aside there")


def quiet(_: str) -> None:
    pass


def cuda(*gpus: SimulatedGPU) -> AbstractContextManager[Any]:
    return mock.simulate_cuda(gpus or [SimulatedGPU()], notice=quiet)


def mps(**gpu: Any) -> AbstractContextManager[Any]:
    return mock.simulate_mps(SimulatedGPU(name="Apple GPU", **gpu), notice=quiet)


DEVICES = [
    pytest.param("cpu", nullcontext, id="cpu"),
    pytest.param("cuda:0", cuda, id="cuda", marks=simulated),
    pytest.param("mps", mps, id="mps"),
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """TF32 and cuDNN are settings of the process."""
    flags = [(torch.backends.cuda.matmul, "allow_tf32"), (torch.backends.cudnn, "allow_tf32")]
    flags += [(torch.backends.cudnn, "benchmark"), (torch.backends.cudnn, "deterministic")]
    before = [getattr(owner, name) for owner, name in flags]
    yield
    for (owner, name), value in zip(flags, before, strict=True):
        setattr(owner, name, value)


def convolutions() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 64, 16),
        nn.BatchNorm1d(16),
        nn.Linear(16, 4),
    )


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8)


# --- which device ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "there"), DEVICES)
def test_auto_takes_the_best_kind_there_is(name: str, there: Any) -> None:
    with there():
        device = library.setup_device()
        assert str(device) == name
        info = library.get_device_info()
        assert (info.device, str(info.device_type)) == (device, device.type)
        assert 0 < info.free_memory <= info.total_memory
        assert [str(each.device) for each in library.list_devices()] == list(dict.fromkeys([name, "cpu"]))


@simulated
def test_of_several_gpus_the_one_with_the_most_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    busy, small = SimulatedGPU(used_by_others=20 * GIB), SimulatedGPU(total_memory=8 * GIB)
    with cuda(busy, small, SimulatedGPU(total_memory=16 * GIB), SimulatedGPU(total_memory=16 * GIB)):
        assert str(library.setup_device()) == "cuda:2"
        assert torch.cuda.current_device() == 2
        taken = torch.empty(10 * MIB, dtype=torch.uint8, device="cuda:2")
        assert str(library.setup_device("cuda")) == "cuda:3"
        assert str(library.setup_device("cuda:1")) == "cuda:1"
        assert library.get_device_info("cuda:0").free_memory == 4 * GIB
        del taken


@simulated
def test_under_torchrun_each_process_takes_the_gpu_of_its_local_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    with cuda(SimulatedGPU(), SimulatedGPU(used_by_others=GIB)):
        monkeypatch.setenv("LOCAL_RANK", "1")
        assert str(library.setup_device()) == "cuda:1"
        assert torch.cuda.current_device() == 1
        assert str(library.setup_device("cuda:0")) == "cuda:0"
        monkeypatch.setenv("LOCAL_RANK", "2")
        with pytest.raises(library.DeviceUnavailableError, match=r"LOCAL_RANK = 2: .* 2 GPUs, number 0 to 1; start at"):
            library.setup_device()
    assert str(library.setup_device()) == "cpu"  # gloo on a CPU has ranks too


@simulated
@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("cuda", r"device = cuda: PyTorch .* finds no such device here; look at `nvidia-smi`"),
        ("mps", r"device = mps: .* Apple silicon"),
        ("cuda:0", "device = cuda:0: PyTorch"),
    ],
)
def test_a_device_that_is_not_there_is_named(wanted: str, message: str) -> None:
    with pytest.raises(library.DeviceUnavailableError, match=message):
        library.setup_device(wanted)
    with pytest.raises(library.DeviceUnavailableError, match="finds no such device here"):
        library.get_device_info(wanted)


@simulated
def test_a_gpu_of_a_number_that_is_not_there_is_named() -> None:
    with cuda(), pytest.raises(library.DeviceUnavailableError, match=r"device = cuda:1: .* 1 GPU, number 0"):
        library.setup_device("cuda:1")


def test_the_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total, available = host.memory()
    assert 0 < available <= total
    limit, used = tmp_path / "memory.max", tmp_path / "memory.current"
    monkeypatch.setattr(host, "_CGROUPS", ((limit, used),))
    limit.write_text("max\n", encoding="ascii")
    used.write_text("1000\n", encoding="ascii")
    machine = host.memory()[0]
    limit.write_text("4000\n", encoding="ascii")
    assert (machine > 4000, host.memory()) == (True, (4000, 3000))


# --- configuration ---------------------------------------------------------------------------------------------------


def test_all_problems_of_a_config_are_told_at_once() -> None:
    wrong: Any = {
        "device": "gpu",
        "amp": "yes",
        "amp_dtype": "fp8",
        "cudnn_benchmark": True,
        "cudnn_deterministic": True,
        "empty_cache_interval": -1,
        "memory_fraction": 1.5,
    }
    with pytest.raises(library.GPUConfigError) as caught:
        library.GPUConfig(**wrong)
    named = [problem.split(" = ")[0] for problem in caught.value.problems]
    assert named == ["amp", "device", "amp_dtype", "empty_cache_interval", "memory_fraction", "cudnn_benchmark"]
    assert all(repr(value) in str(caught.value) for value in ("gpu", "yes", "fp8", -1, 1.5))


@pytest.mark.parametrize("device", ["auto", "cpu", "mps", "cuda", "cuda:12"])
def test_what_a_config_may_be(device: str) -> None:
    assert library.GPUConfig(device=device, memory_fraction=1, empty_cache_interval=0).device == device


def test_tf32_and_cudnn_are_set_as_the_config_says() -> None:
    for allowed in (True, False):
        config = library.GPUConfig(allow_tf32=allowed, cudnn_benchmark=allowed, cudnn_deterministic=not allowed)
        library.setup_device(config)
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (allowed, not allowed)


def test_there_is_one_manager_for_a_config() -> None:
    manager = library.get_gpu_manager()
    assert library.get_gpu_manager(library.GPUConfig()) is manager
    assert library.get_gpu_manager(library.GPUConfig(amp=False)) is not manager
    with mps():
        assert library.get_gpu_manager().device.type == "mps"
    assert library.get_gpu_manager() is manager


@simulated
def test_a_process_takes_no_more_than_its_share() -> None:
    with cuda(SimulatedGPU(total_memory=10 * MIB)):
        library.get_gpu_manager(library.GPUConfig(memory_fraction=0.5))
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(6 * MIB, dtype=torch.uint8, device="cuda")


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "device", "dtype"),
    [
        pytest.param(lambda: cuda(SimulatedGPU(compute_capability=(8, 0))), "cuda", torch.bfloat16, marks=simulated),
        pytest.param(lambda: cuda(SimulatedGPU(compute_capability=(7, 5))), "cuda", torch.float16, marks=simulated),
        (lambda: mps(bf16=True), "mps", torch.bfloat16),
        (lambda: mps(bf16=False), "mps", torch.float16),
        (nullcontext, "cpu", torch.bfloat16),
    ],
)
def test_bf16_where_the_hardware_has_it(there: Any, device: str, dtype: torch.dtype) -> None:
    with there():
        assert library.get_amp_dtype(device) == dtype
        assert library.get_device_info(device).amp_dtype == str(dtype).removeprefix("torch.")
        manager = library.get_gpu_manager(library.GPUConfig(device=device))
        if device != "cpu":
            assert library.supports_amp(device)
            assert manager.amp_enabled
        assert manager.grad_scaler().is_enabled() is (dtype == torch.float16)
        with manager.autocast():
            output = nn.Linear(4, 4).to(manager.device)(torch.ones(1, 4, device=manager.device))
        assert output.dtype == (dtype if manager.amp_enabled else torch.float32)
        plain = library.get_gpu_manager(library.GPUConfig(device=device, amp=False, amp_dtype="fp16"))
        with plain.autocast():
            assert nn.Linear(4, 4).to(plain.device)(torch.ones(1, 4).to(plain.device)).dtype == torch.float32
        assert not plain.grad_scaler().is_enabled()


# --- memory ----------------------------------------------------------------------------------------------------------


@simulated
def test_the_guard_frees_what_failed_and_raises_with_figures() -> None:
    def fill(size: int) -> None:
        kept = torch.empty(4 * MIB, dtype=torch.uint8, device="cuda")
        torch.empty(size, dtype=torch.uint8, device="cuda")
        raise AssertionError(kept.shape)

    with cuda(SimulatedGPU(total_memory=10 * MIB)):
        model = torch.empty(2 * MIB, dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.cuda.OutOfMemoryError) as caught, library.gpu_memory_guard("cuda"):
            fill(8 * MIB)
        text = str(caught.value)
        assert "CUDA out of memory. Tried to allocate" in text
        assert "cuda:0 before: 2.0 MiB in tensors" in text
        assert "cuda:0 when it was full: 6.0 MiB in tensors" in text
        assert "cuda:0 now: 2.0 MiB in tensors" in text
        assert torch.cuda.memory_allocated() == model.nbytes  # while the error is still at hand


@pytest.mark.parametrize(("name", "there"), DEVICES)
def test_the_guard_lets_other_errors_and_results_through(name: str, there: Any) -> None:
    with there():
        with library.gpu_memory_guard(name) as figures:
            assert figures.total > 0
        with pytest.raises(KeyError, match="mine"), library.gpu_memory_guard(name):
            raise KeyError("mine")
        required = library.gpu_memory_guard(name, required=1 << 60)
        with pytest.raises(torch.OutOfMemoryError, match="are required"), required:
            raise AssertionError("not reached")


def test_full_memory_is_recognised_in_all_its_words() -> None:
    full = [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ]
    assert [library.is_out_of_memory(error) for error in full] == [True] * 5
    assert not library.is_out_of_memory(RuntimeError("shape mismatch"))
    assert not library.is_out_of_memory(ValueError("can't allocate memory"))


@simulated
def test_the_cache_is_emptied_each_so_many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    with cuda(SimulatedGPU(), SimulatedGPU()):
        emptied: list[int] = []
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(torch.cuda.current_device()))
        manager = library.GPUManager(library.GPUConfig(device="cuda:1", empty_cache_interval=3))
        torch.cuda.set_device(0)
        for _ in range(7):
            manager.step_done()
        assert emptied == [1, 1]  # on its own device, whichever is current
        never = library.GPUManager(library.GPUConfig(device="cuda:1"))
        for _ in range(7):
            never.step_done()
        assert emptied == [1, 1]


@simulated
def test_synchronising_waits_for_the_right_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    with cuda(SimulatedGPU(), SimulatedGPU()):
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: waited.append(str(device)))
        library.synchronize("cuda:1")
        library.synchronize("cpu")
        monkeypatch.undo()
    with mps():
        monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
        library.synchronize()
        monkeypatch.undo()
    assert waited == ["cuda:1", "mps"]


# --- moving ----------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    left: torch.Tensor
    right: object


@dataclasses.dataclass(frozen=True)
class Frozen:
    tensor: torch.Tensor
    note: str
    derived: list[torch.Tensor] = dataclasses.field(init=False, default_factory=list)


@simulated
def test_everything_in_a_batch_is_moved_and_keeps_its_type() -> None:
    from transformers import BatchEncoding
    from transformers.modeling_outputs import CausalLMOutput

    tensor = torch.ones(2)
    frozen = Frozen(tensor, "n")
    frozen.derived.append(tensor)
    packed = nn.utils.rnn.pack_sequence([torch.ones(2), torch.ones(1)])
    batch = {
        "dict": {"a": tensor, "b": None, 3: "text"},
        "ordered": collections.OrderedDict(x=tensor),
        "default": collections.defaultdict(list, x=[tensor]),
        "proxy": types.MappingProxyType({"x": tensor}),
        "encoding": BatchEncoding({"input_ids": tensor, "n": [1]}),
        "output": CausalLMOutput(logits=tensor),
        "list": [tensor, [tensor, 1.5]],
        "tuple": (tensor, True),
        "named": Pair(tensor, {"x": tensor}),
        "frozen": frozen,
        "set": {tensor},
        "packed": packed,
        "parameter": nn.Parameter(torch.ones(1)),
        "size": torch.Size([1, 2]),
        "class": dict,
        "none": None,
    }
    with cuda():
        moved: Any = library.move_to_device(batch, "cuda")
        assert {name: type(value) for name, value in moved.items() if name != "proxy"} == {
            name: type(value) if name != "parameter" else torch.Tensor
            for name, value in batch.items()
            if name != "proxy"
        }
        there = [
            *(moved["dict"]["a"], moved["ordered"]["x"], moved["default"]["x"][0], moved["proxy"]["x"]),
            *(moved["encoding"]["input_ids"], moved["output"].logits, moved["output"]["logits"]),
            *(moved["list"][0], moved["list"][1][0], moved["tuple"][0], moved["named"].left),
            *(moved["named"].right["x"], moved["frozen"].tensor, moved["frozen"].derived[0], *moved["set"]),
        ]
        assert {str(each.device) for each in there} == {"cuda:0"}
        assert len({id(each) for each in there}) == 1  # one tensor, moved once
        assert (moved["packed"].data.is_cuda, moved["parameter"].is_cuda) == (True, True)
        assert (moved["dict"]["b"], moved["dict"][3], moved["list"][1][1], moved["tuple"][1]) == (
            None,
            "text",
            1.5,
            True,
        )
        assert (moved["frozen"].note, moved["size"], moved["class"], moved["none"]) == ("n", batch["size"], dict, None)
        assert moved["default"]["new"] == []
        assert batch["dict"]["a"] is tensor  # type: ignore[index]
        assert (tensor.is_cpu, frozen.tensor is tensor) == (True, True)
        module = nn.Linear(1, 1)
        assert library.move_to_device(module, "cuda") is module
        assert module.weight.is_cuda


@simulated
def test_a_copy_is_asynchronous_from_pinned_memory_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with cuda():
        seen: list[object] = []
        real = torch.Tensor.to

        def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            seen.append(kwargs.get("non_blocking"))
            return real(self, *args, **kwargs)

        pinned, plain = torch.ones(1).pin_memory(), torch.ones(1)
        monkeypatch.setattr(torch.Tensor, "to", to)
        library.move_to_device([pinned, plain], "cuda")
        library.move_to_device(plain, "cuda", non_blocking=True)
        library.move_to_device(pinned, "cpu")
        monkeypatch.undo()
    assert seen == [True, False, True, False]


# --- the batch that fits ---------------------------------------------------------------------------------------------


def state_of(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: value.clone() for name, value in model.state_dict().items()},
        "modes": [module.training for module in model.modules()],
        "gradients": [parameter.grad for parameter in model.parameters()],
        "random": torch.get_rng_state(),
    }


@pytest.mark.parametrize(("name", "there"), DEVICES)
@pytest.mark.parametrize("training", [True, False])
def test_the_largest_batch_that_fits_is_found(name: str, there: Any, training: bool) -> None:
    """Each sample takes 1 MiB of memory in a step that says so, and the device has room for 37 of them."""
    with there():
        model = nn.Linear(2, 2).to(name)
        weights = 2 * 512 if name != "cpu" else 24
        trials: list[library.BatchTrial] = []

        def step(model: nn.Module, batch: torch.Tensor) -> None:
            assert model.training is training
            assert batch.device.type == name.partition(":")[0]

        found = library.get_optimal_batch_size(
            model,
            lambda count: torch.zeros(count * MIB, dtype=torch.uint8),
            training=training,
            step=step,
            memory_limit=37 * MIB + weights,
            on_trial=trials.append,
        )
        assert found == 37
        sizes = [trial.batch_size for trial in trials]
        assert sizes == [1, 2, 4, 8, 16, 32, 64, 48, 40, 36, 38, 37]
        assert [trial.batch_size for trial in trials if trial.fits] == [1, 2, 4, 8, 16, 32, 36, 37]
        assert all((trial.peak_bytes or 0) >= trial.batch_size * MIB for trial in trials if trial.fits)


@simulated
def test_memory_that_runs_out_bounds_the_batch_and_the_model_is_left_as_it_was() -> None:
    with cuda(SimulatedGPU(total_memory=16 * MIB)):
        model = convolutions().cuda()
        model[0].eval()  # type: ignore[operator]
        model[0].weight.grad = kept = torch.ones_like(model[0].weight)  # type: ignore[index, union-attr]
        before, allocated = state_of(model), torch.cuda.memory_allocated()
        trials: list[library.BatchTrial] = []
        options: dict[str, Any] = {"minimum": 2, "maximum": 1 << 16, "on_trial": trials.append}
        found = library.get_optimal_batch_size(model, images, headroom=0.1, **options)
        assert torch.cuda.memory_allocated() == allocated
        after = state_of(model)
        assert all(torch.equal(after["tensors"][key], value) for key, value in before["tensors"].items())
        assert (after["modes"], after["gradients"][0] is kept) == (before["modes"], True)
        assert torch.equal(after["random"], before["random"])
        out_of_memory = [trial for trial in trials if trial.peak_bytes is None]
        assert out_of_memory, "some trials were refused by the device itself"
        best = {trial.batch_size: trial.peak_bytes or 0 for trial in trials if trial.fits}
        assert max(best) == found
        assert 0.8 * 16 * MIB < best[found] <= 0.9 * 16 * MIB
        assert min(trial.batch_size for trial in trials if not trial.fits) == found + 1
        # Without gradients to keep a batch may be larger, in half the precision larger still.
        assert library.get_optimal_batch_size(model, images, training=False, maximum=1 << 16) > found
        half = library.GPUManager(library.GPUConfig(device="cuda"))
        assert half.optimal_batch_size(model, images, minimum=2, maximum=1 << 16) != found


def test_the_range_is_kept_and_what_cannot_be_is_said() -> None:
    model = nn.Linear(2, 2)
    calls: list[int] = []

    def batch(count: int) -> torch.Tensor:
        calls.append(count)
        return torch.ones(count, 2)

    assert library.get_optimal_batch_size(model, batch, minimum=3, maximum=10) == 10
    assert calls == [3, 6, 10]
    with pytest.raises(ValueError, match=r"minimum = 0.*headroom = 1\.0.*memory_limit = 0"):
        library.get_optimal_batch_size(model, batch, minimum=0, headroom=1.0, memory_limit=0)
    with pytest.raises(ValueError, match="maximum = 1: is below minimum = 2"):
        library.get_optimal_batch_size(model, batch, minimum=2, maximum=1)
    with pytest.raises(torch.OutOfMemoryError, match=r"not even a batch of 1 fits on cpu: it takes .* of 16 B"):
        library.get_optimal_batch_size(model, batch, memory_limit=16)
    with pytest.raises(ZeroDivisionError):
        library.get_optimal_batch_size(model, lambda count: 1 / 0)
    with pytest.raises(TypeError, match="gives no loss"):
        library.get_optimal_batch_size(nn.Identity(), lambda count: torch.ones(count, dtype=torch.long))


def test_on_a_cpu_a_batch_that_would_not_fit_is_not_tried() -> None:
    tried: list[int] = []

    def batch(count: int) -> torch.Tensor:
        tried.append(count)
        return torch.zeros(count * MIB, dtype=torch.uint8)

    found = library.get_optimal_batch_size(
        nn.Linear(1, 1), batch, step=lambda model, batch: None, memory_limit=5 * MIB + 8
    )
    assert found == 5
    assert max(tried) == 5


# --- profiles --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "there"), DEVICES)
@pytest.mark.parametrize("training", [True, False])
def test_a_profile(name: str, there: Any, training: bool) -> None:
    with there():
        model = convolutions()
        before = state_of(model)
        calls: list[bool] = []
        hook = model.register_forward_pre_hook(lambda module, args: calls.append(module.training))
        profile = library.profile_model(model, images(16), name, training=training, iterations=7, warmup=2)
        hook.remove()
        # Warm-up, latencies, on a GPU throughput, and one more for the memory.
        assert len(calls) == 2 + 7 + (0 if name == "cpu" else 7) + 1
        assert set(calls) == {training}
        assert (profile.device, profile.batch_size, profile.iterations) == (name if name != "mps" else "mps", 16, 7)
        assert profile.parameters == sum(parameter.numel() for parameter in model.parameters())
        ordered = [
            *(profile.latency_ms_min, profile.latency_ms_p50, profile.latency_ms_p90),
            *(profile.latency_ms_p99, profile.latency_ms_max),
        ]
        assert ordered == sorted(ordered)
        assert profile.latency_ms_min <= profile.latency_ms_mean <= profile.latency_ms_max
        if name == "cpu":
            expected = 16 / (profile.latency_ms_mean / 1e3)
            assert profile.throughput_samples_per_sec == pytest.approx(expected)
        least = sum(parameter.nbytes for parameter in model.parameters()) * (2 if training else 1) + images(16).nbytes
        assert least < profile.peak_memory_bytes < 50 * least
        after = state_of(model.cpu())
        assert all(torch.equal(after["tensors"][key], value) for key, value in before["tensors"].items())
        assert (after["modes"], after["gradients"]) == (before["modes"], before["gradients"])
        assert "samples/s" in str(profile)


def test_latencies_and_percentiles_are_those_of_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only the model moves: by 100 s in the warm-up, then by 1 to 101 ms."""
    now = 0.0
    durations = iter([100.0, 100.0, *(number / 1000 for number in range(1, 102)), 0.0])

    class Slow(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            nonlocal now
            now += next(durations)
            return batch

    monkeypatch.setattr("tunestack_train.gpu.profiling.time.perf_counter", lambda: now)
    profile = library.profile_model(Slow(), torch.ones(4, 1), iterations=101, warmup=2)
    figures = [profile.latency_ms_min, profile.latency_ms_p50, profile.latency_ms_p90, profile.latency_ms_p99]
    assert figures == pytest.approx([1, 51, 91, 100])
    assert (profile.latency_ms_mean, profile.latency_ms_max) == pytest.approx((51, 101))
    assert profile.throughput_samples_per_sec == pytest.approx(4 / 0.051)


def test_the_peak_on_a_cpu_is_what_was_allocated_at_once() -> None:
    def step(model: nn.Module, batch: torch.Tensor) -> None:
        first = torch.empty(8 * MIB, dtype=torch.uint8)
        del first
        second = torch.empty(4 * MIB, dtype=torch.uint8)
        third = torch.empty(6 * MIB, dtype=torch.uint8)
        del second, third

    batch = torch.zeros(1, MIB, dtype=torch.uint8)
    profile = library.profile_model(nn.Identity(), batch, step=step, iterations=2, warmup=0)
    assert profile.peak_memory_bytes == 11 * MIB
    assert "profiler" in profile.peak_memory_source


def test_inputs_of_a_profile_can_be_positional_or_named() -> None:
    class Two(nn.Module):
        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return left + right

    pair = (torch.ones(3, 1), torch.ones(3, 1))
    assert library.profile_model(Two(), pair, iterations=2).batch_size == 3
    assert library.profile_model(Two(), {"left": pair[0], "right": pair[1]}, iterations=2).batch_size == 3
    assert library.profile_model(Two(), pair, iterations=2, batch_size=5).batch_size == 5
    with pytest.raises(ValueError, match="give batch_size"):
        library.profile_model(Two(), (torch.tensor(1.0), torch.tensor(1.0)), iterations=2)
    with pytest.raises(ValueError, match="iterations = 1"):
        library.profile_model(Two(), pair, iterations=1)


# --- inference -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "there"), DEVICES)
def test_a_model_made_ready_for_inference_says_the_same(name: str, there: Any) -> None:
    with there():
        model, batch = convolutions(), images(4)
        for _ in range(5):
            model(images(32))  # so that the normalisations have something to do
        expected = model.eval()(batch)
        model.train()
        ready = library.optimize_model_for_inference(model, name, check_inputs=batch)
        assert ready is model
        assert not ready.training
        assert not any(parameter.requires_grad for parameter in ready.parameters())
        assert {parameter.device.type for parameter in ready.parameters()} == {name.partition(":")[0]}
        assert [type(layer) for layer in ready.children()].count(nn.Identity) == 2
        dtype = torch.float32 if name == "cpu" else torch.bfloat16
        assert {parameter.dtype for parameter in ready.parameters()} == {dtype}
        output = ready(batch.to(name))  # float32 inputs are cast
        assert output.dtype == dtype
        tolerance = 1e-5 if name == "cpu" else 3e-2
        assert torch.allclose(output.float().cpu(), expected, atol=tolerance * float(expected.abs().max()), rtol=0)


def test_what_is_not_wanted_is_left_out() -> None:
    model = library.optimize_model_for_inference(convolutions(), fuse=False, dtype=torch.bfloat16, channels_last=True)
    assert not any(isinstance(layer, nn.Identity) for layer in model.children())
    assert next(model.parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).is_contiguous(memory_format=torch.channels_last)


def test_a_model_that_says_something_else_afterwards_is_refused() -> None:
    class Sensitive(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.full((1,), 256.0))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return (self.weight + batch) - self.weight  # 256 + 0.5 is 256 in half the precision

    with pytest.raises(ValueError, match=r"output 0 .* differs by 100\.00% .* bfloat16 explains 5\.00%"):
        library.optimize_model_for_inference(Sensitive(), dtype=torch.bfloat16, check_inputs=torch.full((2, 1), 0.5))


# --- the package's own use, and use by others ------------------------------------------------------------------------


@simulated
def test_a_run_takes_its_device_from_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert run_device.choose_device("auto", "bf16").kind == "cpu"
    with pytest.raises(SettingsError, match="device = cuda: PyTorch"):
        run_device.choose_device("cuda", "bf16")
    turing = SimulatedGPU(name="T4", compute_capability=(7, 5), total_memory=16 * GIB)
    with cuda(turing, SimulatedGPU(name="L4")):
        chosen = run_device.choose_device("auto", "bf16")
        assert chosen == run_device.Device("cuda", "L4", 24 * GIB, 1)
        assert chosen.torch_name == "cuda:1"
        kept = torch.empty(MIB, dtype=torch.uint8, device="cuda")
        assert run_device.memory_in_use(chosen) == kept.nbytes
        monkeypatch.setenv("LOCAL_RANK", "0")
        with pytest.raises(SettingsError, match=r"precision = bf16: the T4 has no bf16 .* this is 7\.5"):
            run_device.choose_device("auto", "bf16")
        assert run_device.choose_device("auto", "fp16").torch_name == "cuda:0"
    with mps():
        chosen = run_device.choose_device("auto", "bf16")
        assert (chosen.torch_name, run_device.memory_in_use(chosen)) == ("mps", 0)
    assert run_device.memory_in_use(run_device.choose_device("cpu", "bf16")) is None


ALONE = """
import sys
import gpu, gpu.mock
assert "torch" not in sys.modules, "torch is imported before anything is asked for"
assert not any(name.startswith("tunestack") for name in sys.modules)
import torch
with gpu.mock.simulate_cuda():
    manager = gpu.get_gpu_manager()
    print(manager.device, manager.profile(torch.nn.Linear(2, 2), torch.ones(3, 2), iterations=2).batch_size)
"""


def test_the_folder_works_on_its_own(tmp_path: Path) -> None:
    """Copied elsewhere, without the rest of the package, and without torch until something is asked for."""
    assert library.__file__ is not None
    shutil.copytree(Path(library.__file__).parent, tmp_path / "gpu")
    command = [sys.executable, "-c", ALONE]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (0, "cuda:0 3\n"), done.stderr
