"""A project on disk: the folder of a swarm.toml and, beside it, `.swarm/` with all that running leaves.

    .swarm/state.json     who runs: written by the supervisor, read by every command; holds no secrets
    .swarm/secrets/       keys and passwords, each in a file of its own with mode 0600
    .swarm/logs/          a log for each process
    .swarm/lock           held by the supervisor while it lives

Cheap to import: the command line reads this on every start.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from swarm.errors import NotRunning, UsageError

FILE_NAME: Final = "swarm.toml"
VARIABLE: Final = "SWARM_PROJECT"
"""The environment variable that names a project: its folder or its file."""


class Process(msgspec.Struct, frozen=True):
    """A process of this machine: its pid, and when it began, so that a pid used again is not mistaken."""

    pid: int
    started: str


class Standing(msgspec.Struct, frozen=True):
    """What stands beside the swarm file: who is stopped, who sleeps, and who has another number of replicas."""

    stopped: tuple[str, ...] = ()
    asleep: tuple[str, ...] = ()
    scaled: dict[str, int] = {}


class RunState(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor says about itself. `store_url` is without its password.

    `ready` when all instances have been ready once; `children` by name: coordinator, node, …
    `report` says what went wrong at the start, in sentences; `standing` who stayed stopped, asleep or scaled then.
    """

    swarm: str
    bus_url: str
    store_url: str
    supervisor: Process
    children: dict[str, Process] = {}
    ready: bool = False
    started_at: int = 0
    report: tuple[str, ...] = ()
    standing: Standing = Standing()


@dataclass(frozen=True, slots=True)
class Project:
    """`file` is the swarm.toml, absolute and with links resolved."""

    file: Path

    @classmethod
    def find(
        cls,
        given: str | Path | None = None,
        *,
        cwd: Path | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Project:
        """The project that is `given` (a file or folder), or named by SWARM_PROJECT, or found upward from `cwd`.

        Raises UsageError when there is none.
        """
        here = Path.cwd() if cwd is None else cwd
        named = given or (os.environ if environ is None else environ).get(VARIABLE)
        if named:
            path = (here / Path(named).expanduser()).resolve()
            file = path / FILE_NAME if path.is_dir() else path
            if not file.is_file():
                raise UsageError(f"There is no {file}; `swarm init` makes a project.")
            return cls(file)
        for folder in (here.resolve(), *here.resolve().parents):
            if (folder / FILE_NAME).is_file():
                return cls(folder / FILE_NAME)
        raise UsageError(
            f"There is no {FILE_NAME} here or above; make a project with `swarm init`, or name one with -f."
        )

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def home(self) -> Path:
        """The `.swarm` folder; a file with another name than swarm.toml has its own."""
        return self.folder / (".swarm" if self.file.name == FILE_NAME else f".swarm-{self.file.stem}")

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def authority_file(self) -> Path:
        return self.home / "secrets" / "authority.json"

    @property
    def operator_file(self) -> Path:
        return self.home / "secrets" / "operator.creds"

    @property
    def lock_file(self) -> Path:
        return self.home / "lock"

    @property
    def mark(self) -> str:
        """The word in the environment of every process of this project, by which strays are found."""
        return "swarm-" + hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]

    def log_of(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def prepare(self) -> None:
        """Make the folders, for the owner only. Raises UsageError when one cannot write here."""
        try:
            for folder in (self.home, self.logs, self.home / "secrets"):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
            ignore = self.home / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise UsageError(
                f"{self.home} cannot be made or written: {error.strerror}; run as its owner."
            ) from error

    # ── who runs ──────────────────────────────────────────────────────────────────────────────────
    def state(self) -> RunState | None:
        """What the supervisor wrote last, whether or not it lives; None when nothing was left."""
        try:
            return msgspec.json.decode((self.home / "state.json").read_bytes(), type=RunState)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError):
            return None  # written by another version, or not ours to read: as good as none

    def require_state(self) -> RunState:
        """Raises NotRunning, with advice, when no swarm was started here."""
        state = self.state()
        if state is None:
            raise NotRunning(f"No swarm runs in {self.folder}; start it with `swarm up`.")
        return state

    def write_state(self, state: RunState) -> None:
        """Replace the state at once: a reader sees the old or the new one."""
        fresh = self.home / f".state.{os.getpid()}"
        fresh.write_bytes(msgspec.json.encode(state))
        fresh.replace(self.home / "state.json")

    def clear_state(self) -> None:
        (self.home / "state.json").unlink(missing_ok=True)

    # ── secrets ───────────────────────────────────────────────────────────────────────────────────
    def secret(self, name: str) -> str:
        """The secret called `name`, made at the first call. Raises bus.Refused when others can read it."""
        from bus.credentials import read_secret, write_secret

        path = self.home / "secrets" / name
        if not path.exists():
            write_secret(path, secrets.token_urlsafe(32))
        return read_secret(path).strip()

    def agent_password(self, swarm: str, agent: str) -> str:
        """The password of an agent's database role: derived, so that nothing needs to be kept for each."""
        key = self.secret("project").encode()
        return hmac.new(key, f"store:{swarm}:{agent}".encode(), hashlib.sha256).hexdigest()
