"""Characters over HTTP(S) (A5), against real servers on this machine, and what is refused before any connection."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from swarm.character import load_character
from swarm.character.sources import addresses, web
from swarm.character.sources.addresses import is_public
from swarm.errors import CharacterError

CERTIFICATE = Path(__file__).parents[1] / "fixtures/tls/localhost.pem"
ADA = {"name": "Ada", "bio": "Computes."}
BODY = json.dumps(ADA).encode()

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


def response(body: bytes = BODY, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
    fields |= {key.replace("_", "-"): value for key, value in headers.items()}
    lines = [f"HTTP/1.1 {status}", *(f"{key}: {value}" for key, value in fields.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    """A real server on a free port: each path answers with bytes, or does as its coroutine does."""

    def __init__(self, scheme: str, port: int) -> None:
        self.paths: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.local = f"{scheme}://localhost:{port}"


@asynccontextmanager
async def serving(tls: bool = False) -> AsyncIterator[Server]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
    tasks: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            server.requests.append(request)
            does = server.paths.get(request.split(" ")[1], response(b"no", "404 Not Found"))
            if callable(does):
                await does(reader, writer)
            else:
                writer.write(does)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client may leave at any time
        finally:
            writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    server = Server("https" if tls else "http", listener.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as running:
        yield running


async def failure(url: str, **options: Any) -> str:
    options.setdefault("allow_private", True)
    with pytest.raises(CharacterError) as caught:
        await load_character(url, **options)
    return str(caught.value)


# ── what is fetched ───────────────────────────────────────────────────────────────────────────────
async def test_fault_15_a_url_that_ends_like_a_file_is_a_url(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trap = tmp_path / server.url.replace("//", "/") / "x.json"
    trap.parent.mkdir(parents=True)
    trap.write_text('{"name": "Local file", "bio": "b"}')
    server.paths["/x.json"] = response()
    assert (await load_character(f"{server.url}/x.json", allow_private=True)).name == "Ada"
    assert (await load_character(f"{server.url.upper()}/x.json", allow_private=True)).name == "Ada"
    assert "refused" in await failure("https://127.0.0.1/x.json", allow_private=False)


@pytest.mark.parametrize(
    ("path", "kind", "body"),
    [
        ("/a.json", "text/plain", BODY),
        ("/a", "application/json", BODY),
        ("/a.toml?v=1", "text/plain", b'name = "Ada"\nbio = "Computes."'),
        ("/a.yaml", "text/plain", b"name: Ada\nbio: Computes."),
        ("/a", "application/yaml", b"name: Ada\nbio: Computes."),
        ("/a", "application/toml", b'name = "Ada"\nbio = "Computes."'),
    ],
)
async def test_every_format_by_its_ending_or_its_type(
    server: Server, path: str, kind: str, body: bytes
) -> None:
    server.paths[path] = response(body, Content_Type=kind)
    assert (await load_character(server.url + path, allow_private=True)).bio == "Computes."


async def test_the_request_names_its_host_and_asks_for_gzip(server: Server) -> None:
    server.paths["/%C3%A9%20?q=%C3%A9"] = response()
    await load_character(f"{server.local}/%C3%A9%20?q=é", allow_private=True)
    head = server.requests[0]
    assert f"\r\nHost: localhost:{server.url.rpartition(':')[2]}\r\n" in head
    assert "\r\nAccept-Encoding: gzip\r\n" in head


async def test_gzip_and_chunks(server: Server) -> None:
    server.paths["/z"] = response(gzip.compress(BODY), Content_Encoding="gzip")
    server.paths["/c"] = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:9], BODY[9:]))
        + b"0\r\n\r\n"
    )
    for path in ("/z", "/c"):
        assert (await load_character(server.url + path, allow_private=True)).name == "Ada"


async def test_https_with_a_certificate_that_is_checked_against_the_name() -> None:
    trusting = ssl.create_default_context(cafile=CERTIFICATE)
    async with serving(tls=True) as server:
        server.paths["/a.json"] = response()
        character = await load_character(f"{server.local}/a.json", allow_private=True, tls=trusting)
        assert character.name == "Ada"
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(f"{server.local}/a.json")
        assert "CERTIFICATE_VERIFY_FAILED" in await failure(f"{server.url}/a.json", tls=trusting)


# ── what is an error ──────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "status", ["404 Not Found", "500 Internal Server Error", "304 Not Modified", "302 Found"]
)
async def test_a_status_that_is_not_2xx_is_told(server: Server, status: str) -> None:
    server.paths["/a.json?key=hidden"] = response(b"hidden", status)
    assert await failure(f"{server.url}/a.json?key=hidden") == f"{server.url}/a.json answered {status}."


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (response(b"{\n}}"), "/a.json, line 2: Extra data (column 2)."),
        (response(b" " * 262_145), "/a.json is larger than 256 KB."),
        (response(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), "/a.json is larger than 256 KB."),
        (response(gzip.compress(BODY)[:-9], Content_Encoding="gzip"), "/a.json broke off in the middle; try again."),
        (response(BODY, Content_Length="900"), "/a.json broke off in the middle; try again."),
        (response(b"not gzip", Content_Encoding="gzip"), "/a.json sent a body that cannot be decompressed."),
        (response(Content_Encoding="br"), "/a.json is encoded as br, which was not asked for."),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{", "/a.json cannot be fetched: "),
        (b"nonsense\r\n\r\n", "/a.json cannot be fetched: "),
        (b"", "/a.json cannot be fetched: "),
    ],
)  # fmt: skip
async def test_a_bad_answer_is_one_sentence(server: Server, answer: bytes, words: str) -> None:
    server.paths["/a.json"] = answer
    assert (await failure(f"{server.url}/a.json")).startswith(server.url + words)


async def test_exactly_256_kb_is_allowed(server: Server) -> None:
    server.paths["/a.json"] = response(BODY.ljust(256 * 1024))
    assert (await load_character(f"{server.url}/a.json", allow_private=True)).name == "Ada"


async def test_nobody_listening_is_one_sentence(server: Server) -> None:
    async with serving() as gone:
        url = gone.url
    assert (await failure(f"{url}/a.json")).startswith(f"{url}/a.json cannot be fetched: ")


async def test_code_is_never_taken_from_a_url(server: Server) -> None:
    server.paths["/a.py"] = response(b"character = {}")
    assert (
        await failure(f"{server.url}/a.py") == f"{server.url}/a.py is code, which is never taken from a URL."
    )


async def test_a_server_that_says_nothing_or_drips_is_left_at_the_deadline(server: Server) -> None:
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        left.set()

    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        try:
            while not reader.at_eof():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:
            left.set()

    for does in (silent, dripping):
        server.paths["/a.json"] = does
        left.clear()
        assert (
            await failure(f"{server.url}/a.json", timeout=0.3)
            == f"{server.url}/a.json did not answer within 0.3 s."
        )
        await asyncio.wait_for(left.wait(), 5)


async def test_a_tls_handshake_that_never_ends_is_left_at_the_deadline() -> None:
    left = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            pass
        left.set()
        writer.close()

    listener = await asyncio.start_server(mute, "127.0.0.1", 0)
    async with listener:
        url = f"https://127.0.0.1:{listener.sockets[0].getsockname()[1]}/a.json"
        assert await failure(url, timeout=0.3) == f"{url} did not answer within 0.3 s."
        await asyncio.wait_for(left.wait(), 5)


# ── redirects ─────────────────────────────────────────────────────────────────────────────────────
async def test_two_redirects_are_followed_and_a_third_is_not(server: Server) -> None:
    server.paths["/one"] = response(b"", "302 Found", Location="/two")
    server.paths["/two"] = response(b"", "308 Permanent Redirect", Location=f"{server.local}/a.json")
    server.paths["/a.json"] = response()
    assert (await load_character(f"{server.url}/one", allow_private=True)).name == "Ada"
    server.paths["/zero"] = response(b"", "301 Moved", Location="one")
    assert (
        await failure(f"{server.url}/zero")
        == f"{server.local}/a.json is one redirect too many; at most 2 are followed."
    )


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("file:///etc/passwd", "file:///etc/passwd is not an https URL."),
        ("http://8.8.8.8/a.json", "http://8.8.8.8/a.json is plain http at a public address; use https."),
        (
            "https://me:pw@127.0.0.1/",
            "https://127.0.0.1/: a user name in a URL is not supported; leave it out.",
        ),
        ("https://[::1", "redirects to what is not a URL."),
    ],
)
async def test_a_redirect_is_checked_like_the_first_url(server: Server, location: str, words: str) -> None:
    server.paths["/a.json"] = response(b"", "302 Found", Location=location)
    assert words in await failure(f"{server.url}/a.json")


async def test_a_redirect_from_a_public_address_to_a_private_one_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test's server plays a public one: only its own address is taken for public."""
    server.paths["/a.json"] = response(b"", "302 Found", Location="http://127.0.0.2/latest/meta-data")
    monkeypatch.setattr(web, "is_public", lambda address: str(address) == "127.0.0.1")
    sentence = await failure(f"{server.url}/a.json", allow_private=False, allow_http=True)
    assert (
        "http://127.0.0.2/latest/meta-data is at a private address (127.0.0.2), which is refused" in sentence
    )


# ── what is refused ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "10.1.2.3", "192.168.1.1", "172.16.0.1",
        "169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "0.0.0.0", "[::]", "2130706433",
        "0x7f.1", "127.1", "168.63.129.16", "224.0.0.1", "255.255.255.255",
    ],
)  # fmt: skip
async def test_private_addresses_in_every_spelling_are_refused(host: str) -> None:
    sentence = await failure(f"https://{host}/a.json", allow_private=False)
    assert "is at a private address" in sentence
    assert "which is refused" in sentence


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("64:ff9b::808:808", True),
        ("64:ff9b::7f00:1", False), ("64:ff9b::a9fe:a9fe", False), ("2002:7f00:1::", False), ("2002:a00:1::", False),
        ("fec0::1", False), ("2001::1", False), ("ff02::1", False), ("198.18.0.1", False), ("240.0.0.1", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(ip_address(address)) is public


async def test_one_private_address_among_public_ones_refuses_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def two(host: str, port: int) -> list[addresses.Address]:
        return [ip_address("8.8.8.8"), ip_address("10.0.0.1")]

    monkeypatch.setattr(web, "resolve", two)
    assert "is at a private address (10.0.0.1)" in await failure(
        "https://example.org/a.json", allow_private=False
    )


async def test_a_name_is_resolved_once_and_the_address_checked_is_the_one_connected_to(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebinding name would answer differently the second time; here there is no second time, nor a real name."""
    asked: list[str] = []

    async def once(host: str, port: int) -> list[addresses.Address]:
        asked.append(host)
        return [ip_address("127.0.0.1")]

    monkeypatch.setattr(web, "resolve", once)
    server.paths["/a.json"] = response()
    url = f"{server.url.replace('127.0.0.1', 'rebinding.invalid')}/a.json"
    assert (await load_character(url, allow_private=True)).name == "Ada"
    assert asked == ["rebinding.invalid"]


async def test_plain_http_is_refused_unless_allowed(server: Server) -> None:
    server.paths["/a.json"] = response()
    url = f"{server.url}/a.json"
    assert await failure(url, allow_private=False) == f"{url} is plain http; use https, or allow http."
    assert "is at a private address" in await failure(url, allow_private=False, allow_http=True)
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://", "is not a URL that can be fetched"),
        ("https:a.json", "is not a URL that can be fetched"),
        ("https://ho st/a.json", "is not a URL that can be fetched"),
        ("https://host/a\r\nX: y", "is not a URL that can be fetched"),
        ("https://host:99999/", "is not a URL"),
        ("https://[::1/a.json", "is not a URL"),
        ("https://me:pw@host/a.json", "https://host/a.json: a user name in a URL is not supported"),
        ("https://nobody.invalid/a.json", "The host nobody.invalid cannot be found"),
        (f"https://{'a' * 70}.example/a.json", "cannot be found"),
    ],
)
async def test_a_url_that_is_none_is_one_sentence(url: str, words: str) -> None:
    sentence = await failure(url)
    assert words in sentence
    assert "pw" not in sentence
