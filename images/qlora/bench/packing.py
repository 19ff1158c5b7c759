"""Packed rows against padded batches: padding, tokens a second, and that every document learns what it learns alone.

The lengths are those of many instruction sets: a few long documents among many short ones (log-normal). The models are
small and made on the spot; the loss and the gradients are compared in float32.
"""

import random
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from measures import Measure, report, say
from tunestack_train.batches import COUNTED, Collator, packed_rows
from tunestack_train.data.tokens import IGNORED
from tunestack_train.device import set_up_libraries
from tunestack_train.packing import pack

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

DOCUMENTS: Final = 4000
CAPACITY: Final = 1024
BATCH: Final = 4
VOCABULARY: Final = 2048
ROUNDS: Final = 3


def main() -> None:
    set_up_libraries()
    lengths = document_lengths()
    rows = pack(lengths, CAPACITY)
    began = time.perf_counter()
    pack(lengths * 25, CAPACITY)
    packing_seconds = time.perf_counter() - began
    padded, packed = padded_share(lengths), packed_share(lengths, rows.rows)
    say("tokens a second")
    speed = {model_type: speed_ratio(model_type, lengths) for model_type in ("gemma2", "llama")}
    say("losses and gradients")
    report(
        Measure("padding, padded batches", padded * 100, "%"),
        Measure("padding, packed", packed * 100, "%", "<= 2"),
        Measure("padding, packed / padded", packed / padded, "×", "<= 0.1"),
        Measure("packing 100,000 documents", packing_seconds, "s"),
        Measure("tokens/s, packed / padded, Llama with sdpa", speed["llama"], "×"),
        Measure("tokens/s, packed / padded, Gemma 2 with eager", speed["gemma2"], "×"),
        Measure("loss in float32, packed - alone, Gemma 2", loss_difference("gemma2"), "nats", "<= 0.00001"),
        Measure("loss in float32, packed - alone, Llama", loss_difference("llama"), "nats", "<= 0.00001"),
        Measure("gradient with other neighbours, difference", neighbour_difference("gemma2"), "", "== 0"),
    )


def document_lengths() -> list[int]:
    chance = random.Random(0)  # noqa: S311 - a sample, no secret
    return [min(CAPACITY, max(8, round(chance.lognormvariate(5.0, 0.8)))) for _ in range(DOCUMENTS)]


def padded_share(lengths: list[int]) -> float:
    """The share of padding when shuffled documents are padded to the longest of their batch."""
    order = list(lengths)
    random.Random(1).shuffle(order)  # noqa: S311
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    return 1 - sum(order) / sum(max(batch) * len(batch) for batch in batches)


def packed_share(lengths: list[int], rows: tuple[tuple[int, ...], ...]) -> float:
    loads = [sum(lengths[index] for index in row) for row in rows]
    random.Random(1).shuffle(loads)  # noqa: S311
    batches = [loads[start : start + BATCH] for start in range(0, len(loads), BATCH)]
    return 1 - sum(loads) / sum(max(batch) * len(batch) for batch in batches)


def examples(lengths: list[int], seed: int = 0) -> "Dataset":
    from datasets import Dataset

    chance = random.Random(seed)  # noqa: S311
    ids = [[chance.randrange(3, VOCABULARY) for _ in range(length)] for length in lengths]
    labels = [[IGNORED] * (len(row) // 3) + row[len(row) // 3 :] for row in ids]
    return Dataset.from_dict({"input_ids": ids, "labels": labels})


def make_model(model_type: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from tunestack_train.loss import add_loss_sums

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        model_type,
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=512,
        head_dim=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    kernel = "eager" if model_type == "gemma2" else "sdpa"
    model = AutoModelForCausalLM.from_config(config, attn_implementation=kernel)
    add_loss_sums(model)
    return model


def loss_of(model: Any, batch: dict[str, Any]) -> "torch.Tensor":
    """The sum over the learnt tokens, in nats."""
    inputs = {name: value for name, value in batch.items() if name != COUNTED}
    loss: torch.Tensor = model(**inputs, loss_sums=True, use_cache=False).loss
    return loss


def speed_ratio(model_type: str, lengths: list[int]) -> float:
    """Tokens a second of packed batches over those of padded ones; the median of rounds that take turns."""
    model = make_model(model_type)
    some = lengths[:96]
    documents = examples(some)
    rows = packed_rows(documents, pack(some, CAPACITY))
    ratios = [tokens_a_second(model, rows) / tokens_a_second(model, documents) for _ in range(ROUNDS)]
    return statistics.median(ratios)


def tokens_a_second(model: Any, rows: "Dataset") -> float:
    collate = Collator(0, flatten=False)
    tokens = 0
    began = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        batch = collate([rows[index] for index in range(start, min(start + BATCH, len(rows)))])
        tokens += int(batch[COUNTED].sum())
        loss_of(model, batch).backward()  # type: ignore[no-untyped-call]
    return tokens / (time.perf_counter() - began)


def loss_difference(model_type: str) -> float:
    """Between the mean loss of packed documents and that of each by itself, per learnt token."""
    import torch

    model = make_model(model_type)
    lengths = document_lengths()[:48]
    documents = examples(lengths)
    rows = packed_rows(documents, pack(lengths, CAPACITY))
    collate = Collator(0, flatten=False)
    with torch.no_grad():
        together = loss_of(model, collate([rows[index] for index in range(len(rows))]))
        alone = sum(loss_of(model, collate([documents[index]])).double() for index in range(len(documents)))
    learnt = sum(label != IGNORED for row in documents["labels"] for label in row)
    return float((together.double() - alone).abs() / learnt)


def neighbour_difference(model_type: str) -> float:
    """Largest change of the gradients of one document's loss, by all weights, when its neighbours are others.

    As a share of the largest gradient. The neighbours learn nothing themselves, so that what is left is the document's.
    """
    gradients = []
    for seed in (1, 2):
        model = make_model(model_type)
        lengths = [200, 300, 150, 250]
        own, others = examples([lengths[0]]), examples(lengths[1:], seed)
        columns = {name: [*own[name], *others[name]] for name in ("input_ids", "labels")}
        columns["labels"][1:] = [[IGNORED] * length for length in lengths[1:]]
        from datasets import Dataset

        rows = packed_rows(Dataset.from_dict(columns), pack(lengths, CAPACITY))
        loss_of(model, Collator(0, flatten=False)([rows[0]])).backward()  # type: ignore[no-untyped-call]
        gradients.append([parameter.grad for parameter in model.parameters()])
    largest = max(float(gradient.abs().max()) for gradient in gradients[0])
    changes = [float((one - other).abs().max()) for one, other in zip(*gradients, strict=True)]
    return max(changes) / largest


if __name__ == "__main__":
    main()
