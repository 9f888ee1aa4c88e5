"""The warm parent of agent processes: it has imported everything, and forks an agent in milliseconds.

    node (asyncio) ── Zygote (client.py) ══ socketpair, wire.py ══ parent.py ── fork → child.py → entry(spec)

Who dies, and what follows:

    a child      its exit is told; what it had started in its group, or left to us, is killed
    the node     the parent sees the end of the socket (or its death signal): it ends all children, then itself
    the parent   the kernel kills its children; the client sweeps what they had started by the mark of the run
"""

from deploy.zygote.client import Zygote, ZygoteFailed
from deploy.zygote.wire import Exited

__all__ = ["Exited", "Zygote", "ZygoteFailed"]
