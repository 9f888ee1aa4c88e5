"""`swarm run`: one agent alone, over HTTP. No NATS, and no Postgres unless DATABASE_URL names one."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from deploy.cli.frame import add_json, positive
from deploy.cli.output import put_json

if TYPE_CHECKING:
    from deploy.alone.agent import Alone


def add(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("character", help="a gallery folder, a file, env: or an https URL")
    parser.add_argument(
        "--port", type=_port, metavar="N", help="to listen on; 0 is any that is free (PORT, 3000)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="to listen on (127.0.0.1: this machine only)")
    parser.add_argument(
        "--drain",
        type=positive,
        default=25.0,
        metavar="S",
        help="seconds for what is in hand at the stop (25)",
    )
    parser.add_argument(
        "--edge",
        action="store_true",
        help="little memory, essential plugins, answers offline; SYNC_URL: what is told offline goes to that swarm",
    )
    parser.epilog = (
        "Environment: DATABASE_URL (postgresql://… or sqlite:…; sqlite:./agent.db), LOG_LEVEL (INFO), PORT, "
        "HTTP_TOKEN (whoever asks must have it). A setting that the character leaves open is looked up there too."
    )


def run(args: Namespace) -> int:
    from deploy.alone.life import live
    from deploy.alone.settings import run_settings
    from swarm.telemetry import configure_logging

    settings = run_settings(
        args.character,
        host=args.host,
        port=args.port,
        drain_seconds=args.drain,
        edge=args.edge,
        environ=dict(os.environ),
    )
    configure_logging(settings.log_level, "alone")

    def announce(agent: Alone, url: str) -> None:
        if args.json:
            put_json({"agent": agent.name, "agent_id": agent.character.id, "url": url, "pid": os.getpid()})
        else:
            print(f"{agent.name} listens at {url}; Ctrl-C ends it")
        sys.stdout.flush()

    return asyncio.run(live(settings, announce))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)
