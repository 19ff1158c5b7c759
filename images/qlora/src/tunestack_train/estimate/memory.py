"""Bytes that a QLoRA step takes, part by part.

The parts are what transformers, peft, bitsandbytes and TRL keep, in the versions of the lock file: read in their
source, and compared in the tests with what real models keep: weights, adapter, optimiser, tensors saved for the
backward pass, and the highest number of bytes alive in a step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from tunestack_train.estimate.architecture import Architecture, Linear
from tunestack_train.loss_chunks import chunk_tokens
from tunestack_train.settings import RunConfig
from tunestack_train.sharding import FSDP

_FLOAT32: Final = 4
# bitsandbytes 0.50: a constant for each 64 weights; doubly quantised, a byte for each and a float32 for 256 of them.
_BLOCK: Final = 64
_NESTED_BLOCK: Final = 256
_TABLES: Final = (16 + 256) * _FLOAT32 + _FLOAT32
# Its 8-bit optimisers: a float32 for 256 values of each state; tensors of fewer than 4096 stay in 32 bits.
_OPTIMISER_BLOCK: Final = 256
_SMALLEST_IN_8_BIT: Final = 4096
# Modules that are given the same tensor, by a name for it.
_SAME_INPUT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj"), "attention"),
    **dict.fromkeys(("gate_proj", "up_proj"), "mlp"),
}
_GIB: Final = 1 << 30


@dataclass(frozen=True)
class Part:
    """`certain`: counted from shapes. What is not is an assumption, which only the device can tell."""

    name: str
    size: int
    detail: str
    certain: bool = True


@dataclass(frozen=True)
class Workload:
    """What the memory of a step depends on. `kind` is PyTorch's name of the device's type."""

    architecture: Architecture
    config: RunConfig
    attention: str
    kind: str
    processes: int = 1

    @property
    def sharers(self) -> int:
        """Processes that each keep a part of the decoder layers' matrices; 1 where each keeps them all."""
        return self.processes if self.config.distributed == FSDP else 1

    @property
    def width(self) -> int:
        """Bytes of a number in the computation's format."""
        return 4 if self.config.precision == "float32" else 2

    @property
    def tokens(self) -> int:
        """Of one forward pass, every sequence being as long as allowed."""
        return self.config.per_device_train_batch_size * self.config.max_length

    @property
    def adapted(self) -> tuple[Linear, ...]:
        wanted = self.config.lora_target_modules
        chosen = wanted.split(",")
        return tuple(item for item in self.architecture.linears if wanted == "all-linear" or item.name in chosen)

    @property
    def adapter_tensors(self) -> tuple[int, ...]:
        """Numbers in each tensor of the adapter of one layer."""
        rank = self.config.lora_r
        return tuple(rank * size for item in self.adapted for size in (item.inputs, item.outputs))


def parts(work: Workload) -> tuple[Part, ...]:
    """Everything that is in memory at the highest point of a step."""
    return (*_kept(work), *_passing(work), *_around(work))


def weights(work: Workload) -> int:
    """Bytes of the base model: linear layers in 4 bits with their constants, everything else as it is computed in."""
    shape, config = work.architecture, work.config
    if not config.load_in_4bit:
        return shape.parameters * work.width
    return shape.layers * sum(_in_4_bit(item, config) for item in shape.linears) + shape.other_weights * work.width


def _in_4_bit(item: Linear, config: RunConfig) -> int:
    blocks = ceil(item.weights / _BLOCK)
    if not config.bnb_4bit_use_double_quant:
        return ceil(item.weights / 2) + blocks * _FLOAT32 + 16 * _FLOAT32
    return ceil(item.weights / 2) + blocks + ceil(blocks / _NESTED_BLOCK) * _FLOAT32 + _TABLES


def _matrix(item: Linear, work: Workload) -> int:
    """Bytes of a weight matrix without its constants: what can be shared out."""
    return ceil(item.weights / 2) if work.config.load_in_4bit else item.weights * work.width


def adapter(work: Workload) -> int:
    """Bytes of the adapter's weights, which are trained in float32."""
    return work.architecture.layers * sum(work.adapter_tensors) * _FLOAT32


def optimiser(work: Workload) -> int:
    """Bytes of Adam's two states."""

    def states(numbers: int) -> int:
        if work.config.optim == "adamw_torch" or numbers < _SMALLEST_IN_8_BIT:
            return 2 * numbers * _FLOAT32
        return 2 * (numbers + ceil(numbers / _OPTIMISER_BLOCK) * _FLOAT32)

    return work.architecture.layers * sum(states(numbers) for numbers in work.adapter_tensors)


def _kept(work: Workload) -> Iterator[Part]:
    config, shape = work.config, work.architecture
    bits = f"4 bits ({config.bnb_4bit_quant_type})" if config.load_in_4bit else f"{work.width * 8} bits"
    whole = shape.other_weights * work.width
    linear = weights(work) - whole
    matrices = sum(_matrix(item, work) for item in shape.linears)
    kept = linear - shape.layers * (matrices - ceil(matrices / work.sharers))
    shared = f", divided by {work.sharers} processes" if work.sharers > 1 else ""
    billions = f"{shape.linear_weights / 1e9:.2f} billion weights"
    yield Part("linear layers", kept, f"{billions} in {bits}, with constants{shared}")
    if work.sharers > 1:
        # PyTorch 2.7.1, _fsdp_param_group.py: what all-gather wrote, and the parameters copied out of it.
        yield Part("gathered layer", 2 * matrices, "its matrices as they come and as they are used")
    tied = "embeddings, tied" if shape.tied else "embeddings and output layer"
    yield Part("embeddings, norms", whole, f"{tied}, {shape.vocabulary:,} words, in {work.width * 8} bits")
    numbers = adapter(work) // _FLOAT32
    yield Part("adapter", adapter(work), f"{numbers / 1e6:.1f} million weights in float32, rank {config.lora_r}")
    yield Part("gradients", adapter(work), "of the adapter, float32")
    yield Part("optimiser", optimiser(work), config.optim)


def saved_by_layer(work: Workload) -> int:
    """Bytes that one decoder layer keeps for its backward pass, by what its modules save."""
    shape, tokens, width = work.architecture, work.tokens, work.width
    norms = shape.norms * tokens * (shape.hidden + 1) * _FLOAT32
    if shape.query_key_norms:
        norms += tokens * (shape.heads + shape.key_value_heads) * (shape.head_width + 1) * _FLOAT32
    mlp = 3 * tokens * shape.intermediate * width
    return norms + mlp + _saved_by_adapter(work) + _saved_by_attention(work)


def _saved_by_adapter(work: Workload) -> int:
    rank, tokens, width = work.config.lora_r, work.tokens, work.width
    # CUDA's kernel keeps a mask of bytes; a CPU keeps it in the format of what is masked.
    mask = 0 if work.config.lora_dropout == 0 else 1 if work.kind == "cuda" else width
    per_token = _inputs_kept(work) * (width + mask) + rank * width * len(work.adapted)
    casts = 0 if width == _FLOAT32 else sum(work.adapter_tensors) * width
    return tokens * per_token + casts


def _inputs_kept(work: Workload) -> int:
    """Numbers of a token that LoRA's first matrices keep for their gradients: of what none has masked, one copy."""
    if work.config.lora_dropout:
        return sum(item.inputs for item in work.adapted)
    return sum({_SAME_INPUT.get(item.name, item.name): item.inputs for item in work.adapted}.values())


def _saved_by_attention(work: Workload) -> int:
    shape, tokens, width = work.architecture, work.tokens, work.width
    query = tokens * shape.heads * shape.head_width * width
    if work.attention == "eager":
        # Keys and values repeated for every query head; of each score the capped one, the probability in float32 and
        # the probability as it is multiplied with the values.
        score = (width if shape.capped_attention else 0) + _FLOAT32 + (width if width != _FLOAT32 else 0)
        return 3 * query + _scores(work) * score
    if work.attention == "sdpa" and work.kind != "cuda":
        # PyTorch has a fused kernel for CUDA alone where there is a mask; elsewhere it computes in float32.
        return (3 * query // width + _scores(work)) * _FLOAT32
    key_value = query if work.attention == "sdpa" else query * shape.key_value_heads // shape.heads
    statistics = tokens * shape.heads * _FLOAT32
    return 2 * query + 2 * key_value + statistics


def _scores(work: Workload) -> int:
    """Attention scores of one layer."""
    return work.tokens * work.config.max_length * work.architecture.heads


def activations(work: Workload) -> int:
    """Bytes saved for backward by a whole forward pass. With gradient checkpointing that is each layer's input."""
    shape = work.architecture
    per_layer = work.tokens * shape.hidden * work.width if work.config.gradient_checkpointing else saved_by_layer(work)
    last_norm = work.tokens * (shape.hidden + 1) * _FLOAT32
    scored = work.tokens * shape.hidden * work.width
    return shape.layers * per_layer + last_norm + scored


def _passing(work: Workload) -> Iterator[Part]:
    config = work.config
    size = f"{config.per_device_train_batch_size} of {config.max_length} tokens"
    how = "each layer's input" if config.gradient_checkpointing else "all layers, nothing computed twice"
    yield Part("activations", activations(work), f"{how}, {size}")
    in_layer = _within_layer(work)
    loss = _loss(work)
    if loss >= in_layer:
        yield Part("loss", loss, f"logits of {_chunk(work)} tokens at a time; larger than a layer's backward pass")
    else:
        attention = f"attention {work.attention}"
        if work.attention == "eager":
            attention += f", {_scores(work) / 1e6:,.0f} million scores, which grow with the square of max_length"
        yield Part("backward pass", in_layer, f"of one layer: {attention}")


def _within_layer(work: Workload) -> int:
    """What comes and goes while one layer's backward pass is computed."""
    shape, tokens, width = work.architecture, work.tokens, work.width
    again = saved_by_layer(work) if work.config.gradient_checkpointing else 0
    widest = max(item.weights for item in shape.linears) * width if work.config.load_in_4bit else 0
    # The adapter's input is masked; when attention is computed backwards the MLP is done with.
    product = tokens * width * (shape.intermediate + max((item.inputs for item in work.adapted), default=0))
    scores = _scores(work) * (2 * _FLOAT32 + width) if work.attention == "eager" else 0
    scores -= 3 * tokens * shape.intermediate * width
    return again + widest + max(product, scores) + 2 * tokens * shape.hidden * _FLOAT32


def _loss(work: Workload) -> int:
    """Of a chunk: the output layer's product, it in float32, the probabilities, and these as they are multiplied back.

    Kept until the backward pass: the gradient by the hidden states of all tokens.
    """
    shape, tokens, width = work.architecture, work.tokens, work.width
    each = 2 * _FLOAT32 + (0 if width == _FLOAT32 else 2 * width)
    return _chunk(work) * shape.vocabulary * each + 2 * tokens * shape.hidden * _FLOAT32


def _chunk(work: Workload) -> int:
    """Tokens whose logits are in memory at a time."""
    return min(work.tokens, chunk_tokens(work.kind, work.architecture.vocabulary))


def _around(work: Workload) -> Iterator[Part]:
    if work.kind == "cuda":
        passing = activations(work) + max(_loss(work), _within_layer(work))
        yield Part("CUDA context", 6 * _GIB // 10, "driver, kernels and cuBLAS workspace; assumed", certain=False)
        yield Part("fragmentation", passing // 12, "a twelfth of what comes and goes; assumed", certain=False)
    else:
        yield Part("process", 2 * _GIB, "Python and the libraries, 2.2 GB seen in the rehearsal", certain=False)
