"""The loss in chunks is that of whole logits: value, gradients, counts; whatever the model does to its logits."""

from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tunestack_train.data.tokens import IGNORED
from tunestack_train.loss import LossSums, add_loss_sums, cross_entropy_of_logits, linear_cross_entropy

VOCABULARY, HIDDEN = 97, 16


def whole_logits(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, softcap: float | None, scale: float
) -> torch.Tensor:
    logits = torch.nn.functional.linear(hidden, weight, bias) * scale
    return logits if softcap is None else softcap * torch.tanh(logits / softcap)


def case(tokens: int, dtype: torch.dtype = torch.float64, share: float = 0.6) -> Any:
    generator = torch.Generator().manual_seed(tokens)
    hidden = torch.randn(tokens, HIDDEN, generator=generator, dtype=dtype).requires_grad_()
    weight = torch.randn(VOCABULARY, HIDDEN, generator=generator, dtype=dtype).requires_grad_()
    bias = torch.randn(VOCABULARY, generator=generator, dtype=dtype).requires_grad_()
    labels = torch.randint(VOCABULARY, (tokens,), generator=generator)
    labels[torch.rand(tokens, generator=generator) > share] = IGNORED
    return hidden, weight, bias, labels


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 40),
    chunk_tokens=st.integers(1, 45),
    softcap=st.sampled_from([None, 30.0, 2.0]),
    scale=st.sampled_from([1.0, 0.25, 3.0]),
    with_bias=st.booleans(),
    incoming=st.sampled_from([1.0, 0.125, -3.0]),
)
@example(tokens=10, chunk_tokens=1, softcap=2.0, scale=3.0, with_bias=False, incoming=1.0)  # words tie in float32
def test_loss_and_gradients_are_those_of_whole_logits(
    tokens: int, chunk_tokens: int, softcap: float | None, scale: float, with_bias: bool, incoming: float
) -> None:
    hidden, weight, bias, labels = case(tokens)
    used_bias = bias if with_bias else None
    sums = linear_cross_entropy(
        hidden, weight, labels, bias=used_bias, softcap=softcap, scale=scale, chunk_tokens=chunk_tokens
    )
    (sums.loss * incoming).backward()
    given_gradients = [tensor.grad for tensor in (hidden, weight, bias)]
    hidden, weight, bias, labels = case(tokens)
    logits = whole_logits(hidden, weight, bias if with_bias else None, softcap, scale)
    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum", ignore_index=IGNORED)
    (loss * incoming).backward()
    assert torch.allclose(sums.loss, loss, rtol=1e-12, atol=1e-12)
    for ours, theirs in zip(given_gradients, (hidden, weight, bias), strict=True):
        expected = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad
        assert torch.allclose(torch.zeros_like(expected) if ours is None else ours, expected, rtol=1e-10, atol=1e-12)
    same(sums, cross_entropy_of_logits(logits, labels), ties=several_likeliest(logits.detach(), labels))


def several_likeliest(logits: torch.Tensor, labels: torch.Tensor) -> int:
    """Learnt tokens for which float32 cannot tell the likeliest word from the next: a small cap brings that about."""
    first, second = logits[labels != IGNORED].float().topk(2).values.unbind(-1)
    return int((first == second).sum())


def same(sums: LossSums, others: LossSums, ties: int = 0) -> None:
    assert sums.tokens == others.tokens
    assert abs(sums.correct - others.correct) <= ties
    assert torch.allclose(sums.loss.float(), others.loss.float(), rtol=1e-5)
    assert torch.allclose(sums.entropy.float(), others.entropy.float(), rtol=1e-5, atol=1e-4)


def test_nothing_to_learn_gives_nothing_and_no_gradient() -> None:
    hidden, weight, bias, labels = case(7)
    sums = linear_cross_entropy(hidden, weight, torch.full_like(labels, IGNORED), bias=bias)
    sums.loss.backward()
    assert (sums.loss.item(), sums.tokens.item(), sums.correct.item()) == (0, 0, 0)
    for tensor in (hidden, weight, bias):
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_a_chunk_in_which_all_is_ignored_changes_nothing() -> None:
    hidden, weight, _, labels = case(12, share=1.0)
    labels[4:8] = IGNORED
    whole = linear_cross_entropy(hidden, weight, labels, chunk_tokens=12).loss
    assert torch.allclose(linear_cross_entropy(hidden, weight, labels, chunk_tokens=4).loss, whole, rtol=1e-12)


def test_a_frozen_output_layer_gets_no_gradient() -> None:
    hidden, weight, _, labels = case(9)
    linear_cross_entropy(hidden, weight.detach(), labels, chunk_tokens=4).loss.backward()
    assert hidden.grad.abs().sum() > 0
    assert weight.grad is None


def test_under_autocast_it_rounds_as_whole_logits_do() -> None:
    """Against float64, neither way is further off than the number format."""
    hidden, weight, _, labels = case(64, torch.float32, share=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        linear_cross_entropy(hidden, weight.detach(), labels, softcap=30.0, chunk_tokens=16).loss.backward()
    ours = hidden.grad.clone()
    hidden.grad = None
    with torch.autocast("cpu", torch.bfloat16):
        logits = whole_logits(hidden, weight.detach(), None, 30.0, 1.0)
        torch.nn.functional.cross_entropy(logits.float(), labels, reduction="sum").backward()
    theirs = hidden.grad.clone()
    exact = hidden.detach().double().requires_grad_()
    logits = whole_logits(exact, weight.detach().double(), None, 30.0, 1.0)
    torch.nn.functional.cross_entropy(logits, labels, reduction="sum").backward()
    assert exact.grad is not None
    off = [(gradient - exact.grad).abs().max().item() for gradient in (ours, theirs)]
    assert off[0] <= 1.5 * off[1]
    assert ours.dtype == torch.float32


def tiny(model_type: str, **changes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "head_dim": 8}
    layers = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "attn_implementation": "eager",
    }
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    merged: dict[str, Any] = {**sizes, **layers, **tokens, **changes}
    attention = merged.pop("attn_implementation")
    config = AutoConfig.for_model(model_type, **merged)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention)


MODELS: dict[str, dict[str, Any]] = {
    "gemma2": {"final_logit_softcapping": 0.5},
    "gemma": {},
    "llama": {"tie_word_embeddings": False},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
}


@pytest.mark.parametrize("model_type", MODELS)
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient checkpointing"])
def test_models_learn_the_same_with_tied_and_untied_embeddings(model_type: str, checkpointing: bool) -> None:
    ids = torch.randint(3, VOCABULARY, (2, 12), generator=torch.Generator().manual_seed(1))
    labels = ids.clone()
    labels[0, :5] = IGNORED
    plain = tiny(model_type, **MODELS[model_type])
    logits = plain(input_ids=ids, use_cache=False).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum")
    loss.backward()
    model = tiny(model_type, **MODELS[model_type])
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.train()
    assert add_loss_sums(model)
    sums = model(input_ids=ids, labels=labels, loss_sums=True, use_cache=False)
    sums.loss.backward()
    assert sums.loss.item() == pytest.approx(loss.item(), rel=1e-6)
    assert sums.tokens.item() == (labels[:, 1:] != IGNORED).sum()
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6), name
    assert model(input_ids=ids).logits.shape == (2, 12, VOCABULARY)


def test_a_model_that_does_more_to_its_logits_gets_its_loss_from_whole_logits() -> None:
    model = tiny("llama")
    forward = model.forward

    def shifted(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits = output.logits * 1.5
        return output

    model.forward = shifted
    assert not add_loss_sums(model)
    ids = torch.arange(3, 15).unsqueeze(0)
    same(
        model(input_ids=ids, labels=ids, loss_sums=True), cross_entropy_of_logits(model(ids).logits[:, :-1], ids[:, 1:])
    )


def test_an_adapter_on_the_output_layer_is_trained() -> None:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["lm_head", "q_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(tiny("llama", tie_word_embeddings=False), config)
    assert not add_loss_sums(model.get_base_model())
    ids = torch.arange(3, 15).unsqueeze(0)
    model(input_ids=ids, labels=ids, loss_sums=True).loss.backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert any("lm_head" in name and gradient.abs().sum() > 0 for name, gradient in gradients.items())


def test_trying_a_model_leaves_the_random_state_alone() -> None:
    model = tiny("gemma2")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    add_loss_sums(model)
    assert torch.equal(torch.rand(3), expected)
