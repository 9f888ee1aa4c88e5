"""Operators' requests: one verb each, its arguments a struct, its answer a plain value.

A request is a `Command` on ``ctl.<operator>.<verb>``; the verbs are in `verbs/`, a file for each of the rooms
that they concern. Whoever stands at the command line is `operator` in the ledger, or speaks for a known agent
where a verb takes ``as``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from bus.envelope import Envelope, read_body
from bus.errors import BadMessage, BusError, Failed, Refused, TooLate
from coordinator.outbox import Outbox
from coordinator.verbs.verb import Args, Verbs
from swarm.errors import StoreDown, StoreError, SwarmError, Unknown, UsageError, near
from swarm.ledger import LeaseLost
from swarm.protocol import Command

log = logging.getLogger(__name__)

SomeArgs = TypeVar("SomeArgs", bound=Args)


class Control:
    def __init__(self, outbox: Outbox, verbs: Iterable[Verbs]) -> None:
        self._outbox = outbox
        self._verbs = {verb: how for table in verbs for verb, how in table.items()}

    async def run(self, verb: str, request: Envelope, reply: str) -> None:
        """Do what was asked and answer at `reply`, which has been checked. Raises LeaseLost only."""
        try:
            left = request.seconds_left()
            if left is not None and left <= 0:
                raise TooLate("The deadline of this request has passed.")
            if verb not in self._verbs:
                raise Refused(f"There is no request {verb!r}{near(verb, self._verbs)}", reason="unknown_verb")
            kind, method = self._verbs[verb]
            value = await method(_read(verb, request, kind))
        except LeaseLost:
            raise  # without an answer: the new holder of the lease has heard the request, too
        except (BusError, SwarmError) as error:
            self._outbox.fail(request, reply, as_bus_error(error))
        except ExceptionGroup as group:
            if group.subgroup(LeaseLost) is not None:
                raise
            log.exception("The request %s failed", verb)
            self._outbox.fail(
                request, reply, Failed(f"The request {verb} failed; see the coordinator's log.")
            )
        else:
            self._outbox.answer(request, reply, value)


def _read(verb: str, request: Envelope, kind: type[SomeArgs]) -> SomeArgs:
    """The arguments as `kind`. Raises Refused (reason ``usage``) with what is wrong with them."""
    try:
        command = read_body(request, Command)
        return msgspec.convert(command.args, kind)
    except (BadMessage, msgspec.ValidationError) as error:
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) or "nothing"
        raise Refused(f"{verb} takes {names}: {error}.", reason="usage") from error


def as_bus_error(error: BusError | SwarmError) -> BusError:
    """An error of the runtime as one that the wire carries; `reason` says which it was."""
    match error:
        case BusError():
            return error
        case UsageError():
            return Refused(error.text, reason="usage")
        case StoreDown():
            return Failed(error.text, reason="store_down")
        case Unknown():
            return Failed(error.text, reason="unknown")
        case LeaseLost():
            return Failed("Another coordinator has taken over; ask again.", reason="lease_lost")
        case StoreError():
            return Failed(error.text, reason=error.reason or "store")
    return Failed(error.text, reason=error.reason or "failed")
