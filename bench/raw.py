"""The baselines, each a process of its own: raw nats-py, raw asyncpg. Run as ``python -m bench.raw ROLE LOOP URL``.

It prints a line of JSON when it is ready, then takes one order (a line of JSON) after the other from its input and
answers each with a line; the end of its input ends it. `LOOP` is asyncio (as these clients are used by default) or
uvloop (as our processes run); askers and answerers of one loop speak with each other. Times are of CLOCK_MONOTONIC,
which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

Work = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


async def answer(url: str, subject: str) -> tuple[Work, Callable[[], Awaitable[None]]]:
    """Echoes what comes in."""
    import nats
    from nats.aio.msg import Msg

    client = await nats.connect(url)

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await client.subscribe(subject, cb=echo)
    await client.flush()

    async def nothing(_order: dict[str, Any]) -> dict[str, Any]:
        return {}

    return nothing, client.close


async def ask(url: str, subject: str) -> tuple[Work, Callable[[], Awaitable[None]]]:
    """`seconds` long, `in_flight` asks of `size` bytes at a time: their times in seconds, in all."""
    import nats

    client = await nats.connect(url)

    async def drive(order: dict[str, Any]) -> dict[str, Any]:
        payload = b"x" * order["size"]
        times: list[float] = []
        began = time.monotonic()
        end = began + order["seconds"]

        async def lane() -> None:
            while (start := time.monotonic()) < end:
                await client.request(subject, payload, timeout=10)
                times.append(time.monotonic() - start)

        async with asyncio.TaskGroup() as group:
            for _ in range(order["in_flight"]):
                group.create_task(lane())
        return {"times": times, "seconds": time.monotonic() - began}

    return drive, client.close


INSERT = "insert into bench_rows (id, sender, recipient, content, at) values ($1, $2, $3, $4::jsonb, $5)"


async def write(url: str, _subject: str) -> tuple[Work, Callable[[], Awaitable[None]]]:
    """One writer: inserts and commits a row of `size` bytes at a time for `seconds`, resting `pause` after each."""
    import asyncpg

    connection = await asyncpg.connect(url)

    async def drive(order: dict[str, Any]) -> dict[str, Any]:
        content = json.dumps({"text": "x" * order["size"]})
        times: list[float] = []
        began = time.monotonic()
        end = began + order["seconds"]
        while (start := time.monotonic()) < end:
            await connection.execute(INSERT, uuid.uuid4(), "teller", "taker", content, time.time_ns() // 1000)
            times.append(time.monotonic() - start)
            if order["pause"]:
                await asyncio.sleep(order["pause"])
        return {"times": times, "began": began, "ended": time.monotonic()}

    return drive, connection.close


async def hear(url: str, subject: str) -> tuple[Work, Callable[[], Awaitable[None]]]:
    """`open` connections with a subscription each; then, for each order to `hear`, when the last of them had it."""
    import nats
    from nats.aio.client import Client
    from nats.aio.msg import Msg

    clients: list[Client] = []
    heard = 0
    all_heard = asyncio.Event()

    async def note(_message: Msg) -> None:
        nonlocal heard
        heard += 1
        if heard == len(clients):
            all_heard.set()

    async def drive(order: dict[str, Any]) -> dict[str, Any]:
        nonlocal heard
        for _ in range(order.get("open", 0)):
            client = await nats.connect(url)
            await client.subscribe(subject, cb=note)
            await client.flush()
            clients.append(client)
        if "hear" in order:
            await all_heard.wait()
            heard = 0
            all_heard.clear()
        return {"last": time.monotonic()}

    async def close() -> None:
        for client in clients:
            await client.close()

    return drive, close


async def publish(url: str, subject: str) -> tuple[Work, Callable[[], Awaitable[None]]]:
    """Publishes `size` bytes once, `after` so many seconds: when it did."""
    import nats

    client = await nats.connect(url)

    async def drive(order: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(order["after"])
        at = time.monotonic()
        await client.publish(subject, b"x" * order["size"])
        await client.flush()
        return {"at": at}

    return drive, client.close


ROLES = {"answer": answer, "ask": ask, "write": write, "hear": hear, "publish": publish}


async def serve(role: str, url: str, loop_name: str) -> None:
    work, close = await ROLES[role](url, f"bench.{loop_name}")
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await lines.readline():
        print(json.dumps(await work(json.loads(line))), flush=True)
    await close()


def main(role: str, loop: str, url: str) -> None:
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(role, url, loop))


if __name__ == "__main__":
    main(*sys.argv[1:4])
