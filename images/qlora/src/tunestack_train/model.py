"""Base models: where they come from, and how they are loaded for QLoRA."""

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.attention import choose_attention
from tunestack_train.device import Device
from tunestack_train.errors import DiskFullError, ModelUnavailableError
from tunestack_train.kernels import use_liger
from tunestack_train.settings import RunConfig
from tunestack_train.sharding import FSDP

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Families whose every model asks for a licence to be accepted on the hub first (https://huggingface.co/google,
# https://huggingface.co/meta-llama, seen 2026-11-22). Any other gated model is noticed when the hub says so.
_GATED: Final = re.compile(r"google/gemma-\d.*|meta-llama/.*", re.IGNORECASE)
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+|[\w.-]+")
_TOKENIZER_FILES: Final = ["*.json", "*.model", "*.txt", "*.jinja"]
_WANTED_FILES: Final = [*_TOKENIZER_FILES, "*.safetensors"]
_SECONDS_TO_ANSWER: Final = 10.0


def locate_model(model: str, revision: str, token: str | None, say: Callable[[str], None]) -> Path:
    """The folder of a model: its own when `model` is one, else the hub's cache, filled from the hub where needed.

    Raises ModelUnavailableError at once when it cannot be had, and DiskFullError when the cache has no room for it.
    """
    return _own_folder(model) or cached_model(model, revision) or _download(model, revision, token, say)


def _own_folder(model: str) -> Path | None:
    """The folder that `model` names; None when it is an id of the hub. Raises ModelUnavailableError for neither."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        missing = _missing_files(folder)
        if missing:
            raise ModelUnavailableError(
                f"the folder {model} is no complete Hugging Face model: {missing}",
                "give a folder with config.json, the tokenizer's files and all *.safetensors of the model",
            )
        return folder
    if model.startswith(("/", ".", "~")) or not _HUB_ID.fullmatch(model):
        raise ModelUnavailableError(f"there is no folder {model}", "give an existing folder, or an id of the hub")
    return None


def cached_model(model: str, revision: str) -> Path | None:
    """The folder of a hub's model in the cache; None unless all of it is there."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=_WANTED_FILES))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if _missing_files(folder) else folder


def needs_token(model: str) -> bool:
    """Whether the model is known to be gated, so that asking the hub without a token is in vain."""
    return _GATED.fullmatch(model) is not None


def gated_error(model: str, token: str | None) -> ModelUnavailableError:
    page = f"https://huggingface.co/{model}"
    reason = "no Hugging Face token is given" if token is None else "the token given has no access to it"
    return ModelUnavailableError(
        f"{model} is gated, and {reason}",
        f"accept the licence at {page} with your Hugging Face account, make a token with read access at "
        "https://huggingface.co/settings/tokens and give it as the secret hf-token (or as HF_TOKEN); "
        "or train another model: --model ID_OR_FOLDER",
    )


def locate_tokenizer(model: str, revision: str, token: str | None) -> Path:
    """The folder of a model's tokenizer and config; of the hub's models only these few files are fetched.

    Raises ModelUnavailableError when they cannot be had.
    """
    folder = _own_folder(model)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        cached = Path(
            snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=_TOKENIZER_FILES)
        )
    except LocalEntryNotFoundError:
        cached = None
    if cached is not None and _tokenizer_there(cached):
        return cached
    with _hub_errors_named(model, revision, token):
        _ask_hub(model, revision, token)
        return Path(snapshot_download(model, revision=revision, token=token or False, allow_patterns=_TOKENIZER_FILES))


def _download(model: str, revision: str, token: str | None, say: Callable[[str], None]) -> Path:
    from huggingface_hub import constants, snapshot_download

    with _hub_errors_named(model, revision, token):
        files = _ask_hub(model, revision, token)
        weights = sum(size for name, size in files.items() if name.endswith(".safetensors"))
        if weights == 0:
            raise ModelUnavailableError(f"{model} holds no *.safetensors", "give a model in the safetensors format")
        _require_room(Path(constants.HF_HUB_CACHE), weights, model)
        say(f"downloading {model} ({weights / 1e9:.1f} GB) into {constants.HF_HUB_CACHE}")
        return Path(snapshot_download(model, revision=revision, token=token or False, allow_patterns=_WANTED_FILES))


def _ask_hub(model: str, revision: str, token: str | None) -> dict[str, int]:
    """The files of a model with their sizes in bytes; a model known to be gated is not asked for without a token."""
    from huggingface_hub import HfApi

    if token is None and needs_token(model):
        raise gated_error(model, token)
    info = HfApi().model_info(
        model, revision=revision, timeout=_SECONDS_TO_ANSWER, files_metadata=True, token=token or False
    )
    return {file.rfilename: file.size or 0 for file in info.siblings or []}


@contextlib.contextmanager
def _hub_errors_named(model: str, revision: str, token: str | None) -> Iterator[None]:
    import httpx2
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except GatedRepoError as error:
        raise gated_error(model, token) from error
    except RevisionNotFoundError as error:
        raise ModelUnavailableError(
            f"{model} has no revision {revision}", f"choose one of https://huggingface.co/{model}/tree/main"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelUnavailableError(
            f"the hub has no model {model}, or hides it from this token", "check the id; a private model needs a token"
        ) from error
    except (httpx2.HTTPError, HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, TimeoutError) as error:
        raise ModelUnavailableError(
            f"{model} is not in the cache ({constants.HF_HUB_CACHE}) and the hub cannot be reached at "
            f"{constants.ENDPOINT}: {error}",
            "check the network (HF_ENDPOINT names a mirror, HF_HUB_OFFLINE must not be set); or put the model's files "
            "into a folder and give that: --model FOLDER",
        ) from error


def _require_room(cache: Path, needed: int, model: str) -> None:
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DiskFullError(
            f"{model} takes {needed / 1e9:.1f} GB and {cache} has {free / 1e9:.1f} GB free",
            "make room on that disk, or move the models' cache to another (HF_HOME, volume training_models_cache)",
        )


def _missing_files(folder: Path) -> str | None:
    """What a model's folder lacks, in words; None when it is complete."""
    import json

    if not (folder / "config.json").is_file():
        return "config.json is missing"
    if not _tokenizer_there(folder):
        return "the tokenizer's files are missing"
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except FileNotFoundError:
        shards = {"model.safetensors"}
    except (ValueError, KeyError, AttributeError, OSError) as error:
        return f"{index.name} cannot be read: {error}"
    absent = sorted(name for name in shards if not (folder / name).is_file())
    return f"{', '.join(absent)} missing" if absent else None


def _tokenizer_there(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"))


def load_tokenizer(folder: Path, model: str) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, ImportError) as error:
        raise ModelUnavailableError(
            f"the tokenizer of {model} cannot be loaded: {error}", "check the model's tokenizer files"
        ) from error
    if not tokenizer.is_fast:
        raise ModelUnavailableError(
            f"the tokenizer of {model} cannot say where in the text a token stands",
            "give a model with a tokenizer.json",
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_base(
    folder: Path, config: RunConfig, device: Device, say: Callable[[str], None] = lambda _: None
) -> "PreTrainedModel":
    """The base model on the device, in 4 bits unless the config says otherwise, ready for SFTTrainer to add LoRA.

    One that is to be shared out stays in the CPU's memory, since the device may not hold all of it.
    `say` is told which kernels were chosen. Raises SettingsError when those that are set cannot be had or would train
    wrongly.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    dtype = torch_dtype(config.precision)
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=config.bnb_4bit_quant_type,
        bnb_4bit_use_double_quant=config.bnb_4bit_use_double_quant,
        bnb_4bit_compute_dtype=dtype,
    )
    try:
        attention = choose_attention(config.attn_implementation, folder, device, config.precision)
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            attn_implementation=attention.name,
            device_map={"": "cpu" if config.distributed == FSDP else device.torch_name},
            **({"quantization_config": quantisation} if config.load_in_4bit else {}),
        )
    except (OSError, ValueError, ImportError, KeyError) as error:
        raise ModelUnavailableError(
            f"{config.model} cannot be loaded as a causal language model: {error}",
            "check that the model is one for text generation that this version of transformers knows",
        ) from error
    model.config.use_cache = False
    _keep_weights_as_loaded(model)
    liger = use_liger(model, config.liger, device)
    say(f"attention: {attention.name} ({attention.reason}); Liger's kernels: {liger}")
    return model


def torch_dtype(precision: str) -> "torch.dtype":
    import torch

    return {"bf16": torch.bfloat16, "fp16": torch.float16, "float32": torch.float32}[precision]


def _keep_weights_as_loaded(model: "PreTrainedModel") -> None:
    """On CPUs with AVX512-BF16 the first evaluation repacks 4-bit weights in place, which ends training silently."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.__dict__["support_avx512bf16_for_cpu"] = False
