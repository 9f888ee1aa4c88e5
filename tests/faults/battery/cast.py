"""The swarm of the battery: eight agents in eleven processes, with replicas and children, all with one plugin."""

from __future__ import annotations

import json
from typing import Final

NAME: Final = "battery"
SECRET: Final = "sesame-7f3a91c2-never-to-be-seen"
"""Planted in every agent's character; nothing may ever show it."""
PLAIN: Final = ("ada", "bob", "cyd", "kim")
"""Those that take the lanes of numbers; kim is lead's child, bob and cyd have replicas."""
AGENTS: Final = ("lead", "kim", "kit", *PLAIN[:3], "goat", "tiny")
CONVERSATION: Final = 500

PLUGIN: Final = '''
import asyncio
import json
import os
import time

from swarm import Plugin

NEXT = {"ada": "bob", "bob": "cyd", "cyd": "kim", "kim": "ada"}
NOTES = os.open("RECORD", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
plugin = Plugin("player")


def note(message, runtime):
    line = {"t": round(time.monotonic(), 4), "what": "run", "agent": runtime.name, "instance": runtime.instance,
            "message": message.id, "sender": message.sender}
    os.write(NOTES, json.dumps(line).encode() + b"\\n")


@plugin.action()
async def take(message, runtime):
    """Takes a message: the effect is a memory, written with the turn. Some are told on."""
    note(message, runtime)
    data = message.content.data
    await asyncio.sleep(data.get("slow", 0.0))
    effect = {"message": message.id, "sender": message.sender, "room": message.room, "n": data.get("n")}
    await runtime.remember(kind="effect", data=effect)
    if data.get("relay"):
        await runtime.peers.tell(NEXT[runtime.name], "take: it", room="on " + message.room, data={"n": data["n"]})


@plugin.action()
async def give(message, runtime):
    """Gives a child a task."""
    note(message, runtime)
    data = message.content.data
    await runtime.peers.delegate(data["child"], "work: it", input={"slow": data["slow"]}, key="work")


@plugin.action()
async def work(message, runtime):
    """Does a task."""
    note(message, runtime)
    await asyncio.sleep(message.content.data["input"].get("slow", 0.0))
    await runtime.remember(kind="done", data={"task": message.task})
    return "done"


@plugin.action()
async def echo(message, runtime, callback):
    """Answers what it was asked, in pieces."""
    for piece in ("one", "two", "three"):
        await callback(piece)
    return message.content.data["nonce"]


@plugin.action()
async def speak(message, runtime):
    """Announces to all."""
    note(message, runtime)
    await runtime.peers.announce("take: it")


@plugin.action()
async def poison(message, runtime):
    """Takes the process down with it, whoever tries."""
    note(message, runtime)
    os._exit(9)


@plugin.action()
async def spoil(message, runtime):
    """Does not work."""
    note(message, runtime)
    raise ValueError("spoiled")


@plugin.action()
async def thank(message, runtime):
    """Thanks whoever wrote, each time in a room where nobody has been."""
    note(message, runtime)
    to = message.sender if message.sender != "operator" else NEXT[runtime.name]
    await runtime.peers.tell(to, "thank: you too", room=f"fresh {message.id}")
'''

FILES: Final = {
    **{
        f"agents/{name}/character.json": json.dumps(
            {"name": name, "bio": "Plays.", "secrets": {"BATTERY_KEY": SECRET}}
        )
        for name in AGENTS
    },
    **{f"agents/{name}/plugin.py": PLUGIN for name in AGENTS},
}

TOML: Final = f"""
[swarm]
name = "{NAME}"
coordinators = 2
[bus]
url = "{{bus}}"
[store]
url = "{{store}}"
[limits]
conversation_messages = {CONVERSATION}
[agents.lead]
character = "agents/lead"
permissions = {{{{ create_children = true, control_children = true, announce = true }}}}
[agents.kim]
character = "agents/kim"
parent = "lead"
[agents.kit]
character = "agents/kit"
parent = "lead"
replicas = 2
[agents.ada]
character = "agents/ada"
[agents.bob]
character = "agents/bob"
replicas = 2
[agents.cyd]
character = "agents/cyd"
replicas = 2
balance = "least-loaded"
[agents.goat]
character = "agents/goat"
[agents.tiny]
character = "agents/tiny"
limits = {{{{ inbox_messages = 20 }}}}
"""
