"""The adapter merged into its base: a model folder that needs no PEFT."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tunestack_train.attention import choose_attention
from tunestack_train.errors import ModelUnavailableError
from tunestack_train.model import load_base
from tunestack_train.settings import RunConfig

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunestack_train.device import Device


def load_as_trained(base: Path, adapter: Path, config: RunConfig, device: "Device") -> "PeftModel":
    """The adapter on the base as it was trained on: in 4 bits, unless the run said otherwise."""
    return _with_adapter(load_base(base, config, device), adapter)


def load_on_bf16(base: Path, adapter: Path, config: RunConfig, device: "Device") -> "PeftModel":
    """The adapter on the base in bf16, the weights that it is merged into."""
    return _with_adapter(load_bf16(base, config, device), adapter)


def load_bf16(folder: Path, config: RunConfig, device: "Device", gguf_file: str | None = None) -> "PreTrainedModel":
    """A model folder in bf16; with `gguf_file`, the weights of that file in it, read by transformers' own reader."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        settings = AutoConfig.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            # A GGUF file leaves out what llama.cpp derives or knows; the weights are what is read back.
            config=settings,
            dtype=torch.bfloat16,
            attn_implementation=choose_attention(config.attn_implementation, folder, device, "bf16").name,
            device_map={"": device.torch_name},
            **({} if gguf_file is None else _unpacked(gguf_file)),
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        what = folder if gguf_file is None else folder / gguf_file
        raise ModelUnavailableError(
            f"{what} cannot be read as a causal language model: {error}",
            "check the base model's files; if they are in order, this version of transformers does not know the "
            "architecture (in GGUF: give --quantisation none, which leaves GGUF out)",
        ) from error
    model.config.use_cache = False
    return model


def write_merged(
    model: "PeftModel", base: Path, adapter: Path, tokenizer: "PreTrainedTokenizerBase", folder: Path
) -> None:
    """Merges the adapter that `model` carries and writes the model, with its tokenizer, to `folder`."""
    merged = model.merge_and_unload()
    merged.config.use_cache = True
    merged.save_pretrained(folder)
    for path in sorted(adapter.iterdir()):
        if path.name.startswith(("tokenizer", "chat_template")):
            shutil.copyfile(path, folder / path.name)
    _restore_vocabulary(base, tokenizer, folder)


def _restore_vocabulary(base: Path, tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Brings back what transformers 5 leaves out of a tokenizer that it saves and llama.cpp's converter reads.

    Without the base's own `tokenizer.model`, and a `tokenizer_config.json` that lists the added tokens, the converter
    takes the tokens that begin and end a turn for plain text.
    """
    if (base / "tokenizer.model").is_file():
        shutil.copyfile(base / "tokenizer.model", folder / "tokenizer.model")
    own = base / "tokenizer_config.json"
    settings = json.loads(own.read_text(encoding="utf-8")) if own.is_file() else {}
    settings.setdefault(
        "added_tokens_decoder",
        {
            str(number): {"content": token.content, "special": token.special}
            for number, token in sorted(tokenizer.added_tokens_decoder.items())
        },
    )
    # The template that the adapter learnt stands in a file of its own.
    settings.pop("chat_template", None)
    text = json.dumps(settings, indent=2, ensure_ascii=False)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def _with_adapter(base: "PreTrainedModel", adapter: Path) -> "PeftModel":
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(base, adapter)
    except (RuntimeError, ValueError) as error:
        raise ModelUnavailableError(
            f"the adapter does not fit its base model: {error}",
            "give the folder of the model that the run was trained on: --base FOLDER",
        ) from error


def _unpacked(gguf_file: str) -> dict[str, object]:
    from transformers import GgufConfig

    return {"gguf_file": gguf_file, "quantization_config": GgufConfig(dequantize=True)}
