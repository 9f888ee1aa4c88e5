"""Who is who on the wire: credentials that name their bearer, and the authority that mints them.

The server trusts one operator key. Under it lies one account for the swarm, and in the account one signing
key for each role, whose *scope* is a permission template with ``{{name()}}`` in it. So a new agent needs
nothing but a JWT signed with the agents' key: the server knows neither names nor agents, learns of nobody
in advance and restarts for nobody, and no credential can carry more rights than its role's template gives,
because the server refuses a scoped JWT that brings permissions of its own.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bus.errors import Refused
from bus.jwt import Key, read_claims, sign_claims
from bus.permissions import COORDINATOR, ROLES, Permissions, Role, permissions_of, role_of_name
from bus.subjects import Subjects

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_BLOCK: Final = re.compile(r"-+BEGIN ([A-Z ]+)-+\s+(\S+)\s+-+END [A-Z ]+-+")
_UNLIMITED: Final = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS: Final = {
    **_UNLIMITED,
    "imports": -1,
    "exports": -1,
    "wildcards": True,
    "conn": -1,
    "leaf": -1,
    "mem_storage": 0,  # no JetStream: the server keeps no state
    "disk_storage": 0,
}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What one connects with. `jwt` says who one is, `seed` is the secret that proves it."""

    name: str
    jwt: str = field(repr=False)
    seed: str = field(repr=False)

    @property
    def expires(self) -> float | None:
        """Unix time in seconds after which the server closes the connection; None for never."""
        moment = read_claims(self.jwt).get("exp")
        return None if moment is None else float(moment)

    def to_text(self) -> str:
        """The text of a NATS ``.creds`` file, which clients in any language read. A secret."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.seed}\n------END USER NKEY SEED------\n"
        )

    @classmethod
    def from_text(cls, text: str) -> Credentials:
        """Raises Refused when `text` is not that of a ``.creds`` file."""
        blocks = dict(_BLOCK.findall(text))
        try:
            jwt, seed = blocks["NATS USER JWT"], blocks["USER NKEY SEED"]
            return cls(str(read_claims(jwt)["name"]), jwt, seed)
        except (KeyError, ValueError) as error:
            raise Refused(
                "This is not a NATS credentials file; mint one with the swarm's authority.",
                reason="bad_credentials",
            ) from error

    def save(self, path: Path) -> None:
        """Write a ``.creds`` file that only its owner can read."""
        write_secret(path, self.to_text())

    @classmethod
    def load(cls, path: Path) -> Credentials:
        return cls.from_text(read_secret(path))


class Authority:
    """The keys of one swarm. Whoever holds them can be anyone in it: one file, for its owner only."""

    def __init__(self, swarm: str, keys: dict[str, Key]) -> None:
        self.swarm = swarm
        self._keys = keys
        self._subjects = Subjects(swarm)

    @classmethod
    def new(cls, swarm: str) -> Authority:
        """Fresh keys. Raises Refused when `swarm` cannot be a token of a subject."""
        if not _NAME.fullmatch(swarm):
            raise Refused(
                f"A swarm cannot be called {swarm!r}: use 1 to 63 letters, digits, - and _.",
                reason="bad_name",
            )
        keys = {"operator": Key.new("operator"), "account": Key.new("account"), "system": Key.new("account")}
        return cls(swarm, keys | {f"role:{role}": Key.new("account") for role in ROLES})

    @classmethod
    def load(cls, path: Path) -> Authority:
        """Raises Refused when others can read the file or it is not an authority's."""
        text = read_secret(path)
        try:
            found = json.loads(text)
            keys = {str(kind): Key(seed) for kind, seed in found["keys"].items()}
            authority = cls(str(found["swarm"]), keys)
            _ = [
                keys[kind] for kind in ("operator", "account", "system", *(f"role:{role}" for role in ROLES))
            ]
        except Exception as error:  # nkeys raises what it likes; its text could show a key
            raise Refused(
                f"{path} does not hold a swarm's keys ({type(error).__name__}); delete it to begin anew.",
                reason="bad_authority",
            ) from None
        return authority

    def save(self, path: Path) -> None:
        """Write all keys to one file that only its owner can read; an older one is replaced at once."""
        seeds = {kind: key.seed for kind, key in self._keys.items()}
        write_secret(path, json.dumps({"version": 1, "swarm": self.swarm, "keys": seeds}, indent=1))

    def mint(self, role: Role, name: str, ttl: float | None = None) -> Credentials:
        """Credentials for `name`, valid from now for `ttl` seconds (None: for ever). The server needs no change.

        Raises Refused for a name that is no token or belongs to another role: the name becomes part of the
        rights, so ``*`` would be everyone, and it decides whose replies its bearer reads.
        """
        return mint_user(self._keys[f"role:{role}"], self._keys["account"].public, role, name, ttl)

    def signer(self, role: Role) -> tuple[str, Key]:
        """The account's public key, and the secret one that signs the credentials of this role."""
        return self._keys["account"].public, self._keys[f"role:{role}"]

    def server_config(
        self,
        *,
        port: int | None = None,
        host: str = "127.0.0.1",
        monitor_port: int | None = None,
        max_connections: int = 65536,
        cluster: str = "",
        routes: Sequence[str] = (),
    ) -> str:
        """The text of a ``nats-server`` configuration that trusts this authority and keeps no state.

        It holds no secret, and the same keys make an equivalent text each time, so that credentials
        outlive the server. Without `port` the one who starts the server says where it listens.
        `monitor_port` opens the server's own health page on loopback. `cluster` is the HOST:PORT for the other
        servers of a cluster, and `routes` are theirs: whoever reaches that port is one of them, so it belongs on a
        network of their own.
        """
        account, system = self._keys["account"], self._keys["system"]
        lines = [
            f"max_connections: {max_connections}",
            "max_payload: 2097152",
            "max_pending: 33554432  # bytes that may wait for a slow reader before it is cut off",
            'write_deadline: "5s"',
            'ping_interval: "5s"  # a peer that is gone without a word is found in 15 s',
            "ping_max: 2",
            'lame_duck_grace_period: "1s"',
            'lame_duck_duration: "30s"',
            f"operator: {self._operator_jwt()}",
            f"system_account: {system.public}",
            "resolver: MEMORY",
            "resolver_preload: {",
            f"  {account.public}: {self._account_jwt()}",
            f"  {system.public}: {self._plain_account_jwt(system, 'SYS')}",
            "}",
        ]
        if monitor_port is not None:
            lines.insert(0, f'http: "127.0.0.1:{monitor_port}"')
        if cluster:
            named = ", ".join(json.dumps(f"nats-route://{route}") for route in routes)
            lines.append(
                f"cluster {{ name: {json.dumps(self.swarm)}, listen: {json.dumps(cluster)}, routes: [{named}] }}"
            )
        if port is not None:
            lines.insert(0, f"listen: {json.dumps(f'{host}:{port}')}")
        return "\n".join(lines) + "\n"

    def _operator_jwt(self) -> str:
        operator = self._keys["operator"]
        nats = {"system_account": self._keys["system"].public, "type": "operator", "version": 2}
        return sign_claims(operator, subject=operator.public, name=self.swarm, nats=nats)

    def _account_jwt(self) -> str:
        scopes = [
            {
                "kind": "user_scope",
                "key": self._keys[f"role:{role}"].public,
                "role": role,
                "template": _template(permissions_of(role, self._subjects)),
            }
            for role in ROLES
        ]
        return self._plain_account_jwt(self._keys["account"], self.swarm, signing_keys=scopes)

    def _plain_account_jwt(self, account: Key, name: str, **more: Any) -> str:
        nats = {"limits": _ACCOUNT_LIMITS, "type": "account", "version": 2, **more}
        return sign_claims(self._keys["operator"], subject=account.public, name=name, nats=nats)

    def __repr__(self) -> str:
        return f"Authority({self.swarm!r})"


def _template(permissions: Permissions) -> dict[str, Any]:
    """NATS's form of `permissions`; its durations are nanoseconds."""
    template: dict[str, Any] = {
        "pub": {"allow": list(permissions.publish)},
        "sub": {"allow": list(permissions.subscribe)},
        **_UNLIMITED,
    }
    if permissions.responses is not None:
        most, seconds = permissions.responses
        template["resp"] = {"max": most, "ttl": seconds * 1_000_000_000}
    return template


def _wrong_role(role: Role, name: str) -> str:
    match role:
        case "coordinator":
            return f'The coordinator is always called "{COORDINATOR}", not {name!r}.'
        case "node" | "operator":
            return f'{name!r} could be an agent: call this {role} "{role}" or "{role}-{name}".'
        case _:
            return f"An agent cannot be called {name!r}: that name is reserved. Choose another."


def mint_user(signer: Key, account: str, role: Role, name: str, ttl: float | None) -> Credentials:
    """As `Authority.mint`, by the signing key of one role."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"Nobody can be called {name!r} here: use 1 to 63 letters, digits, - and _.",
            reason="bad_name",
        )
    bearer = role_of_name(name)
    if bearer != role:
        raise Refused(_wrong_role(role, name), reason="reserved_name")
    user = Key.new("user")
    jwt = sign_claims(
        signer,
        subject=user.public,
        name=name,
        # Limits and permissions stay out: a scoped JWT that has any is refused.
        nats={"issuer_account": account, "type": "user", "version": 2},
        expires=None if ttl is None else time.time() + ttl,
    )
    return Credentials(name, jwt, user.seed)


def write_secret(path: Path, text: str) -> None:
    """Write `path` with mode 0600 from its first byte, at once or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_secret(path: Path) -> str:
    """Raises Refused when others than the owner can read it."""
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise Refused(
            f"Others can read the secrets in {path}; run: chmod 600 {path}", reason="exposed_secret"
        )
    return path.read_text()
