"""Memory and time of the loss at Gemma's vocabulary: ours, from whole logits, and TRL's own chunks.

Each way runs in a process of its own, which tells the peak of its resident memory (VmHWM) over what it held before.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from measures import Measure, report, say

if TYPE_CHECKING:
    import torch

VOCABULARY, HIDDEN, TOKENS = 256_000, 256, 1024
SOFTCAP = 30.0
LEARNT_SHARE = 0.75
WAYS = ("chunked", "whole", "trl")
EXACT_VOCABULARY, EXACT_TOKENS = 256_000, 48


def main() -> None:
    told = {}
    for way in WAYS:
        say(f"{way}: loss and gradients of {TOKENS} tokens at {VOCABULARY} words, float32")
        done = subprocess.run([sys.executable, __file__, way], stdout=subprocess.PIPE, check=True)
        told[way] = json.loads(done.stdout)
    say(f"gradients against float64 on {EXACT_TOKENS} tokens")
    peak = {way: told[way]["peak"] / 1e6 for way in WAYS}
    seconds = {way: told[way]["seconds"] for way in WAYS}
    report(
        Measure("memory of the loss, chunked", peak["chunked"], "MB"),
        Measure("memory of the loss, whole logits", peak["whole"], "MB"),
        Measure("memory of the loss, TRL's chunks", peak["trl"], "MB"),
        Measure("chunked / whole, memory", peak["chunked"] / peak["whole"], "×", "<= 0.1"),
        Measure("chunked / TRL's, memory", peak["chunked"] / peak["trl"], "×"),
        Measure("chunked / whole, time", seconds["chunked"] / seconds["whole"], "×"),
        Measure("chunked / TRL's, time", seconds["chunked"] / seconds["trl"], "×"),
        Measure("loss, difference to whole logits", difference(told, "loss"), "", "<= 0.000001"),
        Measure("gradient, difference to whole logits", difference(told, "gradient"), "", "<= 0.00001"),
        Measure("gradient in float64, difference to whole logits", exact_difference(), "", "<= 0.000000000001"),
    )


def difference(told: dict[str, dict[str, list[float]]], what: str) -> float:
    """Largest difference, as a share of the largest value."""
    ours, theirs = told["chunked"][what], told["whole"][what]
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) / max(abs(b) for b in theirs)


def exact_difference() -> float:
    import torch

    losses = ways()
    gradients = []
    for way in ("chunked", "whole"):
        hidden, weight, labels = inputs(EXACT_VOCABULARY, EXACT_TOKENS, torch.float64)
        weight.requires_grad_()
        losses[way](hidden, weight, labels).backward()
        gradients.append((hidden.grad, weight.grad))
    shares = [
        ((ours - theirs).abs().max() / theirs.abs().max()).item() for ours, theirs in zip(*gradients, strict=True)
    ]
    return float(max(shares))


def inputs(vocabulary: int, tokens: int, dtype: "torch.dtype") -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Hidden states, the output layer's weight (frozen, as in LoRA), labels: the last share of them learnt."""
    import torch

    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, HIDDEN, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(vocabulary, HIDDEN, generator=generator, dtype=dtype) * 0.2
    labels = torch.randint(vocabulary, (tokens,), generator=generator)
    labels[: int(tokens * (1 - LEARNT_SHARE))] = -100
    return hidden, weight, labels


def ways() -> dict[str, Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]]:
    import torch
    from trl.kernels import ChunkedLogProbFunction

    from tunestack_train.loss import linear_cross_entropy

    def chunked(hidden: "torch.Tensor", weight: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        return linear_cross_entropy(hidden, weight, labels, softcap=SOFTCAP).loss

    def whole(hidden: "torch.Tensor", weight: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        # As Gemma2ForCausalLM and ForCausalLMLoss of transformers do it.
        logits = hidden @ weight.T
        logits = logits / SOFTCAP
        logits = torch.tanh(logits)
        logits = logits * SOFTCAP
        exact = logits if logits.dtype == torch.float64 else logits.float()
        return torch.nn.functional.cross_entropy(exact, labels, reduction="sum")

    def trl(hidden: "torch.Tensor", weight: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        names = ("log_probs", "entropy", "is_top1")
        mask = labels != -100
        outputs = ChunkedLogProbFunction.apply(  # type: ignore[no-untyped-call]
            hidden, weight, None, labels.clamp(min=0), 1.0, 32768, SOFTCAP, 1.0, names
        )
        log_probabilities: torch.Tensor = outputs[0]
        return -log_probabilities.masked_fill(~mask, 0).sum()

    return {"chunked": chunked, "whole": whole, "trl": trl}


def run_way(way: str) -> None:
    import torch

    loss = ways()[way]
    # What is loaded once, such as the library of the matrix product, is no part of the loss.
    small = inputs(64, 8, torch.float32)
    loss(*small).backward()
    hidden, weight, labels = inputs(VOCABULARY, TOKENS, torch.float32)
    before = resident("VmRSS")
    # Linux: the peak is counted anew from here.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    began = time.perf_counter()
    value = loss(hidden, weight, labels)
    value.backward()
    seconds = time.perf_counter() - began
    peak = resident("VmHWM") - before
    assert hidden.grad is not None
    gradient = hidden.grad.flatten()[:: max(1, hidden.grad.numel() // 4096)]
    print(json.dumps({"peak": peak, "seconds": seconds, "loss": [value.item()], "gradient": gradient.tolist()}))


def resident(field: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since the last reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_way(sys.argv[1])
    else:
        main()
