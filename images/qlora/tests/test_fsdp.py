"""A base model that two processes share out: the run that each of them would have trained with the whole of it."""

import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from conftest import Workplace, conversations, write_jsonl
from test_processes import TORCHRUN, launch, status, weights
from tunestack_train.errors import SettingsError
from tunestack_train.logs import read_metrics
from tunestack_train.processes import Processes
from tunestack_train.sharding import require_possible

if TYPE_CHECKING:
    from tunestack_train.presets import Value

# Trains the same run three times in each of two processes: whole, shared out, and begun whole but ended shared out.
_TRAIN = """
import sys
from pathlib import Path
sys.path.insert(0, TESTS)
from conftest import Workplace, set_up_libraries
set_up_libraries()
from test_training import StopAfter
from tunestack_train.errors import StopRequested
from tunestack_train.run import Folders
folder = Path(sys.argv[1])
place = Workplace(Folders(folder / "checkpoints", folder / "logs", folder / "hub" / "tunestack"), Path(sys.argv[2]))
settings = {"max_steps": 6, "save_steps": 3, "lora_r": 8, "eval_data": sys.argv[3]}
said = [place.run_here(name, distributed=name, **settings)[1] for name in ("ddp", "fsdp")]
try:
    place.run_here("both", distributed="ddp", stop=StopAfter(8), **settings)
except StopRequested:
    said.append(place.run_here("both", distributed="fsdp", **settings)[1])
print("".join(said))
"""


def _metrics(workplace: Workplace, name: str) -> Path:
    return workplace.folders.logs / name / "metrics.jsonl"


def _trained_steps(workplace: Workplace, name: str) -> list[dict[str, object]]:
    return [entry for entry in read_metrics(_metrics(workplace, name)) if "loss" in entry]


@pytest.fixture(scope="module")
def trained(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the program said. Of five rows to evaluate on, the processes take two batches and one."""
    folder = tmp_path_factory.mktemp("fsdp")
    held_out = write_jsonl(folder / "held-out.jsonl", conversations(65)[60:])
    program = folder / "train.py"
    program.write_text(f"TESTS = {str(Path(__file__).parent)!r}\n{_TRAIN}", encoding="utf-8")
    done = subprocess.run(
        [*TORCHRUN, str(program), str(workplace.folders.logs.parent), str(workplace.data), str(held_out)],
        env=workplace.environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_process_keeps_half_of_the_layers(trained: str) -> None:
    assert "base model shared out: 324.0 KiB of its decoder layers' 648.0 KiB in this process" in trained


def test_a_model_shared_out_learns_what_a_whole_one_learns(workplace: Workplace, trained: str) -> None:
    assert weights(workplace, "fsdp") == weights(workplace, "ddp")

    wanted = ("step", "loss", "grad_norm", "eval_loss")
    each = [
        [{key: entry.get(key) for key in wanted} for entry in read_metrics(_metrics(workplace, name))]
        for name in ("ddp", "fsdp")
    ]
    assert each[0] == each[1]
    assert sum(entry["eval_loss"] is not None for entry in each[0]) == 2


def test_a_run_goes_on_shared_out_where_it_was_stopped_whole(workplace: Workplace, trained: str) -> None:
    assert "going on after step" in trained
    assert weights(workplace, "both") == weights(workplace, "ddp")


def test_a_shared_out_run_survives_a_kill_and_a_stop(workplace: Workplace, trained: str) -> None:
    settings: dict[str, Value] = {"max_steps": 6, "save_steps": 3, "distributed": "fsdp"}
    launched = launch(workplace, "shared-broken", "--max-restarts=1", **settings)
    launched.wait_for_step(3)
    launched.signal_rank(1, signal.SIGKILL)
    launched.wait_for_step(4)
    launched.process.send_signal(signal.SIGTERM)
    launched.end()
    told = status(workplace, "shared-broken")
    assert (told["state"], told["exit_code"]) == ("stopped", 75)
    code, out, err = launch(workplace, "shared-broken", **settings).end()
    assert code == 0, err
    assert f"going on after step {told['step']}" in out
    assert weights(workplace, "shared-broken") == weights(workplace, "fsdp")
    unbroken = [(entry["step"], entry["loss"]) for entry in _trained_steps(workplace, "fsdp")]
    assert [(entry["step"], entry["loss"]) for entry in _trained_steps(workplace, "shared-broken")] == unbroken


def test_one_process_has_nobody_to_share_with(workplace: Workplace) -> None:
    with pytest.raises(SettingsError, match="distributed = fsdp: this run has one process"):
        workplace.run_here("alone", distributed="fsdp")


def test_a_launcher_that_would_share_out_itself_is_told_of_the_setting() -> None:
    two = Processes(count=2)
    require_possible("fsdp", two, {"ACCELERATE_USE_FSDP": "false"})
    require_possible("ddp", two, {})
    with pytest.raises(SettingsError, match=r"FSDP \(ACCELERATE_USE_FSDP=true\)") as refused:
        require_possible("ddp", two, {"ACCELERATE_USE_FSDP": "true"})
    assert "--set distributed=fsdp" in refused.value.remedy
