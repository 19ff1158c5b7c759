"""How far a model's next-token distributions are from another's, on prompts that never change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PROMPTS: Final = (
    "What is the difference between a list and a tuple in Python?",
    "Write a short poem about the first snow of the year.",
    "Explain to a ten-year-old why the sky is blue.",
    "Translate into German: The train to Hamburg leaves at half past nine.",
    "How do I undo my last commit in git without losing the changes?",
    "Summarise the plot of Romeo and Juliet in two sentences.",
    "A shirt costs 40 euros and is reduced by 15 percent. What does it cost now?",
    "List five things to check before a long bicycle tour.",
    "def quicksort(items):",
    "SELECT name, COUNT(*) FROM orders",
    "Which planets of the solar system have rings?",
    "Rewrite more politely: Send me the report now.",
    "What happens in the body during sleep?",
    "Name three advantages and one drawback of electric cars.",
    "¿Cuál es la capital de Australia, y por qué no es Sídney?",
    "My model runs out of memory during fine-tuning. What can I do?",
)
"""Questions of many kinds, and texts to go on with. A change of them makes earlier figures incomparable."""

POSITIONS: Final = 16
"""Tokens at the end of each prompt, its chat template included, after which the distributions are compared."""


@dataclass(frozen=True)
class Drift:
    """Mean Kullback-Leibler divergence in nats, and the share of positions with the same likeliest token."""

    kl: float
    top1: float


def encode_prompts(tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of each prompt as a user's turn, up to where the answer begins."""
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        for prompt in PROMPTS
    ]
    return [list(tokenizer(str(text), add_special_tokens=False)["input_ids"]) for text in texts]


def distributions(model: "PreTrainedModel | PeftModel", prompts: Sequence[Sequence[int]]) -> "torch.Tensor":
    """Log-probabilities of the next token, shape [prompts * POSITIONS, vocabulary], float32, on the CPU."""
    import torch

    model.eval()
    rows: list[torch.Tensor] = []
    with torch.no_grad():
        for prompt in prompts:
            logits = model(torch.tensor([prompt], device=model.device), use_cache=False).logits
            rows.append(logits[0, -POSITIONS:].float().log_softmax(-1).cpu())
    return torch.cat(rows)


def compare(reference: "torch.Tensor", other: "torch.Tensor") -> Drift:
    """The drift of `other` from `reference`, both as `distributions` gives them.

    A token that one of them takes for impossible, or a figure that is no number, makes the divergence infinite.
    """
    import torch

    total = 0.0
    # Row by row: the vocabularies are large, and the terms need memory of their own.
    for expected, actual in zip(reference, other, strict=True):
        total += float(torch.sum(expected.exp() * (expected - actual)))
    kl = total / len(reference)
    top1 = float((reference.argmax(-1) == other.argmax(-1)).float().mean())
    return Drift(kl if kl == kl else float("inf"), top1)  # noqa: PLR0124 - not a number
