"""`tunestack-train rerun FOLDER`: a run once more, from what its folder remembers and from nothing else."""

import argparse
import sys
from pathlib import Path
from typing import Final

from tunestack_train.commands import dry_run, run
from tunestack_train.data.cache import ContentCache, default_folder
from tunestack_train.data.load import load
from tunestack_train.device import choose_device
from tunestack_train.errors import DataError, ModelUnavailableError, Problem, SettingsProblems
from tunestack_train.layers import assignments_layer
from tunestack_train.model import locate_model
from tunestack_train.presets import DEFAULTS, REHEARSAL_MODEL, Value
from tunestack_train.progress import Console
from tunestack_train.record import RUN_FILE, Record, differences, model_sha256, read_record
from tunestack_train.resolve import Layer, Resolved, resolve
from tunestack_train.secret_files import read_secret
from tunestack_train.settings import SETTINGS, RunConfig

_WEIGHTS: Final = "adapter_model.safetensors"
_TEMPLATE: Final = "given-template.jinja"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "rerun",
        help="repeat a run from its folder",
        description=(
            f"Repeats a run from the {RUN_FILE} in its folder: the same settings, data and model, under another name. "
            "Files and the environment set nothing. On the same software and device the adapter is the same, bit for "
            "bit; what differs is said before the first step."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="folder of a run, of one of its checkpoints, or of its adapter")
    parser.add_argument("--name", help="name of the new run; without one, that of the old with -rerun after it")
    parser.add_argument("--data", help="where the same data lies now, if it was moved")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting that does not change the result"
    )
    parser.add_argument("--dry-run", action="store_true", help="check that the run can be repeated, and train nothing")
    parser.add_argument("--json", action="store_true", help="report as one JSON object on standard output")
    parser.set_defaults(execute=execute)
    return parser


def execute(options: argparse.Namespace) -> int:
    record = read_record(options.folder)
    resolved = _resolve(options, record)
    console = Console(sys.stderr if options.json else sys.stdout)
    _require_same_data(record, resolved.config)
    _require_same_model(record, resolved.config, console)
    _say_differences(record, resolved.config, console)
    if options.dry_run:
        return dry_run.show(resolved, as_json=options.json)
    _put_template(record, resolved.config)
    finished = run.train(resolved, as_json=options.json)
    _compare(options.folder, finished.adapter, console)
    return 0


def _resolve(options: argparse.Namespace, record: Record) -> Resolved:
    """The recorded settings. Raises SettingsProblems for what a repetition may not change."""
    source = str(options.folder / RUN_FILE)
    values = {key: value for key, value in record.config.items() if isinstance(value, str | int | float | bool)}
    values["name"] = f"{values.get('name', 'run')}-rerun"
    if record.model_commit is not None:
        # A branch may have moved on since.
        values["model_revision"] = record.model_commit
    if values.get("chat_template", "auto") != "auto":
        folders = run.folders()
        values["chat_template"] = str(folders.checkpoints / (options.name or str(values["name"])) / _TEMPLATE)
    added = assignments_layer(options.set)
    problems = [
        Problem(
            key, repr(value), "changes the result, so this would be no repetition", "start a run with --set instead"
        )
        for key, value in added.values.items()
        if key in SETTINGS and SETTINGS[key].changes_result
    ]
    if problems:
        raise SettingsProblems([*added.problems, *problems])
    given: dict[str, Value] = {} if options.data is None else {"data": options.data}
    return resolve(options.name, None, [Layer(source, values), Layer("command line", given), added])


def _require_same_data(record: Record, config: RunConfig) -> None:
    cache = ContentCache(default_folder())
    data = load(config.data, config.data_format, drop_bad_rows=config.bad_rows == "drop", cache=cache)
    if data.sha256 != record.data_sha256:
        raise DataError(
            f"{config.data} is not the data of the run: its sha256 is {data.sha256}, that of the run's was "
            f"{record.data_sha256} ({record.data.get('rows')} rows of {record.data.get('format')})",
            "give the place of the data as it was: --data PATH",
        )


def _require_same_model(record: Record, config: RunConfig, console: Console) -> None:
    if config.model == REHEARSAL_MODEL or record.model_sha256 is None:
        return
    folder = locate_model(config.model, config.model_revision, read_secret("hf-token", "HF_TOKEN"), console.say)
    if model_sha256(folder) != record.model_sha256:
        raise ModelUnavailableError(
            f"{config.model} is not the model of the run: its files have other names, sizes or contents",
            "put the model's files back as they were, or start a new run with --model",
        )


def _say_differences(record: Record, config: RunConfig, console: Console) -> None:
    changed = differences(record, choose_device(config.device, config.precision).name)
    missing = [key for key in DEFAULTS if key not in record.config]
    for line in [*changed, *(f"{key} was no setting then, now {DEFAULTS[key]}" for key in missing)]:
        console.say(f"note: not as it was: {line}")
    console.say(
        "note: the adapter may differ in its last bits for that"
        if changed
        else "the software and the device are those of the run: the same adapter is to be expected, bit for bit"
    )


def _put_template(record: Record, config: RunConfig) -> None:
    """A template that was given as a file may be gone; its text is in the record."""
    if config.chat_template == "auto" or record.template is None:
        return
    path = Path(config.chat_template)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.template, encoding="utf-8")


def _compare(original: Path, adapter: Path, console: Console) -> None:
    """Says whether the new adapter is that of the original, where that was finished."""
    for folder in (original / "adapter", original):
        if (folder / _WEIGHTS).is_file() and not folder.name.startswith("checkpoint-"):
            same = (folder / _WEIGHTS).read_bytes() == (adapter / _WEIGHTS).read_bytes()
            console.say(f"the adapter {'is that of' if same else 'differs from that of'} {folder}, bit for bit")
            return
