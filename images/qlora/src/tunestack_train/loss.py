"""Cross-entropy of next tokens straight from hidden states: the logits are never in memory as a whole.

With Gemma's 256,000-word vocabulary the logits of 8,192 tokens, with their float32 copy and their gradient, take more
than 20 GB. Here a chunk of tokens at a time is projected, its loss and the gradient by its hidden states are taken, and
its logits are gone. That needs two products with the output layer, where computing the logits again for the backward
pass needs three; and tokens that nothing is learnt of need none.

Importing this imports torch.
"""

import functools
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from tunestack_train import loss_chunks
from tunestack_train.data.tokens import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBE_TOKENS: Final = 16
# As a share of the largest logit. Rounding to bf16 stays below it; a factor or a cap that is missed does not.
_PROBE_TOLERANCE: Final = 0.02


class LossSums(NamedTuple):
    """What one forward pass gives: scalar tensors, each a scalar tensor, summed over the tokens that are learnt.

    `loss` in nats carries the gradient; `entropy` in nats is that of the predicted distributions; `correct` counts the
    tokens that were the likeliest; `tokens` counts the tokens.
    """

    loss: torch.Tensor
    entropy: torch.Tensor
    correct: torch.Tensor
    tokens: torch.Tensor


def linear_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    labels: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_tokens: int | None = None,
) -> LossSums:
    """Sums over the cross-entropy of `softcap * tanh(scale * (hidden @ weight.T + bias) / softcap)` against labels.

    `hidden`: [..., H]; `weight`: [V, H]; `bias`: [V]; `labels`: [...] with the token that each state should predict, or
    IGNORED. Under autocast the products are taken in its dtype, all else in float32 (float64 where hidden is).
    `chunk_tokens`: tokens projected at a time, by default as many as fill a fixed share of memory.
    """
    flat = hidden.reshape(-1, hidden.shape[-1])
    targets = labels.reshape(-1).to(flat.device)
    learnt = (targets != IGNORED).nonzero().squeeze(1)
    loss, entropy, correct = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        flat.index_select(0, learnt),
        weight,
        bias,
        targets.index_select(0, learnt),
        _Projection(softcap, scale, chunk_tokens or loss_chunks.chunk_tokens(flat.device.type, weight.shape[0])),
    )
    return LossSums(loss, entropy, correct, torch.tensor(learnt.numel(), device=flat.device))


@dataclass(frozen=True)
class _Projection:
    """How logits come of the output layer's product, and how many tokens are projected at a time."""

    softcap: float | None
    scale: float
    chunk_tokens: int


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradients are computed with the loss, for an incoming gradient of 1, and scaled by what really comes in."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        projection: _Projection,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        exact = torch.float64 if hidden.dtype == torch.float64 else torch.float32
        sums = hidden.new_zeros(3, dtype=exact)
        want_hidden, want_weight, want_bias = ctx.needs_input_grad[:3]
        hidden_gradient = torch.empty_like(hidden) if want_hidden else None
        weight_gradient = torch.zeros_like(weight, dtype=exact) if want_weight else None
        bias_gradient = torch.zeros_like(bias, dtype=exact) if bias is not None and want_bias else None
        for start in range(0, len(hidden), projection.chunk_tokens):
            chunk = slice(start, start + projection.chunk_tokens)
            # Through autocast, as the model's own output layer goes.
            product = torch.nn.functional.linear(hidden[chunk], weight, bias)
            dtype, logits = product.dtype, product.to(exact)
            del product  # where it is another one than `logits`, it is not needed any more
            probabilities = _add_chunk(logits, targets[chunk], projection, sums)
            if not (want_hidden or want_weight or want_bias):
                continue
            by_logits = _by_logits(probabilities, logits, targets[chunk], projection)
            if bias_gradient is not None:
                bias_gradient += by_logits.sum(0)
            by_product = by_logits.to(dtype)
            if hidden_gradient is not None:
                hidden_gradient[chunk] = by_product @ weight.to(dtype)
            if weight_gradient is not None:
                weight_gradient += by_product.T @ hidden[chunk].to(dtype)
        ctx.save_for_backward(hidden_gradient, weight_gradient, bias_gradient)
        ctx.dtypes = (hidden.dtype, weight.dtype, bias.dtype if bias is not None else None)
        loss, entropy, correct = sums.unbind()
        # Copies: what stands in one memory cannot be differentiable in part.
        loss, entropy, correct = loss.clone(), entropy.clone(), correct.clone()
        ctx.mark_non_differentiable(entropy, correct)
        return loss, entropy, correct

    @staticmethod
    def backward(ctx: Any, *incoming: torch.Tensor) -> Any:
        gradients = [
            None if kept is None else (kept * incoming[0]).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*gradients, None, None)


def _add_chunk(logits: torch.Tensor, target: torch.Tensor, projection: _Projection, sums: torch.Tensor) -> torch.Tensor:
    """Adds loss, entropy and correct predictions of a chunk to the sums; caps `logits` in place.

    Returns the probabilities, [chunk, V].
    """
    softcap = projection.softcap
    if projection.scale != 1.0:
        logits.mul_(projection.scale)
    if softcap is not None:
        logits.div_(softcap).tanh_().mul_(softcap)
    log_total = torch.logsumexp(logits, dim=-1)
    sums[0] += (log_total - logits.gather(1, target.unsqueeze(1)).squeeze(1)).sum()
    sums[2] += (logits.argmax(dim=-1) == target).sum()
    probabilities = (logits - log_total.unsqueeze(1)).exp_()
    # Row by row, so that no third copy of the chunk is needed.
    expected = torch.bmm(probabilities.unsqueeze(1), logits.unsqueeze(2)).flatten()
    sums[1] += (log_total - expected).sum()
    return probabilities


def _by_logits(
    probabilities: torch.Tensor, logits: torch.Tensor, target: torch.Tensor, projection: _Projection
) -> torch.Tensor:
    """The loss's derivative by what the output layer gave, in the memory of `probabilities`; `logits` is used up."""
    rows = torch.arange(len(target), device=target.device)
    probabilities[rows, target] -= 1
    if projection.softcap is not None:
        # The derivative of softcap * tanh(x / softcap) is 1 - (its value / softcap)².
        probabilities.mul_(logits.div_(projection.softcap).square_().neg_().add_(1))
    return probabilities.mul_(projection.scale) if projection.scale != 1.0 else probabilities


def cross_entropy_of_logits(logits: torch.Tensor, labels: torch.Tensor) -> LossSums:
    """The same sums out of whole logits, [..., V], for models that do more to them than this module knows."""
    flat = logits.reshape(-1, logits.shape[-1])
    targets = labels.reshape(-1).to(flat.device)
    learnt = (targets != IGNORED).nonzero().squeeze(1)
    scores = torch.log_softmax(flat.index_select(0, learnt).float(), dim=-1)
    target = targets.index_select(0, learnt)
    with torch.no_grad():
        entropy = -(scores.exp() * scores).sum()
        correct = (scores.argmax(dim=-1) == target).sum().to(scores.dtype)
    loss = torch.nn.functional.nll_loss(scores, target, reduction="sum")
    return LossSums(loss, entropy, correct, torch.tensor(learnt.numel(), device=flat.device))


def add_loss_sums(model: "PreTrainedModel") -> bool:
    """Lets `model(..., labels=labels, loss_sums=True)` return LossSums; any other call is as before.

    Labels are those of the Trainer: a token's own id where it is to be learnt, so position i predicts labels[i + 1].
    Call before the model is wrapped for several GPUs: their hooks then see the whole forward pass.

    Returns whether the logits stay in chunks. A few tokens are tried both ways first: a model that does more to its
    logits than this module knows, or whose output layer has an adapter, gets its loss from whole logits.
    """
    softcap, scale = _logit_shape(model)
    whole_forward = model.forward

    def in_chunks(*args: Any, labels: torch.Tensor, **kwargs: Any) -> LossSums:
        hidden = model.base_model(*args, **kwargs).last_hidden_state
        # Looked up at each call: FSDP replaces it.
        head = model.get_output_embeddings()
        return linear_cross_entropy(
            hidden[:, :-1], head.weight, labels[:, 1:], bias=head.bias, softcap=softcap, scale=scale
        )

    def whole(*args: Any, labels: torch.Tensor, **kwargs: Any) -> LossSums:
        return cross_entropy_of_logits(whole_forward(*args, **kwargs).logits[:, :-1], labels[:, 1:])

    chunked = _knows_logits(model, softcap, scale)
    sums = in_chunks if chunked else whole

    # The signature stays: peft and generate() look at it.
    @functools.wraps(type(model).forward)
    def forward(_self: "PreTrainedModel", *args: Any, loss_sums: bool = False, **kwargs: Any) -> Any:
        return sums(*args, **kwargs) if loss_sums else whole_forward(*args, **kwargs)

    model.forward = types.MethodType(forward, model)
    return chunked


def _knows_logits(model: "PreTrainedModel", softcap: float | None, scale: float) -> bool:
    """Whether a few tokens' logits, as the loss in chunks takes them, are those that the model itself gives."""
    head = model.get_output_embeddings()
    if not isinstance(head, torch.nn.Linear):
        return False  # an adapter, or an output layer of the model's own making
    device = head.weight.device
    ids = (torch.arange(1, 1 + _PROBE_TOKENS, device=device) % model.config.get_text_config().vocab_size).unsqueeze(0)
    outputs: list[torch.Tensor] = []
    for part in (model.base_model, model):
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(0)  # dropout
            output = part(input_ids=ids, use_cache=False)
        outputs.append(output.last_hidden_state if part is model.base_model else output.logits.float())
    hidden, theirs = outputs
    logits = torch.nn.functional.linear(hidden, head.weight, head.bias).float() * scale
    ours = logits if softcap is None else softcap * torch.tanh(logits / softcap)
    return bool((ours - theirs).abs().max() <= _PROBE_TOLERANCE * theirs.abs().max())


def _logit_shape(model: "PreTrainedModel") -> tuple[float | None, float]:
    """The cap on the logits and the factor before it, by the names in transformers 5.23.

    Gemma 2 and 3 cap, Cohere and Falcon-H1 multiply, Granite divides.
    """
    config = model.config.get_text_config()
    factors = [getattr(config, name, None) for name in ("logit_scale", "lm_head_multiplier")]
    divisor = getattr(config, "logits_scaling", None)
    if divisor is not None:
        factors.append(1 / divisor)
    cap = getattr(config, "final_logit_softcapping", None)
    return cap, float(next((factor for factor in factors if factor is not None), 1.0))
