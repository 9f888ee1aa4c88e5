"""A swarm from outside: what an operator, a script or a gateway says to it.

    async with Swarm.connect() as swarm:
        answer = await swarm.ask("reader", "What is in README.md?")

Everything goes through the coordinator on ``ctl.<operator>.<verb>``; no method waits without a bound. Errors
are those of the bus (NobodyThere, TooLate, Refused, Failed) and NotRunning when there is no swarm.

swarm          the connection, the verbs, what is       tasks          given, followed, canceled, answered
families       children and rights                      dead_letters   looked at, sent again
running        start, stop, restart                     calls          what all of them stand on
"""

from bus.errors import NobodyThere, Refused, TooLate
from swarm.client.swarm import Swarm
from swarm.errors import NotRunning

__all__ = ["NobodyThere", "NotRunning", "Refused", "Swarm", "TooLate"]
