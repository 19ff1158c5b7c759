"""The shape of a decoder-only language model, read from the fields of its config.json."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class Linear:
    """A weight matrix of each decoder layer. `name` is the module's, as `lora_target_modules` names it."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def weights(self) -> int:
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Architecture:
    """Sizes are counts of numbers, not bytes. `norms` counts the norms of a layer that are as wide as the model."""

    family: str
    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head_width: int
    intermediate: int
    vocabulary: int
    tied: bool
    linears: tuple[Linear, ...]
    norms: int
    query_key_norms: bool
    capped_attention: bool

    @property
    def linear_weights(self) -> int:
        """Of all layers, without the output layer, which is not quantised."""
        return self.layers * sum(linear.weights for linear in self.linears)

    @property
    def other_weights(self) -> int:
        """Embeddings, output layer, norms and biases: what stays in 16 bits under QLoRA."""
        embeddings = self.vocabulary * self.hidden * (1 if self.tied else 2)
        norms = self.norms * self.hidden + (2 * self.head_width if self.query_key_norms else 0)
        biases = sum(linear.outputs for linear in self.linears if linear.bias)
        return embeddings + self.layers * (norms + biases) + self.hidden

    @property
    def parameters(self) -> int:
        return self.linear_weights + self.other_weights


@dataclass(frozen=True)
class _Family:
    """What the config.json of a family does not say, or leaves out where it is the default.

    Sources: the classes `<Family>Config` and `<Family>DecoderLayer` of transformers 5.23.0.
    """

    norms: int = 2
    query_key_norms: bool = False
    query_key_value_bias: bool = False
    fused: bool = False
    tied: bool = False
    head_width: int | None = None
    capped: float | None = None


_FAMILIES: Final[Mapping[str, _Family]] = {
    "gemma": _Family(tied=True, head_width=256),
    "gemma2": _Family(norms=4, tied=True, head_width=256, capped=50.0),
    "gemma3_text": _Family(norms=4, query_key_norms=True, tied=True, head_width=256),
    "llama": _Family(),
    "mistral": _Family(),
    "qwen2": _Family(query_key_value_bias=True),
    "qwen3": _Family(query_key_norms=True, head_width=128),
    "phi3": _Family(fused=True),
}


class UnknownArchitecture(ValueError):  # noqa: N818 - it names what is unknown; nothing has failed
    """The config is of a family that is not counted here; the message is for people."""


def read(folder: Path) -> Architecture:
    """The architecture of the model in `folder`. Raises UnknownArchitecture, also when config.json cannot be read."""
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise UnknownArchitecture(f"{folder / 'config.json'} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UnknownArchitecture(f"{folder / 'config.json'} holds no object")
    return from_config(content)


def from_config(config: Mapping[str, object]) -> Architecture:
    """The architecture that the fields of a config.json describe. Raises UnknownArchitecture."""
    name = str(config.get("model_type"))
    family = _FAMILIES.get(name)
    if family is None:
        raise UnknownArchitecture(
            f"models of type {name} are not counted (there are: {', '.join(_FAMILIES)}); the run starts unchecked"
        )
    hidden, layers = _whole(config, "hidden_size"), _whole(config, "num_hidden_layers")
    heads, intermediate = _whole(config, "num_attention_heads"), _whole(config, "intermediate_size")
    key_value_heads = _whole(config, "num_key_value_heads", heads)
    head_width = _whole(config, "head_dim", family.head_width or hidden // heads)
    return Architecture(
        family=name,
        hidden=hidden,
        layers=layers,
        heads=heads,
        key_value_heads=key_value_heads,
        head_width=head_width,
        intermediate=intermediate,
        vocabulary=_whole(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        linears=_linears(config, family, hidden, intermediate, (heads * head_width, key_value_heads * head_width)),
        norms=family.norms,
        query_key_norms=family.query_key_norms,
        capped_attention=config.get("attn_logit_softcapping", family.capped) is not None,
    )


def _linears(
    config: Mapping[str, object], family: _Family, hidden: int, intermediate: int, widths: tuple[int, int]
) -> tuple[Linear, ...]:
    query, key_value = widths
    attention_bias = bool(config.get("attention_bias", False))
    input_bias = attention_bias or family.query_key_value_bias
    mlp_bias = bool(config.get("mlp_bias", False))
    if family.fused:
        return (
            Linear("qkv_proj", hidden, query + 2 * key_value),
            Linear("o_proj", query, hidden),
            Linear("gate_up_proj", hidden, 2 * intermediate),
            Linear("down_proj", intermediate, hidden),
        )
    return (
        Linear("q_proj", hidden, query, input_bias),
        Linear("k_proj", hidden, key_value, input_bias),
        Linear("v_proj", hidden, key_value, input_bias),
        Linear("o_proj", query, hidden, attention_bias),
        Linear("gate_proj", hidden, intermediate, mlp_bias),
        Linear("up_proj", hidden, intermediate, mlp_bias),
        Linear("down_proj", intermediate, hidden, mlp_bias),
    )


def _whole(config: Mapping[str, object], field: str, otherwise: int | None = None) -> int:
    value = config.get(field)
    if value is None and otherwise is not None:
        return otherwise
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise UnknownArchitecture(f"its config.json has {field} = {value!r} where a number above zero is needed")
    return value
