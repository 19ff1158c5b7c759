"""`tunestack-train export`: a checkpoint as merged safetensors and GGUF, compared with the adapter."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from tunestack_train.errors import SettingsError, StopRequested
from tunestack_train.export.bounds import DEFAULTS, Measured, parse_bounds
from tunestack_train.export.export import MODELFILE, Exported, Request, export
from tunestack_train.export.gguf_files import QUANTISATIONS
from tunestack_train.export.source import Source, choose_source
from tunestack_train.progress import Console
from tunestack_train.stop import Interrupted, StopSignal

_NONE: Final = "none"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    formats = "\n".join(f"  {one.name:8} {one.bits:4} bits a weight: {one.meaning}" for one in QUANTISATIONS.values())
    bounds = "\n".join(
        f"  {stage:8} KL at most {bound.max_kl:g} nats, top-1 agreement at least {bound.min_top1:.0%}"
        for stage, bound in DEFAULTS.items()
    )
    parser = commands.add_parser(
        "export",
        help="merge a checkpoint, write safetensors and GGUF, compare them with the adapter",
        description="Exports a checkpoint of a run: the adapter merged into its base, as safetensors and as GGUF with "
        "a Modelfile. Each file is read back and its next-token distributions are compared with the adapter's.",
        epilog=f"formats of --quantisation:\n{formats}\n\nbounds of the stages:\n{bounds}\n"
        "base: the adapter on the base in bf16, compared with the adapter as it was trained; the others: compared "
        "with the adapter on the base in bf16.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="name of the run")
    parser.add_argument("--checkpoint", default="best", metavar="N|best|last", help="which one (default: best)")
    parser.add_argument(
        "--quantisation",
        action="append",
        default=[],
        metavar="NAME",
        help=f"GGUF format; may be repeated, the first is the Modelfile's (default: q8_0); {_NONE} writes no GGUF",
    )
    parser.add_argument("--base", type=Path, metavar="FOLDER", help="the base model, where it lies elsewhere now")
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"), help="where to compute")
    parser.add_argument("--max-kl", action="append", default=[], metavar="STAGE=NATS", help="another bound")
    parser.add_argument("--min-top1", action="append", default=[], metavar="STAGE=SHARE", help="another bound")
    parser.add_argument("--json", action="store_true", help="report as one JSON object on standard output")
    parser.set_defaults(execute=execute)
    return parser


def execute(options: argparse.Namespace) -> int:
    StopSignal().install()
    try:
        return _execute(options)
    except Interrupted as request:
        raise StopRequested(
            f"the export was stopped ({request}); what was exported before is untouched",
            "type the same again: it begins anew",
        ) from None


def _execute(options: argparse.Namespace) -> int:
    # Bars of the libraries that read the files back, in between the lines of the export.
    os.environ.setdefault("TQDM_DISABLE", "1")
    request = Request(
        _quantisations(options.quantisation),
        parse_bounds(options.max_kl, options.min_top1),
        options.base,
        options.device,
    )
    checkpoints = Path(os.environ.get("TUNESTACK_CHECKPOINTS_DIR", "/checkpoints"))
    exports = Path(os.environ.get("TUNESTACK_GGUF_DIR", "/models/gguf"))
    console = Console(sys.stderr)
    source = choose_source(checkpoints / options.run, options.checkpoint)
    console.say(f"{source.config.name}: {source.checkpoint.name}, {source.why}")
    exported = export(source, exports, request, console.say)
    if options.json:
        print(json.dumps(_report(source, exported)))
        return 0
    if not exported.fresh:
        print(f"{source.checkpoint.name} was exported before, nothing to do")
    print(_table(exported))
    print(f"\nin {exported.folder}")
    if MODELFILE in exported.files:
        print(f"next: ollama create {source.config.name} -f {exported.folder / MODELFILE}")
    return 0


def _quantisations(given: Sequence[str]) -> tuple[str, ...]:
    names = [name.lower() for text in given or ["q8_0"] for name in text.split(",")]
    unknown = [name for name in names if name not in QUANTISATIONS and name != _NONE]
    if unknown or (_NONE in names and len(names) > 1):
        raise SettingsError(
            f"--quantisation = {', '.join(unknown or names)} cannot be used",
            f"give one or more of {', '.join(QUANTISATIONS)}, or {_NONE} alone for safetensors without GGUF",
        )
    return tuple(dict.fromkeys(name for name in names if name != _NONE))


def _report(source: Source, exported: Exported) -> dict[str, object]:
    return {
        "run": source.config.name,
        "checkpoint": source.checkpoint.name,
        "chosen_as": source.why,
        "folder": str(exported.folder),
        "fresh": exported.fresh,
        "files": dict(exported.files),
        "stages": [{**asdict(stage), "label": stage.label} for stage in exported.stages],
    }


def _table(exported: Exported) -> str:
    header = f"{'stage':28} {'size':>10} {'KL added':>11} {'KL':>11} {'top-1':>7}"
    return "\n".join([header, *(_row(stage, exported) for stage in exported.stages)])


def _row(stage: Measured, exported: Exported) -> str:
    size = "" if stage.file is None else f"{exported.files[stage.file] / 1e6:,.1f} MB"
    drift = stage.bounded
    return f"{stage.label:28} {size:>10} {stage.from_before.kl:11.6f} {drift.kl:11.6f} {drift.top1:7.1%}"
