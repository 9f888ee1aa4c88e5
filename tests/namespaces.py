"""A network and a process tree of its own for a machine that a test plays, as far as this kernel gives them."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

PID_ONE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


@dataclass
class Network:
    """`before` starts a program in it, `host` is where it finds this machine. Without a name it is this one's own."""

    before: tuple[str, ...]
    host: str
    link: str = ""

    def set(self, state: str) -> None:
        """Pull the plug (``down``): nothing comes through, and nobody is told."""
        _run("ip", "link", "set", self.link, state)


@contextmanager
def network() -> Iterator[Network | None]:
    """None, and a word on stderr, when the kernel refuses."""
    name = f"swarm-{secrets.token_hex(3)}"
    inside = f"{name[:10]}i"
    number = os.getpid() % 250
    host, guest = f"10.213.{number}.1", f"10.213.{number}.2"
    steps: list[Sequence[str]] = [
        ("ip", "netns", "add", name),
        ("ip", "link", "add", name, "type", "veth", "peer", "name", inside, "netns", name),
        ("ip", "addr", "add", f"{host}/30", "dev", name),
        ("ip", "link", "set", name, "up"),
        ("ip", "-n", name, "addr", "add", f"{guest}/30", "dev", inside),
        ("ip", "-n", name, "link", "set", inside, "up"),
        ("ip", "-n", name, "link", "set", "lo", "up"),
    ]
    try:
        why = next((said for step in steps if (said := _run(*step))), "")
        if why:
            print(f"no network namespace here, the kernel refuses: {why}", file=sys.__stderr__)
            yield None
        else:
            yield Network(("ip", "netns", "exec", name), host, name)
    finally:
        _run("ip", "link", "del", name)
        _run("ip", "netns", "del", name)


def process_tree() -> tuple[str, ...]:
    """What goes before a program that is to be PID 1; empty, and a word on stderr, when the kernel refuses."""
    if why := _run(*PID_ONE, "true"):
        print(f"no pid namespace here, the kernel refuses: {why}", file=sys.__stderr__)
        return ()
    return PID_ONE


def _run(*words: str) -> str:
    """What it complained of; empty when it did what was asked."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except OSError as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr.strip() or f"{words[0]} ended with {done.returncode}"
