"""Packed rows: nothing lost, nothing twice, little padding; and no document feels its neighbours."""

from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from test_loss import tiny
from tunestack_train.batches import COUNTED, Collator, packed_rows
from tunestack_train.data.tokens import IGNORED
from tunestack_train.loss import add_loss_sums
from tunestack_train.packing import pack

LENGTHS = st.lists(st.integers(1, 64), max_size=200)


@given(lengths=LENGTHS, capacity=st.integers(64, 300))
def test_every_example_is_in_one_row_and_no_row_is_too_long(lengths: list[int], capacity: int) -> None:
    packing = pack(lengths, capacity)
    assert sorted(index for row in packing.rows for index in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[index] for index in row) <= capacity for row in packing.rows)
    assert all(list(row) == sorted(row) for row in packing.rows)
    assert packing.tokens == sum(lengths)


@given(lengths=LENGTHS, capacity=st.integers(64, 300))
def test_rows_are_few(lengths: list[int], capacity: int) -> None:
    """Best fit decreasing needs at most 11/9 of the fewest rows possible and 4 (Johnson, 1973)."""
    packing = pack(lengths, capacity)
    fewest = -(-sum(lengths) // capacity)
    assert len(packing.rows) <= 11 / 9 * fewest * (1 + max(lengths, default=0) / capacity) + 4
    # No row could have taken what opened a later one.
    loads = [sum(lengths[index] for index in row) for row in packing.rows]
    assert sum(2 * load <= capacity for load in loads) <= 1


def test_the_best_fit_is_taken() -> None:
    assert pack([6, 5, 4, 3, 2], 10).rows == ((0, 2), (1, 3, 4))
    assert pack([7, 6, 3, 4], 10).rows == ((0, 2), (1, 3))
    assert pack([5, 5, 5], 10).rows == ((0, 1), (2,))
    assert pack([], 10).padding == 0
    assert pack([10, 5], 10).padding == pytest.approx(0.25)


def test_what_fits_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="11 tokens does not fit into a row of 10"):
        pack([3, 11], 10)


DOCUMENTS = [[5, 6, 7, 8, 9], [10, 11, 12], [13, 14, 15, 16], [17, 18], [19, 20, 21, 22, 23, 24], [25, 26, 27]]


def examples(documents: list[list[int]]) -> Dataset:
    labels = [[IGNORED if index == 1 else token for index, token in enumerate(document)] for document in documents]
    return Dataset.from_dict({"input_ids": documents, "labels": labels})


def batch(documents: list[list[int]], capacity: int, *, flatten: bool = False) -> dict[str, Any]:
    rows = packed_rows(examples(documents), pack([len(document) for document in documents], capacity))
    return Collator(0, flatten=flatten)([rows[index] for index in range(len(rows))])


def test_a_packed_batch_says_where_documents_begin_and_learns_no_first_token() -> None:
    made = batch([[5, 6, 7], [8, 9, 10, 11]], 8)
    assert made["input_ids"].tolist() == [[5, 6, 7, 8, 9, 10, 11]]
    assert made["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2, 3]]
    assert made["labels"].tolist() == [[IGNORED, IGNORED, 7, IGNORED, IGNORED, 10, 11]]
    assert made[COUNTED].tolist() == [7]
    assert "attention_mask" not in made
    two_rows = batch([[5, 6, 7], [8, 9, 10, 11]], 4)
    assert two_rows["input_ids"].tolist() == [[8, 9, 10, 11], [5, 6, 7, 0]]
    assert two_rows["position_ids"].tolist() == [[0, 1, 2, 3], [0, 1, 2, 0]]
    assert two_rows["labels"].tolist() == [[IGNORED, IGNORED, 10, 11], [IGNORED, IGNORED, 7, IGNORED]]


def test_flash_attention_gets_one_row_and_the_bounds() -> None:
    made = batch([[5, 6, 7], [8, 9, 10, 11]], 4, flatten=True)
    assert made["input_ids"].tolist() == [[8, 9, 10, 11, 5, 6, 7]]
    assert made["cu_seq_lens_q"].tolist() == made["cu_seq_lens_k"].tolist() == [0, 4, 7]
    assert made["cu_seq_lens_q"].dtype == torch.int32
    assert (made["max_length_q"], made["max_length_k"]) == (4, 4)


def test_an_unpacked_batch_is_padded_and_masked() -> None:
    rows = examples([[5, 6, 7], [8, 9, 10, 11]])
    made = Collator(0, flatten=False)([rows[0], rows[1]])
    assert made["input_ids"].tolist() == [[5, 6, 7, 0], [8, 9, 10, 11]]
    assert made["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert made["labels"].tolist() == [[IGNORED, IGNORED, 7, IGNORED], [IGNORED, IGNORED, 10, 11]]
    assert made[COUNTED].tolist() == [3, 4]


def learner(model_type: str, attention: str) -> Any:
    # A window shorter than a row: it must be counted from the document's own beginning.
    window = {"sliding_window": 4} if model_type != "llama" else {}
    model = tiny(model_type, attn_implementation=attention, **window)
    assert add_loss_sums(model)
    return model


def loss_of(model: Any, made: dict[str, Any]) -> torch.Tensor:
    inputs = {name: value for name, value in made.items() if name != COUNTED}
    sums = model(**inputs, loss_sums=True, use_cache=False)
    loss: torch.Tensor = sums.loss
    return loss


@pytest.mark.parametrize(("model_type", "attention"), [("gemma2", "eager"), ("llama", "eager"), ("llama", "sdpa")])
@pytest.mark.parametrize("capacity", [6, 11, 64])
def test_packed_documents_learn_what_they_learn_alone(model_type: str, attention: str, capacity: int) -> None:
    packed = learner(model_type, attention)
    loss = loss_of(packed, batch(DOCUMENTS, capacity))
    loss.backward()
    alone = learner(model_type, attention)
    total = 0.0
    for document in DOCUMENTS:
        one = loss_of(alone, Collator(0, flatten=False)([examples([document])[0]]))
        one.backward()
        total += one.item()
    assert loss.item() == pytest.approx(total, abs=1e-4)
    for (name, ours), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5), name


@pytest.mark.parametrize("capacity", [11, 64])
def test_a_neighbour_changes_no_gradient(capacity: int) -> None:
    """Of what a document's own tokens give: the gradients by its embeddings."""
    model = learner("gemma2", "eager")

    def gradients(documents: list[list[int]]) -> torch.Tensor:
        made = batch(documents, capacity)
        embedded = model.get_input_embeddings()(made["input_ids"]).detach().requires_grad_()
        labels = made["labels"]
        model(
            inputs_embeds=embedded, position_ids=made["position_ids"], labels=labels, loss_sums=True, use_cache=False
        ).loss.backward()
        assert embedded.grad is not None
        return embedded.grad[torch.isin(made["input_ids"], torch.tensor(DOCUMENTS[0]))]

    others = [[30 + token for token in document] for document in DOCUMENTS[1:]]
    before, after = gradients(DOCUMENTS), gradients([DOCUMENTS[0], *others])
    assert before.abs().sum() > 0
    assert torch.allclose(before, after, rtol=0, atol=1e-7)
