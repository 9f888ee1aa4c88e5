"""HTTP to an OpenAI-compatible endpoint: bounded in time, size and tries, and clear when it fails.

Tried again: no connection, a connection that broke before an answer, 429 and 5xx, with the pause the
server asks for (Retry-After) if it fits. Not tried again: a slow server (it may be working still), other
4xx, and a stream of which a piece has been passed on. Redirects are not followed: the key goes to the
configured host and nowhere else.

Measured: importing httpx takes 0.3 s and 24 MB, so it is imported at the first call; a client for https
takes 80 ms for its certificates, one for http 1 ms.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from swarm.agent.models.openai_settings import OpenAISettings
from swarm.errors import ModelError

if TYPE_CHECKING:
    import httpx
    from tenacity import RetryCallState

log = logging.getLogger(__name__)

Json = dict[str, Any]
_T = TypeVar("_T")
_SAID = 200
"""Characters of a server's own error text that are passed on."""


class Transient(ModelError):
    """A failure that a moment later may not be one. `wait` is what the server asked for, in seconds."""

    def __init__(self, text: str, *, reason: str, wait: float | None = None) -> None:
        super().__init__(text, reason=reason)
        self.wait = wait


class OpenAIWire:
    """One endpoint's connection pool, opened at the first call and closed by `close`.

    Raises ModelError with the reasons ``unreachable``, ``slow``, ``rate_limited``, ``server_error``,
    ``denied`` (401, 403), ``bad_request`` (other 4xx), ``not_json`` (HTML, broken JSON, no JSON at
    all), ``too_large``, ``broken_off``.
    """

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._client: httpx.AsyncClient | None = None

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def post(self, path: str, body: Json, timeout: float | None = None) -> Json:
        """Send JSON and return the JSON object of the answer."""

        async def once() -> Json:
            async with self._answer(path, body) as response:
                return self._object(response, await self._read(response))

        return await self._bounded(once, timeout)

    async def stream(
        self,
        path: str,
        body: Json,
        on_event: Callable[[Json], Awaitable[None]],
        timeout: float | None = None,
    ) -> None:
        """Send JSON and hand each event of the answer on as it comes, up to ``[DONE]`` or the end.

        A server that does not stream answers with one object, which is handed on as the only event.
        What `on_event` raises passes through; after its first call nothing is tried again.
        """
        begun = False

        async def once() -> None:
            nonlocal begun
            async with self._answer(path, body) as response:
                if "text/event-stream" not in response.headers.get("content-type", ""):
                    answer = self._object(response, await self._read(response))
                    begun = True
                    return await on_event(answer)
                async with aclosing(self._events(response)) as events:
                    async for data in events:
                        if data == b"[DONE]":
                            return None
                        event = self._decode(data)
                        begun = True
                        await on_event(event)
                return None

        await self._bounded(once, timeout, again=lambda: not begun)

    async def _bounded(
        self,
        call: Callable[[], Awaitable[_T]],
        timeout: float | None,
        again: Callable[[], bool] = lambda: True,
    ) -> _T:
        from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

        limit = min(timeout or self._settings.timeout, self._settings.timeout)
        ends = time.monotonic() + limit

        def worth(error: BaseException) -> bool:
            if not isinstance(error, Transient) or not again():
                return False
            # A pause longer than we may wait ends the call now instead of at its deadline.
            room = min(self._settings.max_wait, ends - time.monotonic())
            return error.wait is None or error.wait <= room

        retrying = AsyncRetrying(
            retry=retry_if_exception(worth),
            stop=stop_after_attempt(self._settings.tries),
            wait=self._pause,
            reraise=True,
        )
        try:
            async with asyncio.timeout(limit) as clock:
                return await retrying(call)
        except TimeoutError as error:
            if not clock.expired():
                raise
            raise ModelError(
                f"The model endpoint {self._settings.host} did not answer within {limit:g} s; "
                "try again, ask for less, or raise the timeout.",
                reason="slow",
            ) from error

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome is not None else None
        asked = error.wait if isinstance(error, Transient) else None
        pause = asked if asked is not None else self._settings.first_wait * 2 ** (state.attempt_number - 1)
        pause = min(pause, self._settings.max_wait)
        log.info("Model endpoint %s: %s; trying again in %.1f s", self._settings.host, error, pause)
        return pause

    @asynccontextmanager
    async def _answer(self, path: str, body: Json) -> AsyncIterator[httpx.Response]:
        """An answer with status 200; anything else, and everything httpx raises, as a ModelError."""
        import httpx

        host = self._settings.host
        try:
            async with self._open().stream(
                "POST", self._settings.base_url.rstrip("/") + path, json=body, headers=self._headers()
            ) as response:
                if response.status_code != 200:
                    raise await self._refusal(response)
                yield response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise Transient(
                f"The model endpoint {host} cannot be reached; is it running, and is OPENAI_BASE_URL right?",
                reason="unreachable",
            ) from error
        except httpx.TimeoutException as error:
            raise ModelError(
                f"The model endpoint {host} stopped answering; try again or raise the timeout.", reason="slow"
            ) from error
        except httpx.TransportError as error:
            raise Transient(
                f"The model endpoint {host} broke the connection off; try again.", reason="broken_off"
            ) from error
        except (httpx.DecodingError, httpx.InvalidURL) as error:
            raise ModelError(
                f"The model endpoint {host} answered in an encoding that cannot be read.", reason="not_json"
            ) from error

    def _open(self) -> httpx.AsyncClient:
        import httpx

        if self._client is None:
            limit = httpx.Timeout(self._settings.timeout, connect=self._settings.connect_timeout)
            # Plain http needs no certificates, and loading them takes 80 ms; a proxy for the world
            # outside must not catch the model server on this machine.
            self._client = httpx.AsyncClient(
                timeout=limit,
                follow_redirects=False,
                verify=self._settings.secure,
                trust_env=not self._settings.on_loopback,
            )
        return self._client

    def _headers(self) -> Mapping[str, str]:
        key = self._settings.api_key
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def _read(self, response: httpx.Response) -> bytes:
        found = bytearray()
        async for piece in response.aiter_bytes():
            found += piece
            self._check_size(len(found))
        return bytes(found)

    async def _events(self, response: httpx.Response) -> AsyncGenerator[bytes, None]:
        """The data of each server-sent event. Lines end at LF only: JSON may hold other line ends raw."""
        rest, data, total = b"", [], 0
        async for piece in response.aiter_bytes():
            total += len(piece)
            self._check_size(total)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                line = line.removesuffix(b"\r")
                if line.startswith(b"data:"):
                    data.append(line[5:].removeprefix(b" "))
                elif not line and data:
                    yield b"\n".join(data)
                    data = []
        last = rest.removesuffix(b"\r")
        if last.startswith(b"data:"):
            data.append(last[5:].removeprefix(b" "))
        if data:
            yield b"\n".join(data)

    def _check_size(self, size: int) -> None:
        if size > self._settings.max_bytes:
            raise ModelError(
                f"The model endpoint {self._settings.host} sent more than {self._settings.max_bytes} bytes; "
                "ask for less.",
                reason="too_large",
            )

    def _object(self, response: httpx.Response, raw: bytes) -> Json:
        kind = response.headers.get("content-type", "").split(";")[0].strip()
        if kind == "text/html" or raw[:64].lstrip()[:1] == b"<":
            raise ModelError(
                f"The model endpoint {self._settings.host} answered with a web page, not JSON; "
                "OPENAI_BASE_URL probably lacks its path (often /v1).",
                reason="not_json",
            )
        return self._decode(raw)

    def _decode(self, raw: bytes) -> Json:
        try:
            value = msgspec.json.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ModelError(
                f"The model endpoint {self._settings.host} answered with something that is not JSON.",
                reason="not_json",
            ) from error
        if not isinstance(value, dict):
            raise ModelError(
                f"The model endpoint {self._settings.host} answered with JSON that is not an object.",
                reason="not_json",
            )
        if value.get("error"):
            raise ModelError(
                f"The model endpoint {self._settings.host} reported an error: {self._said(value)}",
                reason="server_error",
            )
        return value

    async def _refusal(self, response: httpx.Response) -> ModelError:
        host, status = self._settings.host, response.status_code
        raw = (await self._read(response))[:65_536]
        try:
            said = self._said(msgspec.json.decode(raw))
        except (msgspec.DecodeError, RecursionError):
            said = "it gave no reason that can be read"
        if status in {401, 403}:
            return ModelError(
                f"The model endpoint {host} refused the key ({status}); check OPENAI_API_KEY.",
                reason="denied",
            )
        if status == 429 or status >= 500:
            wait = _seconds(response.headers.get("retry-after"))
            reason = "rate_limited" if status == 429 else "server_error"
            later = f" It asks to wait {wait:g} s." if wait is not None else ""
            return Transient(
                f"The model endpoint {host} answered {status}: {said}.{later}", reason=reason, wait=wait
            )
        return ModelError(
            f"The model endpoint {host} answered {status}: {said}; check the model's name and the address.",
            reason="bad_request",
        )

    def _said(self, value: object) -> str:
        """The server's own words about an error, short, on one line, and without our key."""
        error = value.get("error", value) if isinstance(value, dict) else value
        text = error.get("message") if isinstance(error, dict) else error
        text = " ".join(str(text or "it gave no reason").split())
        if self._settings.api_key:
            text = text.replace(self._settings.api_key, "(key)")
        return text[:_SAID].rstrip(".")


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds, from a number or a date; None when absent or nonsense."""
    if header is None:
        return None
    try:
        found = float(header)
    except ValueError:
        try:
            found = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return None
    return max(0.0, found) if found == found else None
