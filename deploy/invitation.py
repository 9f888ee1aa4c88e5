"""Invitations: what lets one more machine join, made where the swarm's authority is.

The link that the other machine gets holds no key of the swarm: where bus and store are, a credential for this one
node's name that ends with the invitation, and a secret with which the keys are sealed when they are fetched
(`deploy/enrolment.py`). The record of it stays here: an invitation that is over, or was used by another machine, is
refused. Inviting the same name again replaces it.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from bus.credentials import Authority, read_secret, write_secret
from bus.errors import Refused
from bus.permissions import role_of_name
from bus.sealing import new_key
from swarm.errors import UsageError
from swarm.project import Project

SCHEME: Final = "swarm"
HOURS: Final = 24.0
"""How long an invitation is good."""


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """What the other machine gets. Secret: `credentials` (a ``.creds`` text that ends with it) and `secret`.
    `expires_at` in Unix seconds."""

    swarm: str
    node: str
    bus_url: str
    store_url: str
    credentials: str
    secret: str
    expires_at: float

    def to_url(self) -> str:
        packed = base64.urlsafe_b64encode(msgspec.json.encode(self)).rstrip(b"=").decode()
        return f"{SCHEME}://{self.swarm}/{self.node}#{packed}"

    @classmethod
    def read(cls, given: str) -> Invitation:
        """From a ``swarm://`` link, or the file that holds one. Raises UsageError for neither, Refused when it is
        over."""
        if not given.startswith(f"{SCHEME}://"):
            try:
                given = Path(given).read_text().strip()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(
                    f"{given} is no swarm:// link and cannot be read as a file with one; `swarm node invite` on the "
                    "first machine makes one."
                ) from error
        packed = urlsplit(given).fragment
        try:
            invitation = msgspec.json.decode(
                base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)), type=cls
            )
        except (ValueError, msgspec.MsgspecError):
            raise UsageError(
                "This is not an invitation of swarm, or not all of it; copy the whole line of `swarm node invite`."
            ) from None
        if invitation.expires_at < time.time():
            raise Refused(
                f"The invitation for {invitation.node} is over; ask for a new one (`swarm node invite`).",
                reason="expired",
            )
        return invitation

    def __repr__(self) -> str:
        return f"Invitation({self.swarm}/{self.node})"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the first machine keeps of an invitation. `machine` is who has used it."""

    node: str
    secret: str
    expires_at: float
    labels: tuple[str, ...] = ()
    most_instances: int = 0
    machine: str = ""

    def __repr__(self) -> str:
        return f"Record({self.node})"


class Invitations:
    """Those of one project, a private file for each."""

    def __init__(self, project: Project) -> None:
        self._folder = project.home / "secrets" / "invitations"

    def make(
        self,
        authority: Authority,
        node: str,
        *,
        bus_url: str,
        store_url: str,
        labels: tuple[str, ...] = (),
        most_instances: int = 0,
        hours: float = HOURS,
    ) -> Invitation:
        """Raises UsageError for a name that no second node can have."""
        if node == "node" or role_of_name(node) != "node":
            raise UsageError(
                f"{node!r} cannot be invited: call it node-…, as node-2 (node is the first one's name)."
            )
        record = Record(
            node=node,
            secret=new_key(),
            expires_at=time.time() + hours * 3600,
            labels=labels,
            most_instances=most_instances,
        )
        self.keep(record)
        return Invitation(
            swarm=authority.swarm,
            node=node,
            bus_url=bus_url,
            store_url=store_url,
            credentials=authority.mint("node", node, hours * 3600).to_text(),
            secret=record.secret,
            expires_at=record.expires_at,
        )

    def next_name(self) -> str:
        """``node-2``, or the next that was not invited."""
        number = 2
        while self._file(f"node-{number}").exists():
            number += 1
        return f"node-{number}"

    def take(self, node: str, machine: str) -> Record:
        """The invitation of `node`, used by `machine` from now on. Raises Refused when there is none that is good for
        it."""
        try:
            record = msgspec.json.decode(read_secret(self._file(node)), type=Record)
        except (OSError, msgspec.MsgspecError):
            raise Refused(
                f"There is no invitation for {node}; make one (`swarm node invite`).", reason="no_invitation"
            ) from None
        if record.expires_at < time.time():
            raise Refused(f"The invitation for {node} is over; make a new one.", reason="expired")
        if record.machine not in ("", machine):
            raise Refused(
                f"The invitation for {node} was used by another machine; make a new one, and if you do not know that "
                "machine, make new keys.",
                reason="used",
            )
        record = msgspec.structs.replace(record, machine=machine)
        self.keep(record)
        return record

    def keep(self, record: Record) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_secret(self._file(record.node), msgspec.json.encode(record).decode())

    def _file(self, node: str) -> Path:
        return self._folder / f"{node}.json"
