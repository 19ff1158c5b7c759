"""Counts what a real run keeps in memory: of a small model on the CPU, from its tensors and never from the estimate."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """The highest number of bytes alive at once in storages that operations make while this is active."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.highest = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if torch.is_tensor(tensor)}
        for tensor in tree_leaves(result):
            if torch.is_tensor(tensor) and tensor.untyped_storage()._cdata not in given:
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self.alive += size
        self.highest = max(self.highest, self.alive)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


@dataclass
class Counted:
    """Bytes. `saved`: what the forward pass keeps for the backward pass; `highest`: above what was there before it."""

    weights: int = 0
    adapter: int = 0
    optimiser: int = 0
    saved: int = 0
    highest: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)


@contextmanager
def counting(monkeypatch: Any) -> Iterator[Counted]:
    """Counts the first steps of the next run in this process: tensors saved in the first, memory in the second."""
    from tunestack_train.trainer import RunTrainer

    counted = Counted()
    original = RunTrainer.training_step
    calls = 0

    def step(trainer: Any, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *rest: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 1:
            counted.weights, counted.adapter = _weights(model)
            model.train()
            counted.saved = _saved(trainer, model, dict(inputs))
            counted.shapes = [tuple(inputs["input_ids"].shape)]
            model.zero_grad()
        elif calls == 2:
            counted.optimiser = _states(trainer.optimizer)
            with LiveBytes() as alive:
                loss = original(trainer, model, inputs, *rest)
            counted.highest = alive.highest
            return loss
        return original(trainer, model, inputs, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(RunTrainer, "training_step", step)
        yield counted


def _weights(model: torch.nn.Module) -> tuple[int, int]:
    """Bytes of the frozen weights with the constants of quantisation, and of the trained ones."""
    frozen = trained = 0
    for parameter in model.parameters():
        if parameter.requires_grad:
            trained += parameter.nbytes
            continue
        frozen += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            frozen += state.absmax.nbytes + state.code.nbytes
            if state.nested:
                frozen += state.state2.absmax.nbytes + state.state2.code.nbytes + state.offset.nbytes
    return frozen, trained


def _saved(trainer: Any, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> int:
    own = {tensor.untyped_storage()._cdata for tensor in (*model.parameters(), *model.buffers(), *inputs.values())}
    seen: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            seen[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), trainer.compute_loss_context_manager():
        trainer.compute_loss(model, inputs)
    return sum(storage.nbytes() for storage in seen.values())


def _states(optimiser: Any) -> int:
    tables = ("qmap1", "qmap2")  # one of each for all tensors
    return sum(
        value.nbytes
        for state in optimiser.state.values()
        for name, value in state.items()
        if torch.is_tensor(value) and name not in (*tables, "step")
    )


def write_texts(path: Path, count: int) -> Path:
    """Rows of plain text, each longer than what the tests cut it to."""
    import json

    rows = ({"text": " ".join(f"word{(row * 31 + word) % 97}" for word in range(400))} for row in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
