"""One run trained by two processes under torchrun, over gloo: killed or stopped, and as good as the unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from conftest import Workplace
from tunestack_train.errors import SettingsError
from tunestack_train.logs import read_metrics
from tunestack_train.manifest import newest_complete, problems
from tunestack_train.presets import Value
from tunestack_train.processes import Processes, ProcessLostError

SHORT: dict[str, Value] = {"max_steps": 10, "save_steps": 3, "lora_r": 8}


# The address of its own that torchrun tells its processes: without a network, a host's name leads nowhere.
TORCHRUN: Sequence[str] = (
    *(sys.executable, "-m", "torch.distributed.run"),
    *("--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"),
)

ACCELERATE: Sequence[str] = (
    *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"),
    *("--mixed_precision=no", "--dynamo_backend=no", "--main_process_ip=127.0.0.1", "--main_process_port=0"),
)


@dataclass
class Launched:
    """torchrun with the processes of one run."""

    process: subprocess.Popen[str]
    metrics: Path

    def wait_for_step(self, step: int) -> None:
        while not any(entry["step"] == step for entry in read_metrics(self.metrics)):
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)

    def signal_rank(self, rank: int, number: signal.Signals) -> None:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="utf-8")
        for child in children.split():
            environment = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
            if f"RANK={rank}".encode() in environment:
                os.kill(int(child), number)
                return
        pytest.fail(f"torchrun has no process of rank {rank}")

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=240)
        return self.process.returncode, out, err


def launch(workplace: Workplace, name: str, *torchrun: str, **settings: Value) -> Launched:
    command = [
        *TORCHRUN,
        *torchrun,
        *("-m", "tunestack_train", *workplace.arguments(name, **SHORT | settings)),
    ]
    process = subprocess.Popen(
        command,
        env=workplace.environment() | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Launched(process, workplace.folders.logs / name / "metrics.jsonl")


def weights(workplace: Workplace, name: str) -> bytes:
    return (workplace.folders.checkpoints / name / "adapter" / "adapter_model.safetensors").read_bytes()


def losses(workplace: Workplace, name: str) -> list[tuple[object, object]]:
    entries = read_metrics(workplace.folders.logs / name / "metrics.jsonl")
    return [(entry["step"], entry["loss"]) for entry in entries]


def status(workplace: Workplace, name: str) -> dict[str, object]:
    content = json.loads((workplace.folders.logs / name / "status.json").read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


@pytest.fixture(scope="module")
def unbroken(workplace: Workplace) -> str:
    code, out, err = launch(workplace, "two-unbroken").end()
    assert code == 0, err
    assert "Traceback" not in err
    assert "batch: 2 x 2 accumulated x 2 processes = 8 sequences a step" in out
    # One process speaks for both.
    assert out.count("step 10/10") == 1
    assert out.count("two-unbroken finished: 10 steps") == 1
    return "two-unbroken"


def test_two_processes_leave_what_one_leaves(workplace: Workplace, unbroken: str) -> None:
    assert [step for step, _ in losses(workplace, unbroken)] == list(range(1, 11))
    folder = workplace.folders.checkpoints / unbroken
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == [
        "checkpoint-10",
        "checkpoint-6",
        "checkpoint-9",
    ]
    for checkpoint in folder.glob("checkpoint-*"):
        assert problems(checkpoint) == []
        assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in checkpoint.iterdir()}
    assert json.loads((folder / "run.json").read_text(encoding="utf-8"))["processes"] == 2
    assert status(workplace, unbroken)["state"] == "completed"


def test_accelerate_launches_the_same_run(workplace: Workplace, unbroken: str) -> None:
    done = subprocess.run(
        [*ACCELERATE, "-m", "tunestack_train", *workplace.arguments("two-accelerated", **SHORT)],
        env=workplace.environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "batch: 2 x 2 accumulated x 2 processes = 8 sequences a step" in done.stdout
    assert weights(workplace, "two-accelerated") == weights(workplace, unbroken)
    assert losses(workplace, "two-accelerated") == losses(workplace, unbroken)


def test_each_process_reads_other_data(workplace: Workplace, unbroken: str) -> None:
    """With the same settings, two processes see twice the tokens of one in a step."""
    workplace.run_here("one-of-two", **SHORT | {"max_steps": 1})
    alone = read_metrics(workplace.folders.logs / "one-of-two" / "metrics.jsonl")[0]
    both = read_metrics(workplace.folders.logs / unbroken / "metrics.jsonl")[0]
    assert alone["loss"] != both["loss"]
    assert 1.5 < float(str(both["num_tokens"])) / float(str(alone["num_tokens"])) < 2.5


def test_two_processes_learn_of_packed_rows_what_one_learns(workplace: Workplace) -> None:
    """The same rows in a step, shared out, weigh by their learnt tokens as they do in one process."""
    same: dict[str, Value] = {"packing": True, "max_length": 128, "max_steps": 2, "lora_dropout": 0.0}
    same |= {"precision": "float32", "load_in_4bit": False, "optim": "adamw_torch", "lora_r": 8}
    code, _, err = launch(workplace, "packed-by-two", gradient_accumulation_steps=1, **same).end()
    assert code == 0, err
    workplace.run_here("packed-by-one", gradient_accumulation_steps=2, **same)
    one, two = (
        read_metrics(workplace.folders.logs / f"packed-by-{count}" / "metrics.jsonl") for count in ("one", "two")
    )
    assert [entry["num_tokens"] for entry in one] == [entry["num_tokens"] for entry in two]
    for name in ("loss", "grad_norm", "entropy", "mean_token_accuracy"):
        figures = [[float(str(entry[name])) for entry in entries] for entries in (one, two)]
        assert figures[0] == pytest.approx(figures[1], rel=1e-3), name


def test_a_process_that_is_killed_is_replaced_and_the_run_goes_on(workplace: Workplace, unbroken: str) -> None:
    launched = launch(workplace, "two-killed", "--max-restarts=1")
    launched.wait_for_step(5)
    launched.signal_rank(1, signal.SIGKILL)
    code, out, err = launched.end()
    assert code == 0, err
    assert "going on after step 3" in out
    assert weights(workplace, "two-killed") == weights(workplace, unbroken)
    assert losses(workplace, "two-killed") == losses(workplace, unbroken)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_request_to_one_process_stops_all_after_the_same_step(workplace: Workplace, unbroken: str, rank: int) -> None:
    name = f"two-stopped-{rank}"
    launched = launch(workplace, name)
    launched.wait_for_step(4)
    launched.signal_rank(rank, signal.SIGTERM)
    code, _, err = launched.end()
    assert code == 1  # torchrun knows no other code for a process that ended with 75
    assert "exitcode  : 75" in err
    assert err.count("stopped on request after step") == 1
    told = status(workplace, name)
    assert (told["state"], told["exit_code"]) == ("stopped", 75)
    newest = newest_complete(workplace.folders.checkpoints / name)
    assert newest is not None
    assert newest.name == f"checkpoint-{told['step']}"
    code, out, err = launch(workplace, name).end()
    assert code == 0, err
    assert f"going on after step {told['step']}" in out
    assert weights(workplace, name) == weights(workplace, unbroken)
    assert losses(workplace, name) == losses(workplace, unbroken)


def test_a_request_to_the_launcher_saves_what_one_process_does_not_go_on_with(workplace: Workplace) -> None:
    launched = launch(workplace, "two-launcher")
    launched.wait_for_step(4)
    launched.process.send_signal(signal.SIGTERM)
    code, _, err = launched.end()
    assert code != 0
    told = status(workplace, "two-launcher")
    assert (told["state"], told["exit_code"]) == ("stopped", 75), err
    newest = newest_complete(workplace.folders.checkpoints / "two-launcher")
    assert newest is not None
    assert newest.name == f"checkpoint-{told['step']}"
    with pytest.raises(SettingsError, match="it was trained by 2 processes, now 1"):
        workplace.run_here("two-launcher", **SHORT)


def test_a_process_alone_does_everything_itself() -> None:
    alone = Processes.from_environment({})
    assert (alone.first, alone.several, alone.count) == (True, False, 1)
    assert alone.by_first(lambda: "done") == "done"
    assert (alone.largest(3), alone.gather("mine")) == (3, ["mine"])
    alone.wait()
    with pytest.raises(RuntimeError, match="Connection closed by peer"), alone.loss_named():
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(("count", "told"), [(1, "done\nfinalised\n"), (2, "done\n")])
def test_a_process_among_several_ends_without_finalisation(workplace: Workplace, count: int, told: str) -> None:
    """Python's finalisation races with gloo's threads: one process in thirty aborted there, its work done."""
    ending = (
        "import atexit; from tunestack_train.processes import Processes\n"
        "atexit.register(print, 'finalised'); print('done'); Processes.from_environment().end(75)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", ending],
        env=workplace.environment() | {"WORLD_SIZE": str(count)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (75, told, "")


def test_the_launcher_says_who_a_process_is() -> None:
    second = Processes.from_environment({"RANK": "9", "LOCAL_RANK": "1", "WORLD_SIZE": "16"})
    assert (second.rank, second.local_rank, second.count) == (9, 1, 16)
    assert (second.first, second.several) == (False, True)
    with pytest.raises(ProcessLostError, match="process 9 of 16 lost another process"), second.loss_named():
        raise RuntimeError("[../gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:9")


def test_an_earlier_start_s_calls_and_answers_mislead_nobody() -> None:
    """Three processes meet over one store twice, the second time with what the first left there."""
    from torch.distributed import HashStore

    store = HashStore()
    names: list[set[str]] = []
    for _ in range(2):
        store.set("call/2", "of one that died before it was answered")
        with ThreadPoolExecutor(3) as pool:
            met = [pool.submit(Processes(rank, rank, 3)._meet, store) for rank in range(3)]
            names.append({each.result(timeout=20) for each in met})
    assert [len(each) for each in names] == [1, 1]
    assert names[0] != names[1]


def test_a_process_that_never_comes_is_named() -> None:
    from torch.distributed import HashStore

    store = HashStore()
    store.set_timeout(timedelta(seconds=0.2))
    with pytest.raises(ProcessLostError, match="1 of 2 processes did not come \\(rank 1\\)"):
        Processes(0, 0, 2)._meet(store)


_DISAGREEING = """
import sys
from tunestack_train.errors import DiskFullError
from tunestack_train.processes import Processes
processes = Processes.from_environment()
processes.connect()
def fail():
    raise DiskFullError("the disk is full", "make room")
try:
    processes.by_first(fail)
except DiskFullError as error:
    told = error.told_by_first
results = (processes.rank, told, processes.by_first(lambda: processes.rank), processes.largest(processes.rank))
results = processes.gather(results)
processes.wait()
if processes.first:
    print(results)
"""


def test_what_fails_in_the_first_process_fails_in_all(workplace: Workplace, tmp_path: Path) -> None:
    program = tmp_path / "disagreeing.py"
    program.write_text(_DISAGREEING, encoding="utf-8")
    done = subprocess.run(
        [*TORCHRUN, str(program)],
        env=workplace.environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[(0, False, 0, 1), (1, True, 0, 1)]"
