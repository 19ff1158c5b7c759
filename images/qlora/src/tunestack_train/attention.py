"""The attention kernel for a model on a device: which one is chosen and why, and which would train wrongly.

transformers, which attends, knows five names. `eager` is plain PyTorch with all scores in memory and computes whatever
a model asks for. `sdpa` is PyTorch's fused kernel; it cannot cap scores, as Gemma 2 does. `flash_attention_2` is a
package of its own for CUDA. `flex_attention` compiles a kernel that caps scores, which takes a C compiler.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.compiler import missing_for_kernels
from tunestack_train.device import Device
from tunestack_train.errors import SettingsError

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Head sizes above it have no kernel in flash-attn 2 (its README, "Features", seen 2026-11-24).
_FLASH_LARGEST_HEAD: Final = 256


@dataclass(frozen=True)
class Attention:
    """`name` is transformers' name of the kernel, `reason` tells a person why it is this one."""

    name: str
    reason: str


@dataclass(frozen=True)
class AttentionNeeds:
    """What a model asks of its attention. `sdpa`, `flash`, `flex`: transformers has that kernel for the model."""

    model_type: str
    caps_scores: bool
    dropout: bool
    largest_head: int
    sdpa: bool
    flash: bool
    flex: bool


def choose_attention(wanted: str, folder: Path, device: Device, precision: str) -> Attention:
    """The kernel for the model in the folder; `wanted` and `precision` as in the settings.

    Raises SettingsError when the one wanted cannot be had or would train wrongly, and OSError, ValueError or KeyError
    for a folder that transformers cannot read.
    """
    from transformers import AutoConfig

    return decide(wanted, attention_needs(AutoConfig.from_pretrained(folder)), device, precision)


def attention_needs(model: "PreTrainedConfig") -> AttentionNeeds:
    from transformers import AutoModelForCausalLM, PreTrainedModel

    text = model.get_text_config()
    kind: object = AutoModelForCausalLM._model_mapping[type(model)]
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ValueError(f"transformers has no causal language model of type {model.model_type}")
    heads = getattr(text, "num_attention_heads", None) or 1
    return AttentionNeeds(
        model_type=model.model_type,
        caps_scores=getattr(text, "attn_logit_softcapping", None) is not None,
        dropout=bool(getattr(text, "attention_dropout", 0.0)),
        largest_head=getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // heads,
        sdpa=kind._supports_sdpa,
        flash=kind._supports_flash_attn,
        flex=kind._supports_flex_attn,
    )


def decide(wanted: str, needs: AttentionNeeds, device: Device, precision: str) -> Attention:
    """Raises SettingsError when the one wanted cannot be had or would train wrongly."""
    against = {
        "eager": None,
        "sdpa": _against_sdpa(needs),
        "flash_attention_2": _against_flash(needs, device, precision),
        "flex_attention": _against_flex(needs, device),
    }
    if wanted != "auto":
        reason = against[wanted]
        if reason is not None:
            others = ", ".join(name for name, problem in against.items() if problem is None)
            raise SettingsError(
                f"attn_implementation = {wanted}: {reason}", f"leave it at auto; what works here is {others}"
            )
        return Attention(wanted, "as set")
    if against["flash_attention_2"] is None:
        return Attention("flash_attention_2", "it is installed")
    if against["sdpa"] is None:
        return Attention("sdpa", "PyTorch's fused kernel")
    # Not flex_attention by itself: its backward pass has not been run on a GPU here.
    return Attention("eager", f"{against['sdpa']}; {against['flash_attention_2']}")


def _against_sdpa(needs: AttentionNeeds) -> str | None:
    if needs.caps_scores:
        return f"{needs.model_type} caps attention scores, which sdpa would leave out"
    return None if needs.sdpa else f"transformers has no sdpa for {needs.model_type}"


def _against_flash(needs: AttentionNeeds, device: Device, precision: str) -> str | None:
    if device.kind != "cuda":
        return "flash_attention_2 needs CUDA"
    if importlib.util.find_spec("flash_attn") is None:
        return "flash_attention_2 needs the package flash-attn, which is not installed"
    if precision == "float32":
        return "flash_attention_2 computes in bf16 or fp16, and precision is float32"
    if not needs.flash:
        return f"transformers has no flash_attention_2 for {needs.model_type}"
    if needs.largest_head > _FLASH_LARGEST_HEAD:
        return f"flash_attention_2 takes heads of at most {_FLASH_LARGEST_HEAD}; here they are {needs.largest_head}"
    return None


def _against_flex(needs: AttentionNeeds, device: Device) -> str | None:
    if device.kind != "cuda":
        return "flex_attention trains on CUDA alone"
    if not needs.flex:
        return f"transformers has no flex_attention for {needs.model_type}"
    if needs.dropout:
        return f"flex_attention would leave out the attention dropout of this {needs.model_type}"
    missing = missing_for_kernels()
    return f"flex_attention compiles its kernel here, and {missing}" if missing else None
