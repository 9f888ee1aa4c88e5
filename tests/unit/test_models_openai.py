"""The OpenAI-compatible client against a real HTTP server that each test starts and scripts."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from swarm.agent.models import (
    CHOICE,
    EMBEDDING,
    OBJECT,
    TEXT_LARGE,
    TEXT_SMALL,
    Candidate,
    ChoiceRequest,
    EmbeddingRequest,
    Message,
    ModelRegistry,
    ObjectRequest,
    TextRequest,
    Usage,
    choose,
)
from swarm.agent.models.local import PlainPersona, register_local
from swarm.agent.models.openai_compatible import OpenAICompatible, register_openai
from swarm.agent.models.openai_settings import OpenAISettings, configured
from swarm.errors import ConfigError, ModelError

KEY = "sk-test-0123456789-secret"
HELLO = TextRequest(prompt="hello")
Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Endpoint:
    """A real HTTP/1.1 server: it answers its n-th request with the n-th script, the last one for ever."""

    def __init__(self, *scripts: Script) -> None:
        self._scripts = scripts
        self.requests: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in head[1:] if line)}
            self.paths.append(head[0].split()[1])
            self.keys.append(headers.get("authorization"))
            self.requests.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
            await self._scripts[min(len(self.requests), len(self._scripts)) - 1](writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client went away, which some tests make it do
        finally:
            writer.close()


def answer(status: int = 200, body: bytes = b"", kind: str = "application/json", extra: str = "") -> Script:
    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(
            f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
            f"Connection: close\r\n{extra}\r\n".encode()
            + body
        )

    return script


def error(status: int, text: str, extra: str = "") -> Script:
    return answer(status, json.dumps({"error": {"message": text}}).encode(), extra=extra)


def completion(text: str | None, **more: object) -> Script:
    body = {
        "model": "tiny-1",
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 7},
        **more,
    }
    return answer(body=json.dumps(body).encode())


def events(*pieces: bytes, after: Script | None = None) -> Script:
    """A stream of server-sent events, one write for each piece, ended by closing the connection."""

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        if after is not None:
            await after(writer)

    return script


def event(text: str | None = None, finish: str | None = None, **more: object) -> bytes:
    choice = {"delta": {} if text is None else {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"model": "tiny-1", "choices": [choice], **more}).encode() + b"\n\n"


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


@asynccontextmanager
async def endpoint(*scripts: Script, **settings: object) -> AsyncIterator[tuple[Endpoint, OpenAICompatible]]:
    told = Endpoint(*scripts)
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        await told.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    given: dict[str, Any] = {"api_key": KEY, "first_wait": 0.01, "timeout": 10.0, **settings}
    model = OpenAICompatible(OpenAISettings(base_url=f"http://127.0.0.1:{port}/v1", **given))
    try:
        yield told, model
    finally:
        await model.close()
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await server.wait_closed()


async def failure(call: Awaitable[object]) -> ModelError:
    with pytest.raises(ModelError) as caught:
        await call
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return caught.value


# Text


async def test_text_is_asked_with_the_key_the_model_and_the_messages() -> None:
    async with endpoint(completion("Good day."), large_model="big") as (told, model):
        reply = await model.text_large(
            TextRequest(
                prompt="hello",
                system="Be brief.",
                messages=(Message("user", "hi"), Message("assistant", "yes?")),
                stop=("END",),
                temperature=0.2,
                max_tokens=50,
            )
        )
    assert (reply.text, reply.model, reply.usage) == ("Good day.", "tiny-1", Usage(11, 7))
    assert told.paths == ["/v1/chat/completions"] and told.keys == [f"Bearer {KEY}"]
    assert told.requests[0] == {
        "model": "big",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "yes?"},
            {"role": "user", "content": "hello"},
        ],
        "stop": ["END"],
        "temperature": 0.2,
        "max_tokens": 50,
    }


async def test_a_server_that_counts_no_tokens_gets_an_estimate_that_says_so() -> None:
    async with endpoint(completion("Good day.", usage=None)) as (_, model):
        usage = (await model.text_small(HELLO)).usage
    assert usage.estimated and usage.input_tokens > 0 and usage.output_tokens > 0


async def test_a_local_server_without_a_key_is_sent_none() -> None:
    async with endpoint(completion("x"), api_key="") as (told, model):
        await model.text_small(HELLO)
    assert told.keys == [None]


# Streaming


async def collect(model: OpenAICompatible, **more: object) -> tuple[list[str], Any]:
    pieces: list[str] = []

    async def on_chunk(piece: str) -> None:
        pieces.append(piece)

    return pieces, await model.text_small(TextRequest(prompt="hello", on_chunk=on_chunk, **more))  # type: ignore[arg-type]


async def test_a_stream_is_passed_on_piece_by_piece_while_the_server_is_still_sending() -> None:
    first_seen = asyncio.Event()

    async def wait_for_reader(writer: asyncio.StreamWriter) -> None:
        await asyncio.wait_for(first_seen.wait(), 5)
        writer.write(event(" world") + event(finish="stop"))
        writer.write(
            event(choices=[], usage={"prompt_tokens": 3, "completion_tokens": 2}) + b"data: [DONE]\n\n"
        )

    pieces: list[str] = []

    async def on_chunk(piece: str) -> None:
        pieces.append(piece)
        first_seen.set()

    async with endpoint(events(event("Hello"), after=wait_for_reader)) as (told, model):
        reply = await model.text_small(TextRequest(prompt="hi", on_chunk=on_chunk))
    assert pieces == ["Hello", " world"]
    assert (reply.text, reply.usage, reply.finish) == ("Hello world", Usage(3, 2), "stop")
    assert told.requests[0]["stream"] is True


async def test_a_stream_cut_inside_lines_and_signs_with_comments_and_crlf_is_read_whole() -> None:
    raw = b": keep-alive\r\n\r\n" + event("日本\u2028語").replace(b"\n", b"\r\n")
    raw += 'data: {"choices": [{"delta": {"content": "é\u2028ü"}, "finish_reason": "stop"}]}\n\ndata: [DONE]'.encode()
    async with endpoint(events(*(raw[at : at + 1] for at in range(len(raw))))) as (_, model):
        pieces, reply = await collect(model)
    assert pieces == ["日本\u2028語", "é\u2028ü"] and reply.text == "日本\u2028語é\u2028ü"


async def test_a_server_that_does_not_stream_gives_its_answer_as_one_piece() -> None:
    async with endpoint(completion("All at once.")) as (_, model):
        pieces, reply = await collect(model)
    assert pieces == ["All at once."] and reply.text == "All at once."


async def test_a_stream_that_breaks_off_is_an_error_and_is_not_begun_again() -> None:
    async with endpoint(events(event("Half an an"))) as (told, model):
        error = await failure(collect(model))
    assert error.reason == "broken_off" and len(told.requests) == 1


async def test_a_stream_cut_off_in_the_middle_of_a_chunk_does_not_say_its_first_words_twice() -> None:
    async def cut(writer: asyncio.StreamWriter) -> None:
        piece = event("Half")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n1000\r\nthe rest never comes")

    pieces: list[str] = []

    async def on_chunk(piece: str) -> None:
        pieces.append(piece)

    async with endpoint(cut) as (told, model):
        error = await failure(model.text_small(TextRequest(prompt="hello", on_chunk=on_chunk)))
    assert error.reason == "broken_off" and pieces == ["Half"] and len(told.requests) == 1


async def test_an_error_inside_a_stream_is_an_error() -> None:
    broken = b'data: {"error": {"message": "out of memory"}}\n\n'
    async with endpoint(events(event("Hi"), broken)) as (_, model):
        error = await failure(collect(model))
    assert "out of memory" in error.text and "127.0.0.1" in error.text


async def test_what_the_reader_of_a_stream_raises_reaches_the_caller_as_it_is() -> None:
    async def on_chunk(piece: str) -> None:
        raise TimeoutError("my own")

    async with endpoint(events(event("Hi"), event(finish="stop"))) as (told, model):
        with pytest.raises(TimeoutError, match="my own"):
            await model.text_small(TextRequest(prompt="hello", on_chunk=on_chunk))
    assert len(told.requests) == 1


# What goes wrong


async def test_an_endpoint_that_is_down_is_named_with_what_to_do() -> None:
    async with endpoint(completion("x")) as (_, model):
        settings = model._settings
    error = await failure(OpenAICompatible(settings).text_small(HELLO))  # its server is closed now
    assert error.reason == "unreachable"
    assert settings.host in error.text and "OPENAI_BASE_URL" in error.text


async def test_a_slow_endpoint_ends_at_the_deadline_and_is_not_asked_again() -> None:
    async with endpoint(silence, timeout=10.0) as (told, model):
        began = time.monotonic()
        error = await failure(model.text_small(TextRequest(prompt="hi", timeout=0.3)))
    assert error.reason == "slow" and "0.3 s" in error.text and "127.0.0.1" in error.text
    assert time.monotonic() - began < 5 and len(told.requests) == 1


async def test_an_endpoint_that_drips_does_not_stretch_the_deadline() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(event("."))
            await writer.drain()
            await asyncio.sleep(0.02)

    async with endpoint(events(after=drip), timeout=0.4) as (_, model):
        error = await failure(collect(model))
    assert error.reason == "slow"


async def test_a_web_page_instead_of_json_says_that_the_address_is_probably_wrong() -> None:
    page = b"<!DOCTYPE html><html><body>nginx</body></html>"
    async with endpoint(answer(body=page, kind="text/html")) as (_, model):
        error = await failure(model.text_small(HELLO))
        streamed = await failure(collect(model))
    assert error.reason == streamed.reason == "not_json"
    assert "web page" in error.text and "/v1" in error.text and "nginx" not in error.text


@pytest.mark.parametrize("body", [b"", b"{oops", b"[1]", b'"text"', b"\xff\xfe", b"[" * 100_000])
async def test_an_answer_that_is_no_json_object_is_an_error(body: bytes) -> None:
    async with endpoint(answer(body=body)) as (_, model):
        assert (await failure(model.text_small(HELLO))).reason == "not_json"


@pytest.mark.parametrize(
    "body", [b"{}", b'{"choices": []}', b'{"choices": [{"message": {"content": null}}]}']
)
async def test_json_of_another_protocol_is_an_error(body: bytes) -> None:
    async with endpoint(answer(body=body)) as (_, model):
        assert (await failure(model.text_small(HELLO))).reason == "bad_answer"


async def test_a_refused_key_is_not_tried_again_and_not_told() -> None:
    async with endpoint(error(401, f"Incorrect API key provided: {KEY}")) as (told, model):
        refused = await failure(model.text_small(HELLO))
    assert refused.reason == "denied" and "OPENAI_API_KEY" in refused.text and len(told.requests) == 1


async def test_a_bad_request_tells_the_servers_reason_without_our_key() -> None:
    async with endpoint(error(404, f"model 'x' not found for {KEY}")) as (told, model):
        bad = await failure(model.text_small(HELLO))
    assert bad.reason == "bad_request" and "not found for (key)" in bad.text and len(told.requests) == 1


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    async with (
        endpoint(completion("stolen")) as (other, other_model),
        endpoint(answer(307, extra=f"Location: http://{other_model._settings.host}/v1/x\r\n")) as (_, model),
    ):
        await failure(model.text_small(HELLO))
    assert other.requests == []


async def test_a_moments_trouble_is_tried_again() -> None:
    async with endpoint(error(503, "starting"), hang_up, completion("There.")) as (told, model):
        assert (await model.text_small(HELLO)).text == "There."
    assert len(told.requests) == 3


async def test_lasting_trouble_ends_after_the_tries() -> None:
    async with endpoint(error(500, "boom")) as (told, model):
        lasting = await failure(model.text_small(HELLO))
    assert lasting.reason == "server_error" and "boom" in lasting.text and len(told.requests) == 3


async def test_the_pause_the_server_asks_for_is_kept() -> None:
    busy = error(429, "slow down", "Retry-After: 0.3\r\n")
    async with endpoint(busy, completion("Now.")) as (_, model):
        began = time.monotonic()
        assert (await model.text_small(HELLO)).text == "Now."
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("pause", ["3600", "Fri, 31 Dec 2999 23:59:59 GMT"])
async def test_a_pause_longer_than_allowed_ends_the_call_at_once(pause: str) -> None:
    async with endpoint(error(429, "quota", f"Retry-After: {pause}\r\n"), completion("x")) as (told, model):
        began = time.monotonic()
        busy = await failure(model.text_small(HELLO))
    assert busy.reason == "rate_limited" and "asks to wait" in busy.text
    assert len(told.requests) == 1 and time.monotonic() - began < 5


async def test_an_endless_answer_is_cut() -> None:
    async with endpoint(answer(body=b" " * 20_000), max_bytes=10_000) as (_, model):
        assert (await failure(model.text_small(HELLO))).reason == "too_large"
    flood = events(*(event("x" * 1000) for _ in range(20)))
    async with endpoint(flood, max_bytes=10_000) as (_, model):
        assert (await failure(collect(model))).reason == "too_large"


# Objects


SCHEMA = {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}}


@pytest.mark.parametrize(
    "text",
    [
        '{"city": "Oslo"}',
        'Sure!\n```json\n{"city": "Oslo"}\n```\nAnything else?',
        '<think>{"city": "Rome"} or so?</think>\n{"city": "Oslo"}',
        'It is {not this} but {"country": "NO"} and {"city": "Oslo"}.',
    ],
)
async def test_an_object_is_found_in_what_models_write_around_it(text: str) -> None:
    async with endpoint(completion(text)) as (told, model):
        reply = await model.object(ObjectRequest(prompt="where?", schema=SCHEMA, name="place"))
    assert reply.value == {"city": "Oslo"} and len(told.requests) == 1
    asked = told.requests[0]["response_format"]
    assert asked == {"type": "json_schema", "json_schema": {"name": "place", "schema": SCHEMA}}
    assert "JSON Schema" in told.requests[0]["messages"][0]["content"]


async def test_a_server_without_json_schema_is_asked_by_the_prompt_alone() -> None:
    refusal = error(400, "response_format is not supported")
    async with endpoint(refusal, completion('{"city": "Oslo"}')) as (told, model):
        assert (await model.object(ObjectRequest(prompt="where?", schema=SCHEMA))).value == {"city": "Oslo"}
    assert "response_format" not in told.requests[1]


async def test_an_object_that_does_not_fit_is_asked_for_once_more_with_the_reason() -> None:
    async with endpoint(completion('{"town": "Oslo"}'), completion('{"city": "Oslo"}')) as (told, model):
        reply = await model.object(ObjectRequest(prompt="where?", schema=SCHEMA))
    assert reply.value == {"city": "Oslo"} and reply.usage == Usage(22, 14)
    assert "it lacks city" in told.requests[1]["messages"][-1]["content"]
    async with endpoint(completion("{" * 5_000)) as (told, model):
        error = await failure(model.object(ObjectRequest(prompt="where?", schema=SCHEMA)))
    assert error.reason == "not_json" and len(told.requests) == 2


# Embeddings


async def test_embeddings_come_in_the_order_of_the_texts() -> None:
    data = [{"index": 1, "embedding": [0.0, 1]}, {"index": 0, "embedding": [1.0, 0]}]
    body = {"model": "emb", "data": data, "usage": {"prompt_tokens": 4, "total_tokens": 4}}
    async with endpoint(answer(body=json.dumps(body).encode())) as (told, model):
        reply = await model.embed(EmbeddingRequest(texts=("a", "b")))
        none = await model.embed(EmbeddingRequest(texts=()))
    assert reply.vectors == ((1.0, 0.0), (0.0, 1.0)) and reply.usage == Usage(4, 0) and reply.model == "emb"
    assert none.vectors == () and told.paths == ["/v1/embeddings"]


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"embedding": [1.0]}],
        [{"embedding": [1.0]}, {"embedding": [1.0, 2.0]}],
        [{"embedding": [1.0]}, {"embedding": ["x"]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
    ],
)
async def test_vectors_that_do_not_match_the_texts_are_an_error(data: object) -> None:
    async with endpoint(answer(body=json.dumps({"data": data}).encode())) as (_, model):
        assert (await failure(model.embed(EmbeddingRequest(texts=("a", "b"))))).reason == "bad_answer"


# Choice


ACTIONS = (
    Candidate("SEND_MAIL", "Sends a letter.", ("EMAIL",)),
    Candidate("BENCH_ACT_0", "The first bench action."),
)
PICK = ChoiceRequest(text="write to Bob", candidates=ACTIONS)


@pytest.mark.parametrize(
    "said",
    ["SEND_MAIL", "`send_mail`.", "email", '{"action": "SEND_MAIL"}', "<think>ACT?</think>\nSEND_MAIL"],
)
async def test_an_exact_name_or_simile_is_chosen_and_the_prompt_lists_names_and_descriptions(
    said: str,
) -> None:
    async with endpoint(completion(said)) as (told, model):
        reply = await model.choose(PICK)
    assert (reply.name, reply.outcome) == ("SEND_MAIL", "chosen") and len(told.requests) == 1
    system = told.requests[0]["messages"][0]["content"]
    assert "- SEND_MAIL: Sends a letter." in system and "- BENCH_ACT_0: The first bench action." in system


async def test_an_invented_action_is_answered_once_with_the_valid_ones() -> None:
    async with endpoint(completion("WRITE_LETTER"), completion("SEND_MAIL")) as (told, model):
        reply = await model.choose(PICK)
    assert reply.name == "SEND_MAIL" and reply.usage == Usage(22, 14)
    last = told.requests[1]["messages"][-2:]
    assert last[0] == {"role": "assistant", "content": "WRITE_LETTER"}
    assert "SEND_MAIL, BENCH_ACT_0, NONE" in last[1]["content"]


@pytest.mark.parametrize("said", ["ACT", "I will run BENCH_ACT_0 now", "SEND", "", "rm -rf /"])
async def test_an_answer_that_only_contains_or_is_part_of_a_name_runs_nothing(said: str) -> None:
    async with endpoint(completion(said)) as (told, model):
        reply = await model.choose(PICK)
    assert (reply.name, reply.outcome) == (None, "unresolved") and len(told.requests) == 2


async def test_none_abstains_without_a_second_question() -> None:
    async with endpoint(completion("None.")) as (told, model):
        reply = await model.choose(PICK)
    assert (reply.name, reply.outcome) == (None, "abstained") and len(told.requests) == 1


# Registered


async def test_registered_beside_the_local_model_it_serves_every_type_and_local_stays_for_the_asking() -> (
    None
):
    registry = ModelRegistry()
    register_local(registry, PlainPersona(name="Ada"))
    async with endpoint(completion("SEND_MAIL")) as (_, made):
        model = register_openai(registry, made._settings)
        try:
            assert (await registry.use(TEXT_SMALL, HELLO)).text == "SEND_MAIL"
            assert (await choose(registry, PICK)).name == "SEND_MAIL"
            assert "Ada" in (await registry.use(TEXT_LARGE, HELLO, provider="local")).text
            assert registry.has(OBJECT, "openai") and registry.has(EMBEDDING, "openai")
            assert registry.usage["text_small", "openai"] == Usage(11, 7)
            assert registry.resolve(CHOICE).provider == "openai"
        finally:
            await model.close()


async def test_the_key_is_in_no_repr_and_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with endpoint(error(503, f"{KEY} is busy"), completion("x")) as (_, model):
        await model.text_small(HELLO)
        assert KEY not in repr(model._settings) and KEY not in str(model._settings)
    assert "trying again" in caplog.text and KEY not in caplog.text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"base_url": "localhost:8080"}, "http"),
        ({"base_url": "http://"}, "host"),
        ({"base_url": "http://h:port/v1"}, "host"),
        ({"base_url": "http://me:hidden@h/v1"}, "OPENAI_API_KEY"),
        ({"api_key": "hidden\n"}, "OPENAI_API_KEY"),
        ({"api_key": "hidden ключ"}, "OPENAI_API_KEY"),
        ({"tries": 0}, "try"),
    ],
)
def test_settings_that_cannot_work_are_refused_without_telling_a_secret(
    settings: dict[str, Any], text: str
) -> None:
    with pytest.raises(ConfigError, match=text) as caught:
        OpenAISettings(**settings)
    assert "hidden" not in str(caught.value)


def test_settings_come_from_a_mapping_and_empty_is_absent() -> None:
    given = {
        "OPENAI_BASE_URL": "http://h:1/v1",
        "OPENAI_MODEL": "m",
        "OPENAI_SMALL_MODEL": "s",
        "OPENAI_API_KEY": "",
    }
    found = OpenAISettings.from_mapping(given)
    assert (found.host, found.small_model, found.large_model, found.api_key) == ("h:1", "s", "m", "")
    assert configured(given) and not configured({"OPENAI_API_KEY": ""})
