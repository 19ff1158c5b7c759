"""Access by token and key: what works, and what is said for each way in which it does not."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from git_server import GitServer
from queue_site import BRANCH, Site, git, wait_for
from tunestack_train.errors import SettingsError
from tunestack_train.experiments.access import Access, explain, page_of
from tunestack_train.experiments.redaction import Redactor

TOKEN = "token-of-the-tests-123"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path).make()
    yield made
    made.end()


@pytest.fixture
def server(site: Site) -> Iterator[GitServer]:
    started = GitServer(site.folder, token=TOKEN).start()
    yield started
    started.stop()


def secrets_in(site: Site, **files: str) -> Path:
    folder = site.folder / "secrets"
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        path = folder / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o600)
    return folder


def check(site: Site, url: str, secrets: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tunestack_train.experiments", "access", f"--repository={url}"]
    return subprocess.run(
        [*command, f"--state={site.folder / 'checking'}", f"--secrets={secrets}"],
        env=site.environment(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_token_from_a_file_runs_an_experiment_over_http(site: Site, server: GitServer) -> None:
    site.push([{"name": "work", "command": "env; cat /proc/$PPID/environ | tr '\\0' '\\n'"}])
    secrets = secrets_in(site, git_token=TOKEN + "\n")
    done = site.once("first", f"--secrets={secrets}", url=server.url("server.git"))
    assert done.returncode == 0, done.stderr
    assert site.status("work") == "completed"
    assert TOKEN not in done.stdout + done.stderr + site.shown("work", "execution.log") + site.shown("work")
    kept = [path for path in (site.folder / "first").rglob("*") if path.is_file()]
    assert kept
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()], "the token is in no file of the runner"


def test_the_token_may_come_from_the_environment_and_is_in_no_argument(site: Site, server: GitServer) -> None:
    site.push([{"name": "work", "command": "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"}])
    done = site.once("first", environment={"GIT_TOKEN": TOKEN}, url=server.url("server.git"))
    assert done.returncode == 0, done.stderr
    assert TOKEN not in (site.outputs / "work" / "execution.log").read_text()
    assert "tunestack_train.experiments" in (site.outputs / "work" / "execution.log").read_text()


def test_access_can_be_tried_and_leaves_nothing(site: Site, server: GitServer) -> None:
    done = check(site, server.url("server.git"), secrets_in(site, git_token=TOKEN))
    assert done.returncode == 0, done.stderr
    assert "can be read and written" in done.stdout
    assert site.refs("runners") == []


@pytest.mark.parametrize("token", [None, "wrong-token"])
def test_a_missing_and_a_wrong_token(site: Site, server: GitServer, token: str | None) -> None:
    secrets = secrets_in(site, **({} if token is None else {"git_token": token}))
    done = check(site, server.url("server.git"), secrets)
    assert done.returncode == 7
    assert ("wants a token, and there is none" if token is None else "does not accept the token") in done.stderr
    assert "git-token" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_that_may_only_read(site: Site, server: GitServer) -> None:
    server.may_write = False
    done = check(site, server.url("server.git"), secrets_in(site, git_token=TOKEN))
    assert done.returncode == 7
    assert "give it write access" in done.stderr


def test_a_runner_that_runs_once_does_not_wait_for_a_right_that_it_lacks(site: Site, server: GitServer) -> None:
    server.may_write = False
    site.push([{"name": "work", "command": "true"}])
    secrets = secrets_in(site, git_token=TOKEN)
    done = site.once("first", f"--secrets={secrets}", url=server.url("server.git"))
    assert done.returncode == 7
    assert "give it write access" in done.stderr
    assert site.status("work") == "pending"


def test_a_repository_that_is_not_there(site: Site, server: GitServer) -> None:
    done = check(site, server.url("other.git"), secrets_in(site, git_token=TOKEN))
    assert done.returncode == 7
    assert "there is no repository at" in done.stderr
    done = check(site, str(site.folder / "nowhere"), secrets_in(site))
    assert "there is no repository at" in done.stderr


def test_a_server_that_is_not_there(site: Site, server: GitServer) -> None:
    url = server.url("server.git")
    server.stop()
    done = check(site, url, secrets_in(site))
    assert done.returncode == 7
    assert "cannot be reached" in done.stderr


def test_a_branch_that_may_not_be_pushed(site: Site) -> None:
    hook = site.server / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'the branch is protected' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = check(site, str(site.server), secrets_in(site))
    assert done.returncode == 7
    assert "does not let the runner change" in done.stderr


def test_refs_that_the_server_hides(site: Site) -> None:
    git(site.server, "config", "receive.hideRefs", "refs/tunestack")
    done = check(site, str(site.server), secrets_in(site))
    assert done.returncode == 7
    assert "refs/tunestack/" in done.stderr
    assert "receive.hideRefs" in done.stderr


def test_a_password_in_the_address_is_refused_and_not_repeated(site: Site) -> None:
    for url in (f"https://person:{TOKEN}@git.example.com/a.git", f"https://{TOKEN}@git.example.com/a.git"):
        done = check(site, url, secrets_in(site))
        assert done.returncode == 2
        assert "holds a user or password" in done.stderr
        assert TOKEN not in done.stdout + done.stderr


def test_a_running_runner_outlives_a_token_that_expires(site: Site, server: GitServer) -> None:
    secrets = secrets_in(site, git_token=TOKEN)
    site.push([])
    site.start("first", f"--secrets={secrets}", url=server.url("server.git"))
    wait_for(lambda: site.refs("runners"))
    server.token = "a-new-token-456"
    wait_for(lambda: "does not accept the token" in site.said())
    site.push([{"name": "work", "command": "true"}])
    (secrets / "git-token").write_text("a-new-token-456")
    wait_for(lambda: site.status("work") == "completed")
    assert "answers again" in site.said()


def test_ssh_gets_key_and_known_hosts_and_never_asks(site: Site) -> None:
    """In place of ssh a program that notes its arguments and runs git's side of the connection here."""
    programs = site.folder / "programs"
    programs.mkdir()
    noted = site.folder / "noted"
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$@" >> {noted}\nfor last; do :; done\nexec sh -c "$last"\n')
    ssh.chmod(0o755)
    secrets = secrets_in(site, git_ssh_key="not a real key\n", git_known_hosts="git.example.com ssh-ed25519 AAAA\n")
    site.push([{"name": "work", "command": "echo done"}])
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    url = f"ssh://git@git.example.com{site.server}"
    done = site.once("first", f"--secrets={secrets}", environment=path, url=url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.status("work") == "completed"
    first = noted.read_text().splitlines()[0]
    for wanted in (
        f"-i {secrets}/git-ssh-key",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        f"{secrets}/git-known-hosts",
    ):
        assert wanted in first


def test_a_key_that_others_can_read_is_refused_by_its_name(site: Site) -> None:
    secrets = secrets_in(site, git_ssh_key="key\n")
    (secrets / "git-ssh-key").chmod(0o644)
    done = check(site, "git@git.example.com:a/b.git", secrets)
    assert done.returncode == 2
    assert "mode 644" in done.stderr
    assert f"chmod 600 {secrets}/git-ssh-key" in done.stderr


def test_a_key_from_the_environment_is_kept_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSH_KEY", "the key's text")
    access = Access("git@git.example.com:a/b.git", tmp_path / "private", secrets=tmp_path / "none")
    access.check()
    command = access.environment()["GIT_SSH_COMMAND"]
    key = tmp_path / "private" / "ssh-key"
    assert f"-i '{key}'" in command
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert "the key's text" not in "".join(access.environment().values())


# What the programs print, from their sources: OpenSSH (sshconnect.c, authfile.c), libcurl, GitHub and GitLab.
SAID = {
    "Host key verification failed.\nfatal: Could not read from remote repository.": ("is not known", True),
    "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.": ("in between", True),
    "WARNING: UNPROTECTED PRIVATE KEY FILE!\nPermissions 0644 for 'k' are too open.": ("read by others", True),
    'Load key "/run/secrets/git-ssh-key": error in libcrypto\ngit@h: Permission denied (publickey).': (
        "cannot be read",
        True,
    ),
    "git@h.example: Permission denied (publickey).\nfatal: Could not read from remote repository.": (
        "no other is given",
        True,
    ),
    "ERROR: Repository not found.\nfatal: Could not read from remote repository.": ("no repository", True),
    "remote: error: GH006: Protected branch update failed for refs/heads/gpu-experiments.": ("change the branch", True),
    "remote: GitLab: You are not allowed to push code to protected branches on this project.": (
        "change the branch",
        True,
    ),
    "ERROR: The key you are authenticating with has been marked as read only.": ("does not let it", True),
    "fatal: unable to access 'https://h/': The requested URL returned error: 403": ("does not let it", True),
    "remote: HTTP Basic: Access denied.\nfatal: Authentication failed for 'https://h/'": ("wants a token", True),
    "fatal: unable to access 'https://h/': Could not resolve host: h": ("cannot be reached", False),
    "fatal: unable to access 'https://h/': The requested URL returned error: 503": ("cannot be reached", False),
    "ssh: connect to host h port 22: Connection timed out": ("cannot be reached", False),
    "fatal: unable to access 'https://h/': SSL certificate problem: self-signed certificate": ("trusted", False),
    "fatal: unable to access 'https://h/': server certificate verification failed. CAfile: none": ("trusted", False),
    "fatal: detected dubious ownership in repository at '/srv/a.git'": ("another user", True),
    "error: file write error: No space left on device": ("full", False),
    "fatal: couldn't find remote ref refs/heads/gpu-experiments": ("not any more", False),
    "fatal: something new": ("something new", False),
}


@pytest.mark.parametrize("said", SAID)
def test_what_git_says_is_told_with_a_remedy(said: str) -> None:
    message, lasting = SAID[said]
    error = explain(said, Access("https://h.example/a/b.git", Path("/nowhere")), "push")
    assert message in error.message
    assert error.remedy
    assert error.lasting is lasting
    assert "{" not in error.message + error.remedy


def test_what_to_do_about_a_host_key_names_the_port() -> None:
    said = "Host key verification failed."
    addresses = {
        "ssh://git@h.example:2222/a.git": "`ssh-keyscan -p 2222 h.example`",
        "git@h.example:a.git": "`ssh-keyscan h.example`",
    }
    for address, command in addresses.items():
        assert command in explain(said, Access(address, Path("/nowhere")), "fetch").remedy


def test_a_key_that_is_given_is_told_from_none(tmp_path: Path) -> None:
    said = "git@h.example: Permission denied (publickey)."
    (tmp_path / "git-ssh-key").write_text("a key\n")
    with_key = explain(said, Access("git@h.example:a.git", tmp_path, secrets=tmp_path), "fetch")
    without = explain(said, Access("git@h.example:a.git", tmp_path, secrets=tmp_path / "none"), "fetch")
    assert "does not accept the SSH key" in with_key.message
    assert "no other is given" in without.message


@pytest.mark.parametrize(
    ("address", "page"),
    [
        ("https://h.example/me/work.git", "https://h.example/me/work"),
        ("http://h.example:3000/me/work/", "http://h.example:3000/me/work"),
        ("git@h.example:me/work.git", "https://h.example/me/work"),
        ("ssh://git@h.example:2222/me/work.git", "https://h.example/me/work"),
        ("/srv/work.git", None),
        ("file:///srv/work.git", None),
    ],
)
def test_the_page_of_a_repository(address: str, page: str | None) -> None:
    assert page_of(address) == page


def test_secrets_are_redacted_by_value_and_by_form() -> None:
    redactor = Redactor(["s3cret-value", "short"])
    text = "s3cret-value short https://me:pw@h/x ghp_" + "a" * 36 + " https://hooks.slack.com/services/T0/B0/xyz"
    shown = redactor.text(text)
    assert shown == "*** short https://***@h/x *** https://hooks.slack.com/services/***"


def test_a_folder_that_another_runner_uses(site: Site) -> None:
    site.start()
    wait_for(lambda: site.refs("runners"))
    done = site.once()
    assert done.returncode == 2
    assert "another runner works in" in done.stderr


def test_an_address_is_needed() -> None:
    with pytest.raises(SettingsError):
        Access("--upload-pack=x", Path("/nowhere")).check()


def test_the_branch_s_name_is_in_the_messages(site: Site) -> None:
    git(site.server, "update-ref", "-d", f"refs/heads/{BRANCH}")
    done = site.once()
    assert "there is no branch gpu-experiments" in done.stdout
