"""GGUF files: converted by llama.cpp's own converter, quantised by its Python package, and checked for their tokens."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunestack_train.errors import DiskFullError, SettingsError, TunestackError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
    from transformers import PreTrainedTokenizerBase

# Where the image has it; elsewhere the variable names the folder of llama.cpp's sources.
_CONVERTER_FOLDER: Final = "/opt/llama.cpp"
_CONVERTER: Final = "convert_hf_to_gguf.py"
_BLOCK: Final = 32
"""Weights that share one scale in the formats below; a row must be a multiple of it."""


@dataclass(frozen=True)
class Quantisation:
    """A format of llama.cpp. `bits`: for each weight, its block's scale included."""

    name: str
    bits: float
    meaning: str


QUANTISATIONS: Final = {
    quantisation.name: quantisation
    for quantisation in (
        Quantisation("q8_0", 8.5, "8 bits, next to no difference"),
        Quantisation("q5_1", 6.0, "5 bits with an offset"),
        Quantisation("q5_0", 5.5, "5 bits"),
        Quantisation("q4_1", 5.0, "4 bits with an offset"),
        Quantisation("q4_0", 4.5, "4 bits, the smallest, with a loss that shows"),
    )
}
"""Formats that the package `gguf` itself can write. The k-quants (Q4_K_M and others) take llama.cpp's own program."""


class ConversionError(TunestackError):
    """The converter could not turn the model into GGUF."""

    exit_code = 5


def require_converter() -> Path:
    """The converter's program. Raises SettingsError where it is not there."""
    folder = Path(os.environ.get("TUNESTACK_LLAMA_CPP_DIR", _CONVERTER_FOLDER))
    if not (folder / _CONVERTER).is_file():
        raise SettingsError(
            f"llama.cpp's converter is not in {folder}",
            "in the image of an earlier version: bring the stack up again (npx pulumi up); outside of it: name a "
            "folder with llama.cpp's sources as TUNESTACK_LLAMA_CPP_DIR; or give --quantisation none",
        )
    return folder / _CONVERTER


def convert(model: Path, file: Path, name: str) -> None:
    """Writes the model folder as GGUF in f16. Raises ConversionError with what the converter said."""
    program = [sys.executable, str(require_converter()), str(model)]
    done = subprocess.run(  # noqa: S603 - our own arguments, and no shell
        [*program, "--outfile", str(file), "--outtype=f16", "--model-name", name],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0 and file.is_file():
        return
    said = done.stderr.strip().splitlines()
    if "No space left on device" in done.stderr:
        raise DiskFullError(f"the disk is full: {file} could not be written", "make room there, then export once more")
    raise ConversionError(
        f"llama.cpp's converter ended with exit code {done.returncode}: {said[-1] if said else 'it said nothing'}",
        "if it does not know the architecture, export without GGUF: --quantisation none",
    )


def quantise(source: Path, file: Path, quantisation: str) -> None:
    """Writes `source`, GGUF in f16, with its matrices in another format and all else as it is.

    In the formats below 8 bits the embeddings and the output layer take 8, as llama.cpp gives them more than the rest.
    A matrix whose rows are no multiple of 32 stays f16.
    """
    import gguf
    import numpy as np
    from gguf.quants import dequantize
    from gguf.quants import quantize as to_blocks

    reader = gguf.GGUFReader(source)
    wanted = gguf.GGMLQuantizationType[quantisation.upper()]
    writer = gguf.GGUFWriter(file, arch=str(reader.fields["general.architecture"].contents()))
    _copy_metadata(reader, writer, gguf.LlamaFileType[f"MOSTLY_{quantisation.upper()}"])
    types = {tensor.name: _type_of(tensor.name, tensor.shape, tensor.tensor_type, wanted) for tensor in reader.tensors}
    for tensor in reader.tensors:
        kind = types[tensor.name]
        elements = [int(size) for size in reversed(tensor.shape)]
        size = gguf.quant_shape_to_byte_shape(elements, kind) if kind != tensor.tensor_type else None
        bytes_of = tensor.n_bytes if size is None else int(np.prod(size, dtype=np.int64))
        shape = tensor.data.shape if size is None else size
        dtype = tensor.data.dtype if size is None else np.dtype(np.uint8)
        writer.add_tensor_info(tensor.name, shape, dtype, bytes_of, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in reader.tensors:
        kind = types[tensor.name]
        if kind == tensor.tensor_type:
            writer.write_tensor_data(tensor.data)
        else:
            writer.write_tensor_data(to_blocks(dequantize(tensor.data, tensor.tensor_type), kind))
    writer.close()


def vocabulary_problems(file: Path, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """How the tokens in a GGUF file differ from the tokenizer's, where it matters for turns; one line each."""
    import gguf

    reader = gguf.GGUFReader(file)
    tokens = _contents(reader, gguf.Keys.Tokenizer.LIST)
    kinds = _contents(reader, gguf.Keys.Tokenizer.TOKEN_TYPE)
    whole = {int(kind) for kind in (gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED, gguf.TokenType.UNKNOWN)}
    found: list[str] = []
    for number, token in sorted(_special(tokenizer).items()):
        if number >= len(tokens) or tokens[number] != token:
            there = tokens[number] if number < len(tokens) else "nothing"
            found.append(f"token {number} is {token!r} in the tokenizer and {there!r} in the file")
        elif int(str(kinds[number])) not in whole:
            found.append(f"token {number}, {token!r}, is plain text in the file and not read as one token")
    template = reader.fields.get(gguf.Keys.Tokenizer.CHAT_TEMPLATE)
    if tokenizer.chat_template and (template is None or template.contents() != tokenizer.chat_template):
        found.append("the chat template is not the tokenizer's")
    return found


def _special(tokenizer: "PreTrainedTokenizerBase") -> dict[int, str]:
    """Tokens that must be read as one: those that the tokenizer calls special, and those that begin and end turns."""
    special = {
        int(number): str(token)
        for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    }
    turns = {
        number: token
        for token, number in tokenizer.get_vocab().items()
        if token in (tokenizer.chat_template or "") and token.startswith("<") and token.endswith(">") and len(token) > 2
    }
    return special | {int(number): str(token) for number, token in turns.items()}


def _contents(reader: "GGUFReader", key: str) -> list[object]:
    field = reader.fields.get(key)
    contents = [] if field is None else field.contents()
    return contents if isinstance(contents, list) else []


def _copy_metadata(reader: "GGUFReader", writer: "GGUFWriter", file_type: int) -> None:
    import gguf

    for field in reader.fields.values():
        # The writer has put these down by itself.
        if field.name == gguf.Keys.General.ARCHITECTURE or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = file_type if field.name == gguf.Keys.General.FILE_TYPE else field.contents()
        writer.add_key_value(field.name, value, kind, sub_type=inner)


def _type_of(
    name: str, shape: object, there: "GGMLQuantizationType", wanted: "GGMLQuantizationType"
) -> "GGMLQuantizationType":
    import gguf

    sizes = [int(size) for size in shape]  # type: ignore[attr-defined] # an array of numpy, whose type gguf leaves out
    if there == gguf.GGMLQuantizationType.F32 or len(sizes) < 2 or sizes[0] % _BLOCK:
        return there
    return gguf.GGMLQuantizationType.Q8_0 if name in ("token_embd.weight", "output.weight") else wanted
