"""The parts of training-backup that can be tested without a repository."""

import json
import time
from pathlib import Path

import pytest

from tunestack_train.backup.aside import aside, remove_leftovers
from tunestack_train.backup.cli import parser, settings_environment
from tunestack_train.backup.contents import Survey, escape
from tunestack_train.backup.errors import BusyError, NetworkError, NothingThereError, RepositoryError
from tunestack_train.backup.locks import using
from tunestack_train.backup.repository import clear_dead_locks
from tunestack_train.backup.restic import Output, Restic, explain
from tunestack_train.backup.settings import Settings, load
from tunestack_train.backup.status import StatusFile, iso
from tunestack_train.errors import DiskFullError, SettingsError, TunestackError
from tunestack_train.manifest import problems, write_manifest


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "backup").mkdir()
    (tmp_path / "restic-password").write_text("x\n")
    return {
        "TUNESTACK_CHECKPOINTS_DIR": str(tmp_path / "checkpoints"),
        "TUNESTACK_LOGS_DIR": str(tmp_path / "logs"),
        "TUNESTACK_GGUF_DIR": str(tmp_path / "gguf"),
        "TUNESTACK_BACKUP_DIR": str(tmp_path / "backup"),
        "TUNESTACK_SECRETS_DIR": str(tmp_path),
    }


@pytest.fixture
def settings(environment: dict[str, str]) -> Settings:
    return load(environment)


def test_the_defaults(settings: Settings, tmp_path: Path) -> None:
    assert (settings.repository, settings.local, settings.cache) == (str(tmp_path / "backup" / "restic"), True, None)
    assert (settings.interval, settings.drill_interval) == (3600, 86400)
    assert settings.keep == {"last": 6, "hourly": 24, "daily": 7, "weekly": 4}


@pytest.mark.parametrize(
    ("environment_says", "options", "kept"),
    [
        (None, [], "last=6,hourly=24,daily=7,weekly=4"),
        (None, ["--keep-last=2", "--keep-weekly=0"], "last=2,hourly=24,daily=7"),
        ("last=1", ["--keep-monthly=3"], "last=1,monthly=3"),
        ("last=0", [], ""),
    ],
)
def test_retention_comes_from_the_environment_and_options_change_it(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    environment_says: str | None,
    options: list[str],
    kept: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if environment_says is not None:
        monkeypatch.setenv("TUNESTACK_BACKUP_KEEP", environment_says)
    settings = load(settings_environment(parser().parse_args(["serve", *options])))
    assert ",".join(f"{kind}={number}" for kind, number in settings.keep.items()) == kept


def test_an_object_store_has_a_cache_and_shows_no_password(environment: dict[str, str], tmp_path: Path) -> None:
    settings = load({**environment, "RESTIC_REPOSITORY": "s3:https://key:secret@host/bucket"})
    assert (settings.local, settings.cache) == (False, tmp_path / "backup" / "cache")
    assert settings.shown_repository == "s3:https://host/bucket"


def test_all_problems_are_told_at_once(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "restic-password").write_text("\n")
    bad = {
        **environment,
        "TUNESTACK_BACKUP_DIR": str(tmp_path / "none"),
        "TUNESTACK_BACKUP_INTERVAL": "1 hour",
        "TUNESTACK_BACKUP_KEEP": "last=6,dayly=7",
        "RESTIC_REPOSITORY": "sftp:host:/x",
    }
    with pytest.raises(SettingsError) as caught:
        load(bad)
    for part in (
        f"the backup folder {tmp_path / 'none'} does not exist",
        "TUNESTACK_BACKUP_INTERVAL: '1 hour' is no duration",
        "TUNESTACK_BACKUP_KEEP has 'dayly=7'",
        "RESTIC_REPOSITORY is 'sftp:host:/x'",
        f"the password file {tmp_path / 'restic-password'} is empty",
    ):
        assert part in caught.value.message


def test_a_backup_inside_what_it_saves_is_refused(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "logs" / "backup").mkdir(parents=True)
    with pytest.raises(SettingsError, match="is inside"):
        load({**environment, "TUNESTACK_BACKUP_DIR": str(tmp_path / "logs" / "backup")})


# What restic 0.14 prints, as it was seen.
S3_DOWN = (
    'Fatal: unable to open config file: Stat: Get "http://127.0.0.1:1/b/?location=": dial tcp 127.0.0.1:1: connect: '
    "connection refused\nIs there a repository at the following location?\ns3:http://127.0.0.1:1/b\n"
)
NO_SPACE = "Fatal: unable to save snapshot: write /backup/restic/data/f5/f59-tmp-290: no space left on device\n"
LOCKED = (
    "unable to create lock in backend: repository is already locked by PID 28471 on vm by root (UID 0, GID 0)\n"
    "lock was created at 2026-11-23 22:18:13 (5.01s ago)\nstorage ID c6ce2cc8\n"
)
DAMAGED = "pack 3cff: unexpected file size: got 100, expected 121\nFatal: repository contains errors\n"
NO_REPOSITORY = (
    "Fatal: unable to open config file: stat r/config: no such file or directory\n"
    "Is there a repository at the following location?\n"
)
DENIED = "Fatal: unable to open config file: Stat: Access Denied.\n"
NO_CREDENTIALS = "Fatal: getStorageClient: google: could not find default credentials."
NO_KEY = "Fatal: unable to open config file: Stat: The specified key does not exist."


@pytest.mark.parametrize(
    ("repository", "stderr", "kind", "told"),
    [
        ("s3:http://127.0.0.1:1/b", S3_DOWN, NetworkError, "connection refused"),
        ("s3:host/b", DENIED, SettingsError, "Access Denied"),
        (
            "gs:b:/",
            NO_CREDENTIALS,
            SettingsError,
            "credentials",
        ),
        (
            "s3:host/b",
            NO_KEY,
            NothingThereError,
            "no repository",
        ),
        ("/r", NO_SPACE, DiskFullError, "no space left on device"),
        ("/r", LOCKED, BusyError, "PID 28471 on vm"),
        ("/r", "Fatal: wrong password or no key found\n", RepositoryError, "password"),
        ("/r", DAMAGED, RepositoryError, "is damaged: pack 3cff: unexpected file size: got 100, expected 121"),
        ("/r", NO_REPOSITORY, NothingThereError, "there is no repository at /r"),
        ("/r", 'invalid id "abcd": no matching ID found for prefix "abcd"', NothingThereError, "no matching ID"),
        ("/r", "", RepositoryError, "restic ended with code 1"),
    ],
)
def test_what_restic_says_is_explained(
    environment: dict[str, str], repository: str, stderr: str, kind: type[TunestackError], told: str
) -> None:
    settings = load({**environment, "RESTIC_REPOSITORY": repository})
    error = explain(Output(1, "", stderr), settings)
    assert type(error) is kind
    assert told in error.message
    assert error.remedy


def make_checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"w")
    write_manifest(folder)
    return folder


def test_only_what_has_changed_is_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (make_checkpoint(tmp_path / "run" / f"checkpoint-{step}") for step in (1, 2))
    hashed: list[Path] = []

    def count(folder: Path) -> list[str]:
        hashed.append(folder)
        return problems(folder)

    monkeypatch.setattr("tunestack_train.backup.contents.problems", count)
    survey = Survey({"checkpoints": tmp_path})
    assert survey.look().complete == {
        path: {"manifest.json": (path / "manifest.json").stat().st_size, "weights": 1} for path in (first, second)
    }
    assert hashed == [first, second]
    survey.look()
    assert hashed == [first, second]
    (second / "weights").write_bytes(b"W")
    assert list(survey.look().complete) == [first]
    assert hashed == [first, second, second]


@pytest.mark.parametrize(
    ("name", "worthwhile"),
    [
        ("checkpoints/run/checkpoint-5", True),
        ("checkpoints/run/adapter", True),
        ("checkpoints/run/.checkpoint-5.partial", False),
        ("checkpoints/run/checkpoint-5.damaged", False),
        ("checkpoints/.restore-x/checkpoint-5", False),
        ("logs/run", False),
    ],
)
def test_what_is_worth_a_snapshot(tmp_path: Path, name: str, worthwhile: bool) -> None:
    make_checkpoint(tmp_path / name)
    survey = Survey({"checkpoints": tmp_path / "checkpoints", "logs": tmp_path / "logs", "gguf": tmp_path / "gguf"})
    assert survey.look().worthwhile is worthwhile


def test_a_path_becomes_a_pattern_of_itself_alone() -> None:
    assert escape(Path("/a/b[1]*?\\q")) == "/a/b\\[1]\\*\\?\\\\q"


def test_a_folder_in_use_is_no_leftover(tmp_path: Path) -> None:
    (tmp_path / ".drill-old" / "locked").mkdir(parents=True)
    (tmp_path / ".drill-old" / "locked").chmod(0o500)
    with aside(tmp_path, ".drill-") as folder:
        assert not (tmp_path / ".drill-old").exists()
        (folder / "file").write_text("x")
        assert remove_leftovers(tmp_path, ".drill-") == []
        assert (folder / "file").exists()
    assert list(tmp_path.iterdir()) == []


def never() -> bool:
    return False


def test_locks_let_readers_in_together_and_writers_one_by_one(tmp_path: Path) -> None:
    with using(tmp_path, never, writer=True, wait=0) as writer, using(tmp_path, never, writer=False, wait=0) as reader:
        with pytest.raises(BusyError, match="another backup"), using(tmp_path, never, writer=True, wait=0.1):
            pass
        with pytest.raises(BusyError, match="a restore or drill"), writer.alone(0.1):
            pass
        assert len(reader.descriptors) == 1
    with (
        using(tmp_path, never, writer=True, wait=0) as writer,
        writer.alone(0),
        pytest.raises(BusyError, match="being checked"),
        using(tmp_path, never, writer=False, wait=0.1),
    ):
        pass


class LockedRestic(Restic):
    """A repository with locks that restic itself takes for alive."""

    def __init__(self, settings: Settings, hostname: str, age: float) -> None:
        super().__init__(settings, (), never, print)
        self._lock = {"hostname": hostname, "time": iso(time.time() - age), "pid": 7}

    def run(self, *arguments: str, **_: object) -> Output:
        return Output(0, json.dumps(self._lock) if arguments[:2] == ("cat", "lock") else "", "")


@pytest.mark.parametrize(
    ("hostname", "age", "left"),
    [("another-machine", 60, 1), ("another-machine", 400, 0), ("our-container-before", 60, 0)],
)
def test_a_lock_is_removed_only_if_its_holder_must_be_dead(
    settings: Settings, hostname: str, age: float, left: int
) -> None:
    locks = Path(settings.repository) / "locks"
    locks.mkdir(parents=True)
    (locks / "abc").write_text("")
    restic = LockedRestic(settings, hostname, age)
    folder = settings.backup / ".locks"
    with using(folder, never, writer=True, wait=0) as use:
        (folder / "hosts").write_text("our-container-before\n")
        with using(folder, never, writer=False, wait=0):
            clear_dead_locks(restic, use)
            assert len(list(locks.iterdir())) == 1  # somebody restores: nothing is touched
        clear_dead_locks(restic, use)
    assert len(list(locks.iterdir())) == left


def test_a_status_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []
    status = StatusFile(tmp_path / "none" / "status.json", tmp_path / "lock", said.append)
    status.update(state="idle")
    status.update(state="idle")
    assert len(said) == 1
    assert "cannot be written" in said[0]
    assert status.read()["state"] == "starting"
