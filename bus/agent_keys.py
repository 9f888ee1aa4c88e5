"""What a machine needs to start agents, and no more: the key that signs agents' credentials.

The server refuses whatever this key signs that is not an agent's: its scope is the agents' template. So whoever holds
it can be any agent of the swarm, but no node, no operator, no coordinator.
"""

from __future__ import annotations

import json
from pathlib import Path

from bus.credentials import Authority, Credentials, mint_user, read_secret, write_secret
from bus.errors import Refused
from bus.jwt import Key


class AgentKeys:
    """`account` is the public key of the swarm's account, `signer` the secret one for the role of agents."""

    def __init__(self, swarm: str, account: str, signer: Key) -> None:
        self.swarm = swarm
        self._account = account
        self._signer = signer

    @classmethod
    def of(cls, authority: Authority) -> AgentKeys:
        account, signer = authority.signer("agent")
        return cls(authority.swarm, account, signer)

    @classmethod
    def load(cls, path: Path) -> AgentKeys:
        """Raises Refused when others can read the file or it is not one of `save`."""
        return cls.from_text(read_secret(path))

    @classmethod
    def from_text(cls, text: str) -> AgentKeys:
        try:
            found = json.loads(text)
            return cls(str(found["swarm"]), str(found["account"]), Key(str(found["signer"])))
        except Exception as error:  # nkeys raises what it likes; its text could show a key
            raise Refused(
                f"These are not the keys for agents ({type(error).__name__}); join with a new invitation.",
                reason="bad_keys",
            ) from None

    def to_text(self) -> str:
        """A secret."""
        return json.dumps({"swarm": self.swarm, "account": self._account, "signer": self._signer.seed})

    def save(self, path: Path) -> None:
        write_secret(path, self.to_text())

    def mint(self, agent: str, ttl: float | None = None) -> Credentials:
        """As `Authority.mint`, for agents."""
        return mint_user(self._signer, self._account, "agent", agent, ttl)

    def __repr__(self) -> str:
        return f"AgentKeys({self.swarm!r})"
