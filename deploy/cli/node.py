"""`swarm node`: this machine runs agents of a swarm that is at home elsewhere; `invite` is said at home."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from deploy.cli.frame import UsageMistake, add_common, positive
from deploy.cli.output import put_json

if TYPE_CHECKING:
    from swarm.project import Project


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument(
        "what",
        nargs="?",
        choices=("run", "invite"),
        default="run",
        help="run (what it does) or invite a machine",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--join", metavar="LINK", help="an invitation, or the file it is in; later starts need none"
    )
    invite = parser.add_argument_group("invite, on the machine of `swarm up`")
    invite.add_argument("--name", metavar="NODE", help="node-… (else: node-2, or the next free number)")
    invite.add_argument(
        "--labels", default="", metavar="A,B", help="what the machine is, for agents that want it"
    )
    invite.add_argument(
        "--capacity", type=int, default=0, metavar="N", help="instances at most (0: no bound)"
    )
    invite.add_argument("--hours", type=positive, default=24.0, metavar="H", help="how long it is good (24)")
    invite.add_argument(
        "--bus-url", metavar="URL", help="where that machine reaches NATS; several with commas"
    )
    invite.add_argument("--store-url", metavar="URL", help="where it reaches Postgres")
    invite.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write the link there, private, not here"
    )


def run(args: Namespace) -> int:
    return _invite(args) if args.what == "invite" else _run(args)


def _run(args: Namespace) -> int:
    from deploy.joining import join, joined_settings
    from deploy.node import run_node
    from deploy.supervisor import hold_lock
    from swarm.telemetry import configure_logging

    if any((args.name, args.labels, args.capacity, args.bus_url, args.store_url, args.output)):
        raise UsageMistake("These options are for `swarm node invite`; a node that joins takes --join.")
    project = _folder(args.file)
    configure_logging("INFO", "node")
    settings = asyncio.run(join(project, args.join)) if args.join else joined_settings(project)
    project.prepare()
    with hold_lock(project):
        if args.json:
            put_json({"node": settings.node, "swarm": settings.swarm, "folder": str(project.folder)})
            sys.stdout.flush()
        logging.getLogger(__name__).info("this is %s of the swarm %s", settings.node, settings.swarm)
        return run_node(settings)


def _invite(args: Namespace) -> int:
    from bus.credentials import Authority, write_secret
    from deploy.invitation import Invitations
    from deploy.supervisor import without_user
    from swarm.project import Project

    if args.join:
        raise UsageMistake("--join is for the machine that joins.")
    if args.capacity < 0 or args.capacity > 10_000:
        raise UsageMistake("--capacity is a number of instances from 0 to 10000.")
    project = Project.find(args.file)
    state = project.require_state()
    invitations = Invitations(project)
    bus_url, store_url = args.bus_url or state.bus_url, without_user(args.store_url or state.store_url)
    invitation = invitations.make(
        Authority.load(project.authority_file),
        args.name or invitations.next_name(),
        bus_url=bus_url,
        store_url=store_url,
        labels=tuple(dict.fromkeys(label for label in args.labels.split(",") if label)),
        most_instances=args.capacity,
        hours=args.hours,
    )
    link = invitation.to_url()
    if args.output:
        write_secret(args.output, link + "\n")
    if args.json:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(invitation.expires_at))
        put_json({"node": invitation.node, "expires_at": until} | ({} if args.output else {"link": link}))
    else:
        print(args.output or link)
    for what, url in (("NATS", bus_url), ("Postgres", store_url)):
        if all(_is_loopback(each) for each in url.split(",")):
            print(
                f"swarm: {what} is at {url}, which another machine cannot reach; set [bus] and [store] url in "
                "swarm.toml, or give --bus-url and --store-url as seen from there.",
                file=sys.stderr,
            )
    print(f"swarm: the link is a secret and good for one machine, for {args.hours:g} hours.", file=sys.stderr)
    return 0


def _folder(given: str | None) -> Project:
    """The project's checkout here; without a swarm.toml the folder itself, for agents that come by URL."""
    from swarm.errors import UsageError
    from swarm.project import FILE_NAME, Project

    try:
        return Project.find(given)
    except UsageError:
        folder = Path(given or ".").resolve()
        if not folder.is_dir():
            raise
        return Project(folder / FILE_NAME)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or "localhost"
    return host in ("localhost", "::1") or host.startswith("127.")
