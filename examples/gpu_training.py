"""Trains a classifier of small images with tunestack_train.gpu: on CUDA, MPS, a CPU, or a GPU that is not there.

    PYTHONPATH=images/qlora/src python examples/gpu_training.py
    PYTHONPATH=images/qlora/src python -m tunestack_train.gpu.mock examples/gpu_training.py

It is ordinary PyTorch: nothing else of tunestack is used. The images are noise with a brighter patch in one of four
corners, and the model learns which.
"""

import argparse

import torch
from torch import nn

from tunestack_train.gpu import GPUConfig, get_gpu_manager

SIZE = 16


def make_batch(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` images of one channel, float32 [count, 1, SIZE, SIZE], and the corner that is brighter, int64 [count]."""
    corners = torch.randint(0, 4, (count,))
    images = torch.randn(count, 1, SIZE, SIZE)
    half = SIZE // 2
    for image, corner in zip(images, corners.tolist(), strict=True):
        row, column = divmod(corner, 2)
        image[0, row * half : (row + 1) * half, column * half : (column + 1) * half] += 0.75
    return images, corners


def make_model() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(4),
        nn.Flatten(),
        nn.Linear(16 * 16, 32),
        nn.ReLU(),
        nn.Linear(32, 4),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu (default: auto)")
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps (default: 60)")
    parser.add_argument("--largest-batch", type=int, default=128, help="largest batch that is tried (default: 128)")
    options = parser.parse_args()

    torch.manual_seed(0)
    gpu = get_gpu_manager(GPUConfig(device=options.device, empty_cache_interval=50))
    print(f"device: {gpu.device} ({gpu.info.name}), mixed precision: {gpu.amp_dtype if gpu.amp_enabled else 'off'}")

    model = make_model().to(gpu.device)
    loss_of = nn.CrossEntropyLoss()

    def step(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        images, corners = batch
        loss_of(model(images), corners).backward()

    batch_size = gpu.optimal_batch_size(model, make_batch, step=step, minimum=4, maximum=options.largest_batch)
    print(f"batch size: {batch_size}")

    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scaler = gpu.grad_scaler()
    first = last = 0.0
    with gpu.memory_guard() as before:
        print(f"memory before: {before}")
        for number in range(options.steps):
            images, corners = gpu.move(make_batch(batch_size))
            with gpu.autocast():
                loss = loss_of(model(images), corners)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            gpu.step_done()
            last = loss.item()
            first = first if number else last
    print(f"loss: {first:.3f} -> {last:.3f} in {options.steps} steps")

    images, corners = gpu.move(make_batch(256))
    print(f"as trained: {gpu.profile(model, images, iterations=10, warmup=3)}")
    ready = gpu.optimize_for_inference(model, check_inputs=images)
    print(f"optimised:  {gpu.profile(ready, images, iterations=10, warmup=3)}")
    with torch.inference_mode():
        accuracy = (ready(images).argmax(1) == corners).float().mean().item()
    print(f"accuracy on 256 new images: {accuracy:.0%}")


if __name__ == "__main__":
    main()
