"""A character over HTTPS: bounded in time, size, redirects and reach.

Written on `http.client` in a thread rather than on a client library, because the address that was checked
must be the one connected to, and because nothing else here needs 24 MB of client. Proxies named by the
environment are not used. Code is never taken from a URL.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import zlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit, urlunsplit

from swarm.character.sources.addresses import Address, is_public, resolve
from swarm.character.sources.text import FORMATS, Format, parse
from swarm.errors import CharacterError

MAX_BODY_BYTES: Final = 256 * 1024
MAX_REDIRECTS: Final = 2
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_PORTS: Final = {"https": 443, "http": 80}
_GZIP: Final = frozenset({"gzip", "x-gzip"})
_GZIP_WINDOW: Final = 31
_PATH_LETTERS: Final = "/%:@!$&'()*+,;=~-._?"


@dataclass(frozen=True, slots=True)
class Reach:
    """What a fetch may reach. Plain http needs `allow_http`, or `allow_private` and a private address."""

    timeout: float = 10.0
    allow_private: bool = False
    allow_http: bool = False
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class _Answer:
    status: int
    reason: str
    location: str
    kind: str
    body: bytes


async def read_url(url: str, reach: Reach) -> dict[str, Any]:
    """The document at a URL. Raises CharacterError: what was refused, the status, the bound that was passed."""
    try:
        async with asyncio.timeout(reach.timeout):
            return await _follow(url, reach)
    except TimeoutError:
        raise CharacterError(f"{shown(url)} did not answer within {reach.timeout:g} s.") from None


def shown(url: str) -> str:
    """A URL as it may stand in an error: without the user, password, query and fragment it may carry."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url.partition("?")[0].rpartition("@")[2]


async def _follow(url: str, reach: Reach) -> dict[str, Any]:
    for _ in range(MAX_REDIRECTS + 1):
        target = _split(url)
        answer = await _get(target, await _checked(target, reach), reach)
        if answer.status in _REDIRECTS and answer.location:
            try:
                url = urljoin(url, answer.location)
            except ValueError:
                raise CharacterError(f"{shown(url)} redirects to what is not a URL.") from None
            continue
        if not 200 <= answer.status < 300:
            raise CharacterError(f"{shown(url)} answered {answer.status} {answer.reason}".rstrip() + ".")
        return parse(answer.body, _format(target, answer.kind), shown(url))
    raise CharacterError(f"{shown(url)} is one redirect too many; at most {MAX_REDIRECTS} are followed.")


def _split(url: str) -> SplitResult:
    try:
        target = urlsplit(url)
        host, _ = target.hostname, target.port
    except ValueError as error:
        raise CharacterError(f"{shown(url)} is not a URL: {error}.") from None
    if target.scheme not in _PORTS:
        raise CharacterError(f"{shown(url)} is not an https URL.")
    if not host or any(letter <= " " or letter == "\x7f" for letter in url):
        raise CharacterError(f"{shown(url)!r} is not a URL that can be fetched.")
    if target.username is not None:
        raise CharacterError(f"{shown(url)}: a user name in a URL is not supported; leave it out.")
    return target


def _port(target: SplitResult) -> int:
    return target.port or _PORTS[target.scheme]


async def _checked(target: SplitResult, reach: Reach) -> list[Address]:
    """The addresses to connect to. One that is private refuses them all: such a name is up to no good."""
    url = shown(target.geturl())
    if target.scheme == "http" and not (reach.allow_http or reach.allow_private):
        raise CharacterError(f"{url} is plain http; use https, or allow http.", reason="refused")
    addresses = await resolve(target.hostname or "", _port(target))
    private = [address for address in addresses if not is_public(address)]
    if private and not reach.allow_private:
        raise CharacterError(
            f"{url} is at a private address ({private[0]}), which is refused; allow private addresses if you "
            "mean it.",
            reason="refused",
        )
    if target.scheme == "http" and not reach.allow_http and len(private) < len(addresses):
        raise CharacterError(f"{url} is plain http at a public address; use https.", reason="refused")
    return addresses


async def _get(target: SplitResult, addresses: list[Address], reach: Reach) -> _Answer:
    request = _Request(target, addresses, reach)
    try:
        return await asyncio.to_thread(request.run)
    except zlib.error:
        raise CharacterError(f"{shown(target.geturl())} sent a body that cannot be decompressed.") from None
    except TimeoutError:  # the socket's own deadline, a moment before ours
        raise
    except (OSError, http.client.HTTPException) as error:
        text = str(error) or type(error).__name__
        raise CharacterError(f"{shown(target.geturl())} cannot be fetched: {text}.") from None
    finally:
        request.abort()  # at the deadline or when cancelled: the thread wakes up and ends


@dataclass(slots=True)
class _Request:
    """One GET, in a thread, on a socket that the event loop may shut at any time."""

    target: SplitResult
    addresses: list[Address]
    reach: Reach
    sock: socket.socket | None = field(default=None, init=False)
    aborted: threading.Event = field(default_factory=threading.Event, init=False)

    def run(self) -> _Answer:
        host, port = self.target.hostname or "", _port(self.target)
        connection = http.client.HTTPConnection(host, port)
        connection.sock = self._connect(host, port)
        try:
            path = quote(urlunsplit(("", "", self.target.path or "/", self.target.query, "")), _PATH_LETTERS)
            headers = {
                "Accept": "application/json, */*;q=0.5",
                "Accept-Encoding": "gzip",
                "User-Agent": "swarm",
            }
            if port == _PORTS[self.target.scheme]:
                headers["Host"] = f"[{host}]" if ":" in host else host.encode("idna").decode()
            connection.request("GET", path, headers=headers)
            with connection.getresponse() as response:
                return _Answer(
                    response.status,
                    response.reason,
                    response.headers.get("Location", ""),
                    response.headers.get_content_type(),
                    _body(response, shown(self.target.geturl())) if 200 <= response.status < 300 else b"",
                )
        finally:
            connection.close()

    def _connect(self, host: str, port: int) -> socket.socket:
        trouble: OSError | None = None
        for address in self.addresses:
            if self.aborted.is_set():
                break
            try:
                raw = socket.create_connection((str(address), port), self.reach.timeout)
            except OSError as error:
                trouble = error
                continue
            self.sock = raw
            if self.aborted.is_set():
                raw.close()
                break
            if self.target.scheme == "https":
                context = self.reach.tls or ssl.create_default_context()
                # without the handshake, so that abort() reaches the socket while it is under way
                tls = context.wrap_socket(raw, server_hostname=host, do_handshake_on_connect=False)
                self.sock = tls
                try:
                    tls.do_handshake()
                except BaseException:
                    tls.close()
                    raise
            return self.sock
        raise trouble or OSError("it has no address to connect to")

    def abort(self) -> None:
        self.aborted.set()
        if self.sock is not None and self.sock.fileno() >= 0:
            with suppress(OSError):  # closed by the thread in between
                # the plain shutdown: TLS's own would race with the thread that is reading
                socket.socket.shutdown(self.sock, socket.SHUT_RDWR)


def _body(response: http.client.HTTPResponse, url: str) -> bytes:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "", *_GZIP}:
        raise CharacterError(f"{url} is encoded as {encoding}, which was not asked for.")
    raw = response.read(MAX_BODY_BYTES + 1)
    if len(raw) > MAX_BODY_BYTES:
        raise _too_large(url)
    if response.length:
        raise CharacterError(f"{url} broke off in the middle; try again.")
    if encoding not in _GZIP:
        return raw
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    body = unpacker.decompress(raw, MAX_BODY_BYTES + 1)
    if len(body) > MAX_BODY_BYTES:
        raise _too_large(url)
    if not unpacker.eof:
        raise CharacterError(f"{url} broke off in the middle; try again.")
    return body


def _too_large(url: str) -> CharacterError:
    return CharacterError(f"{url} is larger than {MAX_BODY_BYTES // 1024} KB.", reason="too_large")


def _format(target: SplitResult, kind: str) -> Format:
    suffix = PurePosixPath(target.path).suffix.lower()
    if suffix == ".py":
        raise CharacterError(f"{shown(target.geturl())} is code, which is never taken from a URL.")
    if suffix in FORMATS:
        return FORMATS[suffix]
    if "yaml" in kind:
        return "yaml"
    return "toml" if "toml" in kind else "json"
