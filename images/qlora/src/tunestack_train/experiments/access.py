"""Access to the git server: how git gets token or key, and what to do where it does not work."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Self
from urllib.parse import urlsplit

from tunestack_train.errors import SettingsError, TunestackError

_TOKEN_VARIABLE: Final = "GIT_TOKEN"  # noqa: S105 - a name
_KEY_VARIABLE: Final = "GIT_SSH_KEY"
_ASKING: Final = """#!/bin/sh
# Answers git's questions from the environment that the runner gives to git alone.
case "$1" in
  Username*) printf '%s\\n' "$TUNESTACK_GIT_USER" ;;
  *) printf '%s\\n' "$TUNESTACK_GIT_TOKEN" ;;
esac
"""
_TRIED_AGAIN: Final = "check network and address; a runner that goes on tries again by itself"
_NO_KEY: Final = "accepts none of this user's SSH keys, and no other is given"
_HIDDEN: Final = (_TOKEN_VARIABLE, _KEY_VARIABLE, "GIT_ASKPASS", "GIT_SSH_COMMAND", "TUNESTACK_WEBHOOK_URL")


class AccessError(TunestackError):
    """The git server cannot be used. `lasting`: only a person can mend it, so trying again is of no use by itself."""

    exit_code: ClassVar[int] = 7

    def __init__(self, message: str, remedy: str, *, lasting: bool) -> None:
        super().__init__(message, remedy)
        self.lasting = lasting

    @classmethod
    def unanswered(cls, access: "Access", seconds: float) -> Self:
        return cls(f"{access.shown} gave no answer within {seconds:g} s", _TRIED_AGAIN, lasting=False)


@dataclass(frozen=True)
class Access:
    """The server's address, and where token or key lie. Secrets are read anew each time, so they can be changed."""

    url: str
    private: Path
    user: str = "x-access-token"
    secrets: Path = Path("/run/secrets")

    @property
    def shown(self) -> str:
        """The address as it may be shown."""
        return self.url

    def check(self) -> None:
        """Raises SettingsError for an address that holds a password, or a key that ssh will not take."""
        parts = urlsplit(self.url)
        if parts.password is not None or (parts.scheme.startswith("http") and parts.username):
            host = parts.hostname or "the server"
            raise SettingsError(
                f"the address of the repository on {host} holds a user or password",
                f"write {parts.scheme}://{host}{parts.path}, and give the token as secret git-token "
                f"({self.secrets}/git-token) or in the environment as {_TOKEN_VARIABLE}",
            )
        if self.url.startswith("-") or not self.url.strip():
            raise SettingsError(f"{self.url!r} is no address of a repository", "give https://…, ssh://…, or a path")
        key = self._key_file()
        # As ssh does: whose file it is has to keep it from others; another's file is that one's business.
        if self._by_ssh() and key is not None and key.stat().st_uid == os.getuid() and key.stat().st_mode & 0o077:
            mode = f"{key.stat().st_mode & 0o777:03o}"
            raise SettingsError(
                f"the SSH key {key} can be read by others (mode {mode}), so ssh will not use it",
                f"chmod 600 {key}; for a secret that is mounted, give it mode 0400 and the runner's user",
            )

    def token(self) -> str | None:
        """The HTTPS token: file git-token, else the environment."""
        return self._secret("git-token", _TOKEN_VARIABLE)

    def has_key(self) -> bool:
        """Whether an SSH key is given. Without one ssh tries what the user has."""
        return self._key_file() is not None

    def all_secrets(self) -> list[str]:
        """What must never be seen in a log."""
        key = self._key_file()
        values = [self.token(), key.read_text() if key and os.access(key, os.R_OK) else None]
        others = ("HF_TOKEN", "WANDB_API_KEY", "TUNESTACK_WEBHOOK_URL")
        values += [os.environ.get(name) for name in others]
        values += [self._secret(name, "") for name in ("hf-token", "wandb-api-key", "webhook-url")]
        return [value for value in values if value]

    def environment(self) -> dict[str, str]:
        """The environment of a git that talks to the server. Token and key are in it by no argument."""
        environment = no_terminal(os.environ)
        token = self.token()
        ask = self.private / "askpass"
        if not ask.is_file():
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            ask.write_text(_ASKING)
            ask.chmod(0o700)
        environment |= {"GIT_ASKPASS": str(ask), "TUNESTACK_GIT_USER": self.user, "TUNESTACK_GIT_TOKEN": token or ""}
        if self._by_ssh() and "GIT_SSH_COMMAND" not in os.environ:
            environment["GIT_SSH_COMMAND"] = self._ssh()
        elif "GIT_SSH_COMMAND" in os.environ:
            environment["GIT_SSH_COMMAND"] = os.environ["GIT_SSH_COMMAND"]
        return environment

    def _by_ssh(self) -> bool:
        return self.url.startswith("ssh://") or re.match(r"[^/:]+@[^/:]+:", self.url) is not None

    def _ssh(self) -> str:
        # Never a question, never a host that nobody has vouched for.
        command = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30 -o ServerAliveInterval=15"
        key, hosts = self._key_file(), self.secrets / "git-known-hosts"
        if key is not None:
            command += f" -i '{key}' -o IdentitiesOnly=yes"
        if hosts.is_file():
            command += f" -o UserKnownHostsFile='{hosts}'"
        return command

    def _key_file(self) -> Path | None:
        file = self.secrets / "git-ssh-key"
        if file.is_file():
            return file
        given = os.environ.get(_KEY_VARIABLE, "").strip()
        if not given:
            return None
        own = self.private / "ssh-key"
        if not own.is_file():
            self.private.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(given + "\n")
        return own

    def _secret(self, name: str, variable: str) -> str | None:
        try:
            text = (self.secrets / name).read_text(encoding="utf-8").strip()
        except OSError:
            text = ""
        return text or (os.environ.get(variable, "").strip() if variable else "") or None


def no_terminal(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the runner's secrets, and with a git that asks nobody and speaks English."""
    kept = {
        key: value
        for key, value in environment.items()
        if key not in _HIDDEN and not key.startswith(("GIT_CONFIG", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX"))
    }
    return kept | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "SSH_ASKPASS": ""}


# Each: what git or the server says, what is wrong, what to do, and whether only a person can mend it.
_REASONS: Final[tuple[tuple[str, str, str, bool], ...]] = (
    (
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the SSH host key of {host} is another one than the known one: somebody may be in between",
        "ask whoever runs the server; if the new key is right, put the line of `ssh-keyscan {scan}` into secret "
        "git-known-hosts (or ~/.ssh/known_hosts) in place of the old one",
        True,
    ),
    (
        r"host key verification failed|no .*host key is known",
        "the SSH host key of {host} is not known",
        "compare its fingerprint with what the server publishes, then give the line of `ssh-keyscan {scan}` as secret "
        "git-known-hosts (or in ~/.ssh/known_hosts)",
        True,
    ),
    (
        r"unprotected private key|bad permissions",
        "the SSH key can be read by others, so ssh will not use it",
        "give the key file mode 0600 and the runner's user",
        True,
    ),
    (
        r"error in libcrypto|invalid format|load key",
        "the SSH key cannot be read",
        "give the private key whole, with its first and last line and a newline at the end, without a passphrase",
        True,
    ),
    (
        r"permission denied \(|publickey",
        "{host} {key}",
        "add its public key to the repository as a deploy key with write access; git-ssh-key holds the private one",
        True,
    ),
    (
        r"protected branch|GH006|not allowed to push|pre-receive hook declined|hook declined",
        "{host} does not let the runner change the branch, or its refs under refs/tunestack/: {line}",
        "allow pushes to the branch for this token or key (protected branches), or take another branch",
        True,
    ),
    (
        r"hidden ref|funny refname|refusing to create",
        "{host} does not accept refs under refs/tunestack/: {line}",
        "allow them (receive.hideRefs on your own server)",
        True,
    ),
    (
        r"returned error: 403|write access to repository not granted|permission to .* denied|read.only",
        "{host} knows the token or key but does not let it do this ({what})",
        "give it write access to the repository's contents",
        True,
    ),
    (
        r"authentication failed|could not read (?:username|password)|returned error: 401|invalid username or"
        r"|terminal prompts disabled|http basic: access denied",
        "{host} {token}",
        "give a token that is valid and has not expired, with write access, as secret git-token or in the environment "
        "as GIT_TOKEN",
        True,
    ),
    (
        r"repository not found|returned error: 404|not found|does not exist|no such file or directory"
        r"|does not appear to be a git repository|not a git repository",
        "there is no repository at {url}, or this token or key may not see it",
        "check the address; a server says the same of a private repository that it does not show",
        True,
    ),
    (
        r"couldn't find remote ref",
        "{host} has not any more what it had a moment ago: {line}",
        "nothing has to be done: it is looked at again",
        False,
    ),
    (
        r"dubious ownership",
        "git does not trust the repository {url}: it belongs to another user",
        "run the runner as its owner, or: git config --global --add safe.directory '{url}'",
        True,
    ),
    (
        r"ssl|tls|certificate|gnutls",
        "no trusted connection to {host}: {line}",
        "behind a proxy that looks into connections give its certificate (image.caCertificate); else check the clock "
        "and the server's certificate",
        False,
    ),
    (
        r"could not resolve|name or service not known|temporary failure|connection (?:refused|timed out|reset|closed)"
        r"|failed to connect|couldn't connect|network is unreachable|no route|operation timed out|early eof|hung up"
        r"|unexpected disconnect|returned error: 5\d\d|timed out|low.speed|rpc failed|http/2|broken pipe",
        "{host} cannot be reached: {line}",
        _TRIED_AGAIN,
        False,
    ),
    (
        r"no space left|disk quota",
        "the disk of the runner or of {host} is full: {line}",
        "make room",
        False,
    ),
)


def page_of(url: str) -> str | None:
    """The repository's page in a browser, where git hosts have it: git's address without `.git`. None for a path."""
    short = re.fullmatch(r"[^/:]+@([^/:]+):(?!/)(.+)", url)
    parts = urlsplit(f"ssh://{short[1]}/{short[2]}" if short else url)
    if parts.scheme not in {"http", "https", "ssh"} or not parts.hostname:
        return None
    # A port of ssh says nothing of that of the pages.
    scheme, port = ("https", None) if parts.scheme == "ssh" else (parts.scheme, parts.port)
    return (
        f"{scheme}://{parts.hostname}{'' if port is None else f':{port}'}{parts.path.rstrip('/').removesuffix('.git')}"
    )


def explain(said: str, access: Access, what: str) -> AccessError:
    """What git said in `what` (push, fetch, ls-remote), for a person. `said` holds no secret any more."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"(fatal|error|remote|ssh|!)", line, re.IGNORECASE)] or lines
    words = {
        "host": _host(access.url),
        "url": access.shown,
        "scan": _scan(access.url),
        "key": "does not accept the SSH key" if access.has_key() else _NO_KEY,
        "what": what,
        "token": "wants a token, and there is none" if access.token() is None else "does not accept the token",
        "line": re.sub(r"^(fatal|error): ", "", telling[0]) if telling else "it gave no reason",
    }
    for pattern, message, remedy, lasting in _REASONS:
        if re.search(pattern, said, re.IGNORECASE):
            return AccessError(message.format(**words), remedy.format(**words), lasting=lasting)
    shown = "; ".join(telling[:3]) or "it gave no reason"
    return AccessError(f"git {what} at {words['host']} failed: {shown}", "see what git says there", lasting=False)


def _scan(url: str) -> str:
    """The server as ssh-keyscan takes it."""
    port = None if "://" not in url else urlsplit(url).port
    return _host(url) if port is None else f"-p {port} {_host(url)}"


def _host(url: str) -> str:
    match = re.match(r"[^/:]+@([^/:]+):", url)
    return match[1] if match else urlsplit(url).hostname or url
