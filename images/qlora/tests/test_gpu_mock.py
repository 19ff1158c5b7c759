"""What code written for a GPU sees of a simulated one, and that nothing of it stays."""

import copy
import io
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn
from torch import zeros as zeros_by_name
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from tunestack_train.gpu import mock
from tunestack_train.gpu.mock.activation import active_simulation
from tunestack_train.gpu.mock.operations import Operations
from tunestack_train.gpu.mock.simulation import NotSimulatedError, Simulation

SOURCES = Path(__file__).parent.parent / "src"
pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU: the mock steps aside there")


def quiet(_: str) -> None:
    pass


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    gpu = mock.SimulatedGPU(total_memory=1 << 30)
    with mock.simulate_cuda([gpu, gpu], notice=quiet) as active:
        assert active is not None
        yield active


def state_of_torch() -> dict[str, object]:
    """All that a simulation could leave behind: attributes of what it changes, modes, default device."""
    owners: list[Any] = [
        *(torch, torch.Tensor, torch.UntypedStorage, torch.cuda, torch.cuda.memory, torch.cuda.random),
        *(torch.cuda.streams, torch.cuda.nvtx, torch.backends.cuda, torch.backends.cudnn, torch.backends.mps),
        *(torch.mps, torch.mps.event, torch.accelerator, torch.serialization, torch.fft, threading.Thread),
        torch.amp.autocast_mode.autocast,
    ]
    state: dict[str, object] = {
        f"{number} {name}": id(value) for number, owner in enumerate(owners) for name, value in vars(owner).items()
    }
    state["registry"] = list(torch.serialization._package_registry)
    state["modes"] = torch._C._len_torch_dispatch_stack(), torch._C._len_torch_function_stack()
    state["default"] = torch.get_default_device()
    state["autocast"] = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    return state


# --- tensors ---------------------------------------------------------------------------------------------------------


def test_every_way_to_put_a_tensor_there_puts_it_there(simulation: Simulation) -> None:
    cpu = torch.ones(2)
    there = {
        "cuda()": cpu.cuda(),
        "cuda(0)": cpu.cuda(0),
        "to text": cpu.to("cuda"),
        "to device": cpu.to(torch.device("cuda:0")),
        "to number": cpu.to(0),
        "to other": cpu.to(torch.zeros(1, device="cuda")),
        "to keyword": cpu.to(device="cuda", dtype=torch.float16),
        "zeros": torch.zeros(2, device="cuda"),
        "tensor": torch.tensor([1.0, 2.0], device="cuda"),
        "as_tensor": torch.as_tensor([1.0, 2.0], device="cuda"),
        "arange": torch.arange(2, device="cuda:0"),
        "like": torch.zeros_like(cpu, device="cuda"),
        "new": cpu.new_ones(2, device="cuda"),
        "by name": zeros_by_name(2, device="cuda"),
        "operation": cpu.cuda() * 2 + 1,
        "view": cpu.cuda()[:1],
        "detached": cpu.cuda().detach(),
        "number on the CPU": cpu.cuda() * torch.tensor(2.0),
        "made within an operation": F.one_hot(torch.tensor([0, 1], device="cuda")),
        "fft": torch.fft.fftfreq(4, device="cuda"),
    }
    assert {name: str(tensor.device) for name, tensor in there.items()} == dict.fromkeys(there, "cuda:0")
    assert {name for name, tensor in there.items() if not tensor.is_cuda or tensor.is_cpu} == set()
    assert (cpu.device.type, cpu.is_cuda, cpu.is_cpu) == ("cpu", False, True)
    assert there["to keyword"].dtype == torch.float16
    assert there["operation"].cpu().tolist() == [3.0, 3.0]
    assert repr(there["zeros"]) == "tensor([0., 0.], device='cuda:0')"
    assert torch.ones(1, device="cuda:1").get_device() == 1
    assert cpu.get_device() == -1


def test_tensors_of_two_devices_do_not_mix(simulation: Simulation) -> None:
    here, there, other = torch.ones(3), torch.ones(3, device="cuda"), torch.ones(3, device="cuda:1")
    mixtures: list[Any] = [
        lambda: here + there,
        lambda: there @ other,
        lambda: nn.Linear(3, 1)(there),
        lambda: nn.Linear(3, 1).cuda()(here),
        lambda: torch.cat([here, there]),
        lambda: here.add_(there),
        lambda: F.mse_loss(there, here),
    ]
    for mixture in mixtures:
        with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
            mixture()
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        here[torch.tensor([0], device="cuda")]
    assert there[torch.tensor([0])].is_cuda  # indices may stay on the CPU
    here.copy_(there)
    assert here.is_cpu
    there.copy_(here)
    assert there.is_cuda


def test_what_only_the_cpu_can_do_is_refused(simulation: Simulation) -> None:
    there = torch.ones(2, device="cuda")
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
        there.numpy()
    assert there.cpu().numpy().tolist() == [1.0, 1.0]
    assert there.numpy(force=True).tolist() == [1.0, 1.0]
    with pytest.raises(RuntimeError, match="cannot pin"):
        there.pin_memory()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.ones(1, device="cuda:2")
    with pytest.raises(NotSimulatedError, match=r"torch\.cuda\.CUDAGraph needs a real GPU"):
        torch.cuda.CUDAGraph()
    with pytest.raises(NotSimulatedError, match=r"torch\.cuda\.cudart"):
        torch.cuda.cudart()


def test_a_transfer_is_a_copy_and_gradients_go_back_with_it(simulation: Simulation) -> None:
    here = torch.ones(2, requires_grad=True)
    there = here.cuda()
    (there * 3).sum().backward()
    assert here.grad is not None
    assert (here.grad.device.type, here.grad.tolist()) == ("cpu", [3.0, 3.0])
    with torch.no_grad():
        there += 1
    assert here.tolist() == [1.0, 1.0]
    assert there.to("cuda") is there
    back = there.detach().cpu()
    back.zero_()
    assert there.tolist() == [2.0, 2.0]


def test_pinned_memory(simulation: Simulation) -> None:
    plain = torch.ones(2)
    pinned = plain.pin_memory()
    assert (plain.is_pinned(), pinned.is_pinned(), torch.empty(1, pin_memory=True).is_pinned()) == (False, True, True)
    assert pinned.to("cuda", non_blocking=True).is_cuda


# --- models ----------------------------------------------------------------------------------------------------------


class Net(nn.Module):
    """Layers of each kind that has code of its own for CUDA."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.BatchNorm1d(8), nn.GELU())
        self.lstm = nn.LSTM(8, 8, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 3)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        hidden = self.convolution(batch).transpose(1, 2)
        hidden, _ = self.lstm(hidden)
        mask = torch.ones(hidden.shape[1], hidden.shape[1], dtype=torch.bool, device=batch.device).triu(1)
        hidden = hidden + self.attention(hidden, hidden, hidden, attn_mask=mask)[0]
        hidden = checkpoint(lambda state: F.dropout(self.norm(state), 0.1, self.training), hidden, use_reentrant=False)
        return self.out(hidden.mean(1))


def train(device: str, dtype: torch.dtype, steps: int = 3) -> tuple[nn.Module, list[float]]:
    """A training as people write it for a GPU; the random numbers come from the CPU, so that it is the same on both."""
    torch.manual_seed(0)
    model = Net().to(device).train()
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    scaling = torch.amp.GradScaler(device, init_scale=128.0)
    losses = []
    for _ in range(steps):
        batch, labels = torch.randn(4, 4, 6).to(device), torch.randint(0, 3, (4,)).to(device)
        with torch.autocast(device, dtype=dtype):
            output = model(batch)
            loss = F.cross_entropy(output, labels)
        assert output.dtype == dtype
        scaling.scale(loss).backward()
        scaling.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaling.step(optimizer)
        scaling.update()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return model, losses


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_training_with_amp_computes_what_the_cpu_computes(simulation: Simulation, dtype: torch.dtype) -> None:
    model, losses = train("cuda", dtype)
    assert {str(parameter.device) for parameter in model.parameters()} == {"cuda:0"}
    assert {str(buffer.device) for buffer in model.buffers()} == {"cuda:0"}
    assert losses[-1] == pytest.approx(losses[0], abs=2)
    # Dropout draws from the device's own numbers, so only what comes before the first one must be the same.
    assert losses[0] == pytest.approx(train("cpu", dtype)[1][0], abs=0.1)


def test_a_forward_pass_is_the_cpus_bit_for_bit(simulation: Simulation) -> None:
    torch.manual_seed(0)
    model, batch = Net().eval(), torch.randn(2, 4, 6)
    expected = model(batch)
    assert torch.equal(model.cuda()(batch.cuda()).cpu(), expected)


def test_a_copy_of_a_model_stays_on_its_device(simulation: Simulation) -> None:
    twin = copy.deepcopy(nn.Linear(2, 2).cuda(1))
    assert str(twin.weight.device) == "cuda:1"
    assert twin.to("cpu").weight.is_cpu


def test_files_remember_the_device_and_map_location_leads_elsewhere(simulation: Simulation, tmp_path: Path) -> None:
    file = tmp_path / "weights.pt"
    torch.save(nn.Linear(2, 2).cuda().state_dict(), file)
    wanted = {None: "cuda:0", "cuda:1": "cuda:1", "cpu": "cpu", torch.device("cuda"): "cuda:0"}
    for location, device in wanted.items():
        assert str(torch.load(file, map_location=location, weights_only=True)["weight"].device) == device
    by_function = torch.load(file, map_location=lambda storage, _: storage.cuda(1), weights_only=True)
    assert str(by_function["weight"].device) == "cuda:1"
    plain = io.BytesIO()
    torch.save(torch.ones(2), plain)
    plain.seek(0)
    assert torch.load(plain, weights_only=True).is_cpu


@pytest.mark.parametrize("workers", [0, 1])
def test_a_data_loader_pins_and_its_batches_can_be_moved(simulation: Simulation, workers: int) -> None:
    loader = DataLoader(TensorDataset(torch.arange(6.0)), batch_size=3, pin_memory=True, num_workers=workers)
    batches = [batch for (batch,) in loader]
    assert [batch.is_pinned() for batch in batches] == [True, True]
    assert torch.cat([batch.cuda(non_blocking=True) for batch in batches]).tolist() == [0, 1, 2, 3, 4, 5]


def test_the_default_device_can_be_the_simulated_one(simulation: Simulation) -> None:
    with torch.device("cuda"):
        assert nn.Linear(2, 2).weight.is_cuda
        assert torch.tensor([1]).is_cuda
        assert torch.ones(1, device="cpu").is_cpu
    torch.set_default_device("cuda:1")
    assert str(torch.randn(2).device) == "cuda:1"


# --- torch.cuda ------------------------------------------------------------------------------------------------------


def test_memory_is_counted_and_given_back(simulation: Simulation) -> None:
    mebibyte = torch.zeros(1 << 18, device="cuda")  # float32
    half = mebibyte[: 1 << 17]
    assert torch.cuda.memory_allocated() == 1 << 20
    assert torch.cuda.memory_allocated(1) == 0
    assert torch.cuda.mem_get_info() == ((1 << 30) - (1 << 20), 1 << 30)
    del mebibyte
    assert torch.cuda.memory_allocated() == 1 << 20  # a view keeps it
    del half
    assert (torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated()) == (0, 1 << 20)
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == 0
    small = torch.ones(1, device="cuda")
    assert torch.cuda.memory_stats()["allocated_bytes.all.current"] == small.numel() * 512


def test_memory_runs_out_as_on_a_gpu_and_can_be_used_again(simulation: Simulation) -> None:
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"CUDA out of memory\. Tried to allocate 2\.00 GiB"):
        torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    assert torch.cuda.memory_allocated() == 0
    torch.cuda.set_per_process_memory_fraction(0.25)
    kept = torch.empty(200 << 20, dtype=torch.uint8, device="cuda")
    with pytest.raises(torch.cuda.OutOfMemoryError):
        torch.empty(200 << 20, dtype=torch.uint8, device="cuda")
    assert torch.empty(200 << 20, dtype=torch.uint8, device="cuda:1").is_cuda  # the other device has room
    del kept
    assert torch.empty(200 << 20, dtype=torch.uint8, device="cuda").is_cuda


def test_devices_properties_and_the_current_one() -> None:
    first = mock.SimulatedGPU(name="A", compute_capability=(7, 5), total_memory=1 << 20, multiprocessors=40)
    with mock.simulate_cuda([first, mock.SimulatedGPU(name="B")], notice=quiet):
        properties = torch.cuda.get_device_properties(0)
        assert (properties.name, properties.major, properties.total_memory) == ("A", 7, 1 << 20)
        assert properties.multi_processor_count == 40
        assert (torch.cuda.is_available(), torch.cuda.device_count(), torch.cuda.current_device()) == (True, 2, 0)
        assert torch.cuda.get_device_capability() == (7, 5)
        assert not torch.cuda.is_bf16_supported(including_emulation=False)
        with torch.cuda.device(1):
            assert (torch.cuda.current_device(), torch.cuda.get_device_name()) == (1, "B")
            assert torch.cuda.is_bf16_supported(including_emulation=False)
            assert str(torch.ones(1).cuda().device) == "cuda:1"
        torch.cuda.set_device("cuda:1")
        assert str(torch.ones(1, device="cuda").device) == "cuda:1"
        assert torch.accelerator.current_device_index() == 1


def test_each_device_has_random_numbers_of_its_own(simulation: Simulation) -> None:
    torch.manual_seed(1)
    torch.cuda.manual_seed_all(7)
    there, here = torch.randn(3, device="cuda"), torch.randn(3)
    torch.cuda.manual_seed_all(7)
    assert torch.equal(there, torch.randn(3, device="cuda"))
    torch.manual_seed(1)
    torch.randn(3, device="cuda")
    assert torch.equal(here, torch.randn(3))  # what the device draws is not the CPU's
    state = torch.cuda.get_rng_state()
    dropped = F.dropout(torch.ones(64, device="cuda"))
    torch.cuda.set_rng_state(state)
    assert torch.equal(dropped, F.dropout(torch.ones(64, device="cuda")))
    generator = torch.Generator(device="cuda").manual_seed(3)
    assert (generator.device.type, isinstance(torch.default_generator, torch.Generator)) == ("cuda", True)
    drawn = torch.rand(2, device="cuda", generator=generator)
    assert torch.equal(drawn, torch.rand(2, device="cuda", generator=generator.manual_seed(3)))


def test_events_and_streams(simulation: Simulation) -> None:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    torch.ones(100, 100, device="cuda") @ torch.ones(100, 100, device="cuda")
    end.record()
    torch.cuda.synchronize()
    assert 0 < start.elapsed_time(end) < 60_000
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        made = torch.ones(1, device="cuda")
        made.record_stream(stream)
    torch.cuda.current_stream().wait_stream(stream)
    assert stream.query()
    with pytest.raises(ValueError, match="enable_timing"):
        torch.cuda.Event().elapsed_time(end)


# --- threads, processes, and the way out ------------------------------------------------------------------------------


def test_threads_see_the_devices_too(simulation: Simulation) -> None:
    with ThreadPoolExecutor(4) as pool:
        devices = list(pool.map(lambda index: str((torch.ones(3).to(f"cuda:{index % 2}") * 2).device), range(8)))
    assert devices == ["cuda:0", "cuda:1"] * 4

    seen: list[int] = []
    torch.cuda.set_device(1)
    thread = threading.Thread(target=lambda: seen.append(torch.cuda.current_device()))
    thread.start()
    thread.join()
    assert seen == [0]  # each thread has a current device of its own, as with CUDA


def test_a_forked_process_is_refused_as_cuda_refuses_it(simulation: Simulation) -> None:
    torch.ones(1, device="cuda")
    child = os.fork()
    if child == 0:
        try:
            torch.ones(1, device="cuda")
        except RuntimeError as error:
            os._exit(7 if "Cannot re-initialize CUDA in forked subprocess" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("how", ["cuda", "mps"])
def test_nothing_stays_when_it_is_left(how: str) -> None:
    before = state_of_torch()
    simulate = mock.simulate_cuda if how == "cuda" else mock.simulate_mps
    with simulate(notice=quiet):
        assert state_of_torch() != before
        kept = nn.Linear(2, 2).to(how)
        torch.set_default_device(how)
        with torch.autocast(how, dtype=torch.float16):
            kept(torch.ones(1, 2))
    assert {key for key, value in state_of_torch().items() if before.get(key) != value} == set()
    assert before.keys() == state_of_torch().keys()
    assert kept.weight.is_cpu
    assert kept(torch.ones(1, 2)).shape == (1, 2)
    assert not mock.is_simulated(how)
    with pytest.raises((RuntimeError, AssertionError)):
        torch.ones(1).to(how)


def test_nothing_stays_after_an_exception_either() -> None:
    before = state_of_torch()
    with (
        pytest.raises(ZeroDivisionError),
        mock.simulate_cuda(notice=quiet),
        torch.autocast("cuda", dtype=torch.bfloat16),
    ):
        _ = 1 / 0
    assert state_of_torch() == before


def test_one_within_another_joins_it_when_the_devices_are_the_same(simulation: Simulation) -> None:
    gpu = mock.SimulatedGPU(total_memory=1 << 30)
    with mock.simulate_cuda([gpu, gpu], notice=quiet) as inner:
        assert inner is simulation
    assert torch.ones(1).cuda().is_cuda  # the outer one goes on
    with pytest.raises(RuntimeError, match="simulated already"), mock.simulate_cuda(notice=quiet):
        pass
    with pytest.raises(RuntimeError, match="simulated already"), mock.simulate_mps(notice=quiet):
        pass
    assert active_simulation() is simulation


def test_a_mode_that_was_left_on_within_stays_on() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with mock.simulate_cuda(notice=quiet):
        counter.__enter__()
    (left,) = _get_current_dispatch_mode_stack()
    assert not isinstance(left, Operations)
    counter.__exit__(None, None, None)
    assert torch._C._len_torch_dispatch_stack() == 0


def test_a_machine_with_a_gpu_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before, said = state_of_torch(), []
    with mock.simulate_cuda(notice=said.append) as active:
        assert active is None
        assert state_of_torch() == before
        assert not mock.is_simulated()
    assert said == ["tunestack gpu.mock: this machine has a real cuda device, so nothing is simulated"]


def test_what_it_pretends_is_checked_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"total_memory = 0.*multiprocessors = 0"):
        mock.SimulatedGPU(total_memory=0, multiprocessors=0)
    with pytest.raises(ValueError, match="gpus = 0: give at least one"):
        mock.simulate_cuda(0)


SCRIPT = """
import sys, torch
model = torch.nn.Linear(4, 2).cuda()
loss = model(torch.randn(3, 4, device="cuda")).sum()
loss.backward()
print(sys.argv[1:], __name__, model.weight.grad.device, torch.cuda.device_count(), torch.cuda.get_device_capability())
"""


def test_a_script_runs_as_it_is(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(SCRIPT, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, *arguments]
        environment = os.environ | {"PYTHONPATH": str(SOURCES)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)

    assert run(str(script)).returncode == 1  # what it does without
    started = ("-m", "tunestack_train.gpu.mock")
    done = run(*started, "--gpus=2", "--no-bf16", str(script), "--epochs", "3")
    assert (done.returncode, done.stdout) == (0, "['--epochs', '3'] __main__ cuda:0 2 (7, 5)\n"), done.stderr
    assert done.stderr.count("tunestack gpu.mock: 2 cuda device(s) simulated on the CPU") == 1
    missing = run(*started, str(tmp_path / "none.py"))
    assert (missing.returncode, "there is no file" in missing.stderr) == (2, True)


# --- Apple's GPU -----------------------------------------------------------------------------------------------------


def test_mps() -> None:
    with mock.simulate_mps(mock.SimulatedGPU(total_memory=1 << 20, bf16=False), notice=quiet):
        assert torch.backends.mps.is_available()
        assert not torch.cuda.is_available()
        there = torch.ones(1 << 16, device="mps")
        assert (str(there.device), there.is_mps, there.is_cuda) == ("mps:0", True, False)
        assert torch.mps.current_allocated_memory() == 1 << 18
        assert not torch.backends.mps.is_macos_or_newer(14, 0)
        with pytest.raises(RuntimeError, match="MPS out of memory"):
            torch.ones(1 << 20, device="mps")
        with pytest.raises(TypeError, match="doesn't support float64"):
            torch.ones(1, dtype=torch.float64).to("mps")
        with torch.autocast("mps", dtype=torch.float16):
            assert nn.Linear(4, 4).to("mps")(torch.ones(1, 4, device="mps")).dtype == torch.float16
