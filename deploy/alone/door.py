"""The addresses of an agent that is alone, as an ASGI application.

    POST /message   a question in JSON; the answer in JSON, or piece by piece as ``text/event-stream``
    GET /health     all of how it is; 503 when it cannot do its work
    GET /ready      whether it can take a message now, and why not
    GET /live       whether the process should be left alone: it asks nothing of others
    GET /metrics    Prometheus' text

A body must say that it is JSON. That is more than tidiness: a web page may send any other kind of body to a port of
this machine without asking, and would so speak to the agent of whoever looks at it. For the same reason an agent
without a token, on a loopback address, answers only to a Host that is one.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final
from urllib.parse import urlsplit

from bus.errors import BusError
from deploy.alone.agent import Alone
from deploy.alone.question import MOST_BYTES, Question, read_question
from deploy.alone.reply import Refusal, Reply, json_reply, refusal_of
from deploy.alone.settings import RunSettings
from deploy.alone.streaming import stream
from swarm.agent.families import families
from swarm.errors import near
from swarm.metrics import prometheus
from swarm.records import Content

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[Reply | None]]

BODY_SECONDS: Final = 10.0
MOST_DISCARDED: Final = 64 * MOST_BYTES
"""Of a body that is too large, read so that its sender hears why; a larger one is cut off."""
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class HttpDoor:
    """Call it with scope, receive and send. It never raises but for cancellation."""

    def __init__(self, agent: Alone, settings: RunSettings) -> None:
        self._agent = agent
        self._token = f"Bearer {settings.token}".encode() if settings.token else None
        self._local_only = settings.on_loopback and not settings.token
        self._handlers: dict[str, tuple[str, Handler]] = {
            "/message": ("POST", self._message),
            "/health": ("GET", self._health),
            "/ready": ("GET", self._ready),
            "/live": ("GET", self._live),
            "/metrics": ("GET", self._metrics),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            reply = await self._handler(scope)(scope, receive, send)
        except Refusal as refusal:
            reply = refusal.reply()
        except Exception:
            log.exception("an HTTP request failed inside")
            text = "Something went wrong inside; the agent's log has the details."
            reply = Refusal(500, text, "internal").reply()
        if reply is not None:
            await _send(reply, send, head_only=scope["method"] == "HEAD")

    def _handler(self, scope: Scope) -> Handler:
        if self._local_only and not _names_loopback(_header(scope, b"host")):
            raise Refusal(
                403,
                "This agent answers only to localhost; set HTTP_TOKEN to let others in.",
                "host",
            )
        path, method = scope["path"], scope["method"]
        if path not in self._handlers:
            raise Refusal(
                404, f"There is nothing at {path[:100]!r}{near(path[:100], self._handlers)}", "not_found"
            )
        allowed, handler = self._handlers[path]
        if method != allowed and (method, allowed) != ("HEAD", "GET"):
            raise Refusal(405, f"{path} takes {allowed}, not {method[:20]}.", "method", {"Allow": allowed})
        return handler

    # ── messages ──────────────────────────────────────────────────────────────────────────────────
    async def _message(self, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        self._require_token(scope)
        self._require_ready()
        if (kind := _header(scope, b"content-type").partition(";")[0].strip().lower()) != "application/json":
            said = f"not {kind[:50]!r}" if kind else "and its Content-Type must say so"
            raise Refusal(415, f"The body must be application/json, {said}.", "content_type")
        question = read_question(await _read_body(scope, receive))
        self._require_ready()  # a body may take its time
        if "text/event-stream" in _header(scope, b"accept").lower():
            return await stream(
                lambda on_piece: self._agent.ask(question, on_piece), self._answer(question), send
            )
        try:
            content = await self._agent.ask(question)
        except BusError as error:
            raise refusal_of(error) from None
        return json_reply(self._answer(question)(content))

    def _answer(self, question: Question) -> Callable[[Content], dict[str, Any]]:
        def answer(content: Content) -> dict[str, Any]:
            return {
                "id": question.id,
                "from": self._agent.name,
                "room": question.room,
                "text": content.text,
                "data": content.data,
            }

        return answer

    # ── how it is ─────────────────────────────────────────────────────────────────────────────────
    async def _health(self, scope: Scope, receive: Receive, send: Send) -> Reply:
        """With a token, whoever does not have it hears the status and no more."""
        runtime = self._agent.runtime
        report: dict[str, Any] = {"status": "unhealthy", "uptime": 0.0, "metrics": {}, "services": []}
        report["version"] = self._agent.character.version
        if runtime is not None:
            report = await runtime.health()
        if self._agent.state != "ready":
            report["status"] = "unhealthy"
        if self._token is not None and not self._knows_token(scope):
            report = {"status": report["status"]}
        return json_reply(report, 200 if report["status"] == "healthy" else 503)

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> Reply:
        runtime, state = self._agent.runtime, self._agent.state
        reasons = [f"The agent is {state}."] if state != "ready" else []
        if runtime is not None and not reasons:
            reasons += (await runtime.readiness()).reasons
        return json_reply({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> Reply:
        """Answering at all shows that the event loop runs."""
        runtime = self._agent.runtime
        reasons = list(runtime.liveness().reasons) if runtime is not None else []
        return json_reply({"live": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _metrics(self, scope: Scope, receive: Receive, send: Send) -> Reply:
        self._require_token(scope)
        runtime = self._agent.runtime
        if runtime is None:
            raise Refusal(503, "The agent is starting; there are no metrics yet.", "starting")
        text = prometheus.render(families(runtime, self._agent.mailbox))
        return Reply(200, text.encode(), prometheus.CONTENT_TYPE)

    # ── who may ───────────────────────────────────────────────────────────────────────────────────
    def _require_token(self, scope: Scope) -> None:
        if self._token is not None and not self._knows_token(scope):
            text = "This needs the header Authorization: Bearer TOKEN, with the token of HTTP_TOKEN."
            raise Refusal(401, text, "unauthorized", {"WWW-Authenticate": "Bearer"})

    def _knows_token(self, scope: Scope) -> bool:
        given = _header(scope, b"authorization").encode("latin-1")
        return self._token is not None and hmac.compare_digest(given, self._token)

    def _require_ready(self) -> None:
        state = self._agent.state
        if state != "ready":
            raise Refusal(503, f"The agent is {state}; try again in a moment.", state)


def _header(scope: Scope, name: bytes) -> str:
    """The first of this name, or nothing."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _names_loopback(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOOPBACK_NAMES
    except ValueError:
        return False


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """Raises Refusal for a body that is too large, or does not come."""
    length = _header(scope, b"content-length")
    if length.isdigit() and int(length) > MOST_DISCARDED:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise Refusal(400, "The connection ended before the body did.", "broken_off")
                size += len(event.get("body", b""))
                if size > MOST_DISCARDED:
                    raise _too_large()
                if size <= MOST_BYTES:
                    parts.append(event.get("body", b""))
                if not event.get("more_body"):
                    break
    except TimeoutError:
        raise Refusal(408, f"The body did not come within {BODY_SECONDS:g} s.", "slow_body") from None
    if size > MOST_BYTES:
        raise _too_large()
    return b"".join(parts)


def _too_large() -> Refusal:
    return Refusal(
        413,
        f"The body may have {MOST_BYTES:,} bytes; put more into a file or the store and say where.",
        "too_large",
    )


async def _send(reply: Reply, send: Send, *, head_only: bool) -> None:
    headers = {
        "Content-Type": reply.content_type,
        "Content-Length": str(len(reply.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **reply.headers,
    }
    await send(
        {
            "type": "http.response.start",
            "status": reply.status,
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": b"" if head_only else reply.body})
