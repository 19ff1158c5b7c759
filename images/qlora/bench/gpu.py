"""What simulating a GPU costs, and whether the GPU library counts memory as it is."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

from measures import Measure, report
from tunestack_train.gpu import get_optimal_batch_size, mock, profile_model

ROUNDS = 9


def training_step(model: nn.Module, batch: torch.Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        model(batch).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def seconds(step: Callable[[], None]) -> float:
    """Median of some steps after one that does not count."""
    step()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def overhead(make: Callable[[], nn.Module], batch: torch.Tensor) -> float:
    """Time of a training step on a simulated GPU over that on the CPU; side by side, the middle of three."""
    ratios = []
    for _ in range(3):
        plain = seconds(training_step(make(), batch))
        with mock.simulate_cuda(notice=lambda _: None):
            simulated = seconds(training_step(make().cuda(), batch.cuda()))
        ratios.append(simulated / plain)
    return statistics.median(ratios)


def transformer() -> nn.Module:
    return nn.TransformerEncoder(
        nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True), 2, enable_nested_tensor=False
    )


def perceptron() -> nn.Module:
    return nn.Sequential(*[layer for _ in range(8) for layer in (nn.Linear(32, 32), nn.ReLU())])


def peak_error() -> float:
    """Percent between the peak on the CPU and what it is known to be: 8 MiB, then 4 and 6 at once, and 1 of input."""

    def work(_: nn.Module, __: torch.Tensor) -> None:
        first = torch.empty(8 << 20, dtype=torch.uint8)
        del first
        second, third = (torch.empty(size << 20, dtype=torch.uint8) for size in (4, 6))
        del second, third

    batch = torch.zeros(1, 1 << 20, dtype=torch.uint8)
    profile = profile_model(nn.Identity(), batch, step=work, iterations=2, warmup=0)
    return abs(profile.peak_memory_bytes / (11 << 20) - 1) * 100


def search_error() -> int:
    """Samples between the batch that is found and the largest that fits, for a device with room for exactly 1000."""
    sample = 64 << 10

    def batch(count: int) -> torch.Tensor:
        return torch.zeros(count * sample, dtype=torch.uint8)

    with mock.simulate_cuda([mock.SimulatedGPU(total_memory=1000 * sample + 1024)], notice=lambda _: None):
        model = nn.Linear(1, 1).cuda()
        found = get_optimal_batch_size(model, batch, step=lambda _model, _batch: None, headroom=0.0, maximum=4096)
    return abs(found - 1000)


def main() -> None:
    if torch.cuda.is_available():
        raise SystemExit("this machine has a GPU: the mock steps aside there, and there is nothing to measure")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    transformer_ratio = overhead(transformer, torch.randn(16, 128, 256))
    perceptron_ratio = overhead(perceptron, torch.randn(8, 32))
    report(
        Measure("simulated / CPU, transformer, 16 × 128 × 256", transformer_ratio, "×", "<= 2"),
        Measure("simulated / CPU, 16 tiny layers, 8 × 32", perceptron_ratio, "×"),
        Measure("error of the peak memory on a CPU, of 11 MiB", peak_error(), "%", "<= 1"),
        Measure("samples between the batch found and the largest, of 1000", search_error(), "", "<= 0"),
    )


if __name__ == "__main__":
    main()
