"""`tunestack-train estimate`: memory and time of a run on a GPU that need not be here, from the model's config."""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tunestack_train.errors import SettingsError
from tunestack_train.layers import assignments_layer, environment_layer, file_layer
from tunestack_train.presets import PRESETS, Value
from tunestack_train.resolve import Layer, resolve

if TYPE_CHECKING:
    from tunestack_train.settings import RunConfig


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "estimate",
        help="memory and time of a run before it starts",
        description="Estimates memory and time of a run from the model's config, on a GPU that need not be here.",
        allow_abbrev=False,
    )
    parser.add_argument("--preset", help=f"{', '.join(PRESETS)}; without one, give --model")
    parser.add_argument("--model", help="Hugging Face id or folder of the base model")
    parser.add_argument("--gpu", help="GPU to estimate for, such as rtx-4090; the one of this machine if not given")
    parser.add_argument("--processes", type=int, default=1, help="processes that train the run, a GPU each")
    parser.add_argument("--examples", type=int, help="examples in the data, where epochs are trained and not steps")
    parser.add_argument("--tokens", type=int, help="mean length of an example; max_length if not given")
    parser.add_argument("--config", action="append", default=[], metavar="FILE", type=Path, help="file of settings")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting; may be repeated")
    parser.add_argument("--json", action="store_true", help="report as one JSON object on standard output")
    parser.set_defaults(execute=execute)
    return parser


def execute(options: argparse.Namespace) -> int:
    """Prints the estimate. Returns 0 also where the run does not fit: that is an answer, and `verdict` holds it."""
    from tunestack_train.estimate import report
    from tunestack_train.estimate.architecture import UnknownArchitecture
    from tunestack_train.estimate.base import architecture_of
    from tunestack_train.estimate.fit import advice, estimate, here, on_gpu
    from tunestack_train.estimate.gpus import find

    config = _config(options)
    try:
        machine = here(config.device) if options.gpu is None else on_gpu(find(options.gpu))
    except ValueError as error:
        raise SettingsError(f"--gpu: {error}", "give one of those") from error
    try:
        architecture = architecture_of(config)
    except UnknownArchitecture as unknown:
        raise SettingsError(f"--model {config.model}: {unknown}", "give a model whose config.json is here") from unknown
    machine = replace(machine, processes=options.processes)
    found = estimate(config, architecture, machine, examples=options.examples, sequence=options.tokens)
    less = () if found.verdict == "fits" else advice(config, architecture, machine)
    if options.json:
        print(json.dumps({"model": config.model, "preset": config.preset} | report.as_dict(found, less), indent=1))
        return 0
    print("\n".join([report.title(found), *report.lines(found, less)]))
    return 0


def _config(options: argparse.Namespace) -> "RunConfig":
    given: dict[str, Value] = {} if options.model is None else {"model": options.model}
    # An estimate needs no data; a run would.
    layers = [
        Layer("estimate", {"data": "none"}),
        *(file_layer(path) for path in options.config),
        environment_layer(os.environ),
        Layer("command line", given),
        assignments_layer(options.set),
    ]
    return resolve("estimate", options.preset, layers).config
