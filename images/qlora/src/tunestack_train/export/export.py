"""An export from checkpoint to files that are known to be good, or to an error that says where they went wrong."""

import gc
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train import checkpoints
from tunestack_train.device import Device, choose_device, silence_progress_bars
from tunestack_train.errors import ModelUnavailableError
from tunestack_train.export import gguf_files
from tunestack_train.export.bounds import BASE, F16, MERGED, Bounds, Measured, require_within
from tunestack_train.export.drift import Drift, compare, distributions, encode_prompts
from tunestack_train.export.merged import load_as_trained, load_bf16, load_on_bf16, write_merged
from tunestack_train.export.modelfile import modelfile
from tunestack_train.export.room import bytes_on_disk, count_parameters, place, require_disk, require_memory
from tunestack_train.export.source import Source, base_folder, copy_adapter
from tunestack_train.manifest import MANIFEST, problems
from tunestack_train.model import load_tokenizer
from tunestack_train.status import now

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

EXPORT_FILE: Final = "export.json"
MODELFILE: Final = "Modelfile"
MERGED_FOLDER: Final = "safetensors"
_ADAPTER_COPY: Final = ".adapter"
_SCHEMA: Final = 1


@dataclass(frozen=True)
class Request:
    """`quantisations` is empty for safetensors alone; `base` is the base model's folder where it lies elsewhere now."""

    quantisations: tuple[str, ...]
    bounds: Bounds
    base: Path | None
    device: str


@dataclass(frozen=True)
class Exported:
    """`fresh` is False when the same had been exported before and nothing was done. Sizes in bytes."""

    folder: Path
    fresh: bool
    stages: tuple[Measured, ...]
    files: Mapping[str, int]


def export(source: Source, exports: Path, request: Request, say: Callable[[str], None]) -> Exported:
    """Exports a checkpoint to `exports/RUN/checkpoint-STEP`, whole or not at all.

    Raises DriftError when a file's distributions are further from the adapter's than its bound, and TunestackError for
    whatever else a person can mend. What was exported before stays until the new export has proved itself.
    """
    folder = exports / source.config.name / source.checkpoint.name
    checkpoints.remove_leftovers(folder.parent)
    earlier = _exported_before(folder, source, request)
    if earlier is not None:
        require_within(earlier, request.bounds, source.config.name)
        return Exported(folder, fresh=False, stages=earlier, files=_sizes(folder))
    if request.quantisations:
        gguf_files.require_converter()
    base = base_folder(source, source.checkpoint.parent, request.base, say)
    parameters = count_parameters(base)
    require_disk(exports, bytes_on_disk(parameters, request.quantisations))
    require_memory(parameters)
    say("loading PyTorch and the training libraries")
    silence_progress_bars()
    device = place(choose_device(request.device, source.config.precision), parameters)
    measured: list[Measured] = []

    def fill(partial: Path) -> None:
        work = _Work(source, base, partial, device, say)
        measured.extend(work.make(request.quantisations))
        require_within(measured, request.bounds, source.config.name)
        _write_report(partial, source, request, measured)

    checkpoints.write_folder(folder, fill)
    return Exported(folder, fresh=True, stages=tuple(measured), files=_sizes(folder))


class _Work:
    """The stages of one export, each compared with the one before it and with the adapter."""

    def __init__(self, source: Source, base: Path, folder: Path, device: Device, say: Callable[[str], None]) -> None:
        copy_adapter(source, folder / _ADAPTER_COPY)
        self._adapter = folder / _ADAPTER_COPY
        self._config = source.config
        self._base = base
        self._folder = folder
        self._device = device
        self._say = say
        self._tokenizer = load_tokenizer(self._adapter, source.config.model)
        self._prompts = encode_prompts(self._tokenizer)

    def make(self, quantisations: tuple[str, ...]) -> list[Measured]:
        """Writes every file and reads each back; at most one model is in memory at a time."""
        config, device = self._config, self._device
        self._say(f"the adapter on its base as it was trained, on {device.name}")
        trained = self._distributions(load_as_trained(self._base, self._adapter, config, device))
        self._say("the adapter on its base in bf16, and both merged")
        model = load_on_bf16(self._base, self._adapter, config, device)
        adapter = self._distributions(model)
        write_merged(model, self._base, self._adapter, self._tokenizer, self._folder / MERGED_FOLDER)
        del model
        measured = [_measured(BASE, None, trained, adapter, adapter, trained)]
        merged = self._read_back(None)
        measured.append(_measured(MERGED, MERGED_FOLDER, adapter, merged, adapter, trained))
        if quantisations:
            measured += self._gguf(quantisations, merged, adapter, trained)
        shutil.rmtree(self._adapter)
        return measured

    def _gguf(
        self, quantisations: tuple[str, ...], merged: "torch.Tensor", adapter: "torch.Tensor", trained: "torch.Tensor"
    ) -> list[Measured]:
        self._say("GGUF f16")
        name = f"{self._config.name}-{F16}.gguf"
        gguf_files.convert(self._folder / MERGED_FOLDER, self._folder / name, self._config.name)
        self._require_vocabulary(name)
        f16 = self._read_back(name)
        measured = [_measured(F16, name, merged, f16, adapter, trained)]
        for quantisation in quantisations:
            self._say(f"GGUF {quantisation}")
            file = f"{self._config.name}-{quantisation}.gguf"
            gguf_files.quantise(self._folder / name, self._folder / file, quantisation)
            self._require_vocabulary(file)
            measured.append(_measured(quantisation, file, f16, self._read_back(file), adapter, trained))
        smallest = f"{self._config.name}-{quantisations[0]}.gguf"
        text = modelfile(smallest, self._tokenizer.chat_template, self._tokenizer.eos_token)
        (self._folder / MODELFILE).write_text(text, encoding="utf-8")
        return measured

    def _read_back(self, gguf_file: str | None) -> "torch.Tensor":
        merged = self._folder / MERGED_FOLDER
        # transformers looks for a GGUF file below the model's folder.
        return self._distributions(
            load_bf16(merged, self._config, self._device, None if gguf_file is None else f"../{gguf_file}")
        )

    def _distributions(self, model: "PreTrainedModel | PeftModel") -> "torch.Tensor":
        found = distributions(model, self._prompts)
        gc.collect()
        return found

    def _require_vocabulary(self, gguf_file: str) -> None:
        found = gguf_files.vocabulary_problems(self._folder / gguf_file, self._tokenizer)
        if found:
            raise ModelUnavailableError(
                f"{gguf_file} would read prompts otherwise than the adapter learnt them: {'; '.join(found[:5])}",
                "check the tokenizer's files of the base model (tokenizer.model, tokenizer_config.json); or export "
                "without GGUF: --quantisation none",
            )


def _measured(
    stage: str,
    file: str | None,
    before: "torch.Tensor",
    here: "torch.Tensor",
    adapter: "torch.Tensor",
    trained: "torch.Tensor",
) -> Measured:
    return Measured(stage, file, compare(before, here), compare(adapter, here), compare(trained, here))


def _write_report(folder: Path, source: Source, request: Request, measured: list[Measured]) -> None:
    content = {
        "schema": _SCHEMA,
        "created_at": now(),
        "run": source.config.name,
        "checkpoint": source.checkpoint.name,
        "chosen_as": source.why,
        "adapter_sha256": source.adapter_sha256,
        "quantisations": list(request.quantisations),
        "stages": [asdict(stage) for stage in measured],
    }
    (folder / EXPORT_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _exported_before(folder: Path, source: Source, request: Request) -> tuple[Measured, ...] | None:
    """What an earlier, whole export of the same adapter measured; None where all or a part is still to be done."""
    if problems(folder):
        return None
    try:
        report = json.loads((folder / EXPORT_FILE).read_text(encoding="utf-8"))
        same = report["adapter_sha256"] == source.adapter_sha256
        if not same or not set(request.quantisations) <= set(report["quantisations"]):
            return None
        return tuple(
            Measured(
                stage["stage"],
                stage["file"],
                Drift(**stage["from_before"]),
                Drift(**stage["from_adapter"]),
                Drift(**stage["from_trained"]),
            )
            for stage in report["stages"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Sizes of what is to be carried on: each file of the export, the merged model as one."""
    sizes: dict[str, int] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in (MANIFEST, EXPORT_FILE):
            name = path.relative_to(folder).parts[0]
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sizes
