"""A machine that joins: an invitation becomes a node with its own `.swarm` folder, once; from then on it just runs.

.swarm/secrets/joined.json    NodeSettings
.swarm/secrets/<node>.creds   its name on the bus
.swarm/secrets/agents.key     what signs agents' credentials
.swarm/secrets/project        what agents' database passwords are derived from
"""

from __future__ import annotations

import logging
import secrets
from pathlib import Path
from typing import Final

import msgspec

from bus.agent_keys import AgentKeys
from bus.credentials import Authority, Credentials, write_secret
from bus.errors import Refused
from deploy.enrolment import enrol
from deploy.invitation import Invitation
from deploy.node_settings import NodeSettings, read_settings
from swarm.errors import NotRunning, UsageError
from swarm.project import Project

log = logging.getLogger(__name__)

JOINED: Final = "joined.json"


def joined_settings(project: Project) -> NodeSettings:
    """Of a machine that has joined before. Raises NotRunning when it has not."""
    path = project.home / "secrets" / JOINED
    if not path.exists():
        raise NotRunning(
            f"{project.folder} has not joined a swarm; `swarm node invite` where it runs makes a link for "
            "`swarm node --join LINK`."
        )
    return read_settings(path)


async def join(project: Project, given: str) -> NodeSettings:
    """Enrol with an invitation, a link or its file; with one that was used here before nothing is asked again.

    Raises UsageError where the swarm's own authority is, and what reading and enrolling raise.
    """
    if project.authority_file.exists():
        raise UsageError(
            f"{project.folder} holds the keys of a swarm, it need not join one; use another folder, or `swarm up` here."
        )
    invitation = Invitation.read(given)
    _check_reachable(invitation)
    project.prepare()
    home = project.home / "secrets"
    machine = _machine(home / "machine")
    taken = await enrol(invitation, machine)
    AgentKeys.from_text(taken.agent_keys).save(agents_key_file(project))
    credentials = home / f"{invitation.node}.creds"
    Credentials.from_text(taken.credentials).save(credentials)
    write_secret(home / "project", taken.passwords)
    settings = msgspec.convert(
        {
            "swarm": invitation.swarm,
            "file": str(project.file),
            "node": invitation.node,
            "bus_url": invitation.bus_url,
            "store_url": invitation.store_url,
            "credentials_file": str(credentials),
            "joined": True,
            **taken.settings,
        },
        NodeSettings,
    )
    write_secret(home / JOINED, msgspec.json.encode(settings).decode())
    return settings


def agents_key_file(project: Project) -> Path:
    return project.home / "secrets" / "agents.key"


def keys_of(project: Project) -> AgentKeys:
    """With which a node makes its instances' credentials: of the authority where that is, else those it was given."""
    if project.authority_file.exists():
        return AgentKeys.of(Authority.load(project.authority_file))
    return AgentKeys.load(agents_key_file(project))


def _machine(path: Path) -> str:
    """This folder's own word, by which an invitation knows it again."""
    if not path.exists():
        write_secret(path, secrets.token_hex(16))
    return path.read_text().strip()


def _check_reachable(invitation: Invitation) -> None:
    if not invitation.bus_url or not invitation.store_url:
        raise Refused(
            "The invitation does not say where bus and store are; make a new one.", reason="bad_invitation"
        )
