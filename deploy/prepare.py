"""A swarm whose servers and processes somebody else starts (compose, Kubernetes, systemd): what they must be told.

    python -m deploy.prepare keys       before the servers: the authority's keys, nats.conf, the database's password
    python -m deploy.prepare settings   what coordinator and nodes read at their start
    python -m deploy.prepare registry   with the database up: the schema and the agents
    python -m deploy.prepare swarm      the last two at once

`swarm up` does the same for a swarm on one machine. All may run again at any time: keys and passwords
stay as they are, the registry follows swarm.toml. What is left in `.swarm/` belongs to the nodes, because
whoever holds its keys can be anyone; the coordinator's part goes to a folder of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit, urlunsplit

from bus.credentials import Authority, read_secret, write_secret
from bus.errors import BusError
from deploy.processes import ProcessId
from deploy.provision import Plan, load_plan, provision
from deploy.supervisor import first_cause, without_user
from swarm.errors import StoreDown, SwarmError, UsageError, exit_code
from swarm.project import Process, Project, RunState
from swarm.telemetry import telemetry_settings

log = logging.getLogger(__name__)

STORE_SECONDS: Final = 60.0
"""How long a database that does not answer yet is waited for."""


def prepare_keys(
    project: Project,
    swarm: str,
    *,
    listen: str,
    monitor_port: int | None,
    nats_conf: Path,
    store_password: Path,
    cluster: str = "",
    routes: Sequence[str] = (),
) -> Authority:
    """Make what the servers start with. `nats_conf` holds no secret; an authority or password that is there stays.

    Raises UsageError for a `listen` that is not HOST:PORT, or folders that cannot be written.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise UsageError(f"{listen!r} is not HOST:PORT, as in 0.0.0.0:4222.")
    authority = authority_of(project, swarm)
    project.secret("project")  # agents' passwords are derived from it: it belongs to the keys
    try:
        text = authority.server_config(
            port=int(port), host=host, monitor_port=monitor_port, cluster=cluster, routes=routes
        )
        fresh = nats_conf.with_name(f".{nats_conf.name}.{os.getpid()}")
        fresh.write_text(text)
        fresh.chmod(0o644)  # the server may run as somebody else
        fresh.replace(nats_conf)
        if not store_password.exists():
            write_secret(store_password, secrets.token_urlsafe(32))
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be written: {error.strerror}.") from error
    return authority


async def prepare_registry(
    project: Project, plan: Plan, *, store_url: str, wait: float = STORE_SECONDS
) -> list[str]:
    """Bring the schema and the registry in line with swarm.toml; a coordinator that runs converges. Returns what
    changed, a sentence each. Raises StoreDown when the database does not answer within `wait` seconds."""
    changes = await _provisioned(project, plan, store_url, wait)
    if changes and project.state() is not None:
        await _converge(project)
    return changes


def prepare_settings(
    project: Project,
    plan: Plan,
    *,
    bus_url: str,
    store_url: str,
    coordinator: Path | None,
    nodes: Sequence[str],
    pages: str = "",
) -> None:
    """Write the settings of the coordinator (into the folder `coordinator`, if there is one), of each node
    (``.swarm/secrets/<node>.json``), and what lets commands find the swarm. `pages` is where each of these processes
    serves `/health`, `/ready` and `/metrics`: HOST:PORT, or nothing."""
    authority = authority_of(project, plan.config.swarm.name)
    _write_settings(project, plan, authority, bus_url, store_url, coordinator, nodes, pages)
    project.write_state(_state(plan, bus_url, store_url))


def authority_of(project: Project, swarm: str) -> Authority:
    """The project's authority, made at the first call. Raises UsageError when it is another swarm's."""
    project.prepare()
    if not project.authority_file.exists():
        authority = Authority.new(swarm)
        authority.save(project.authority_file)
        return authority
    authority = Authority.load(project.authority_file)
    if authority.swarm != swarm:
        raise UsageError(
            f"{project.authority_file} belongs to the swarm {authority.swarm}, not {swarm}; "
            "name it so in swarm.toml, or begin with empty folders."
        )
    return authority


def with_password(url: str, password: str) -> str:
    """`url` with this password in place of its own. Raises UsageError when it names no user."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at:
        raise UsageError("The URL of the store names no user, as in postgresql://swarm@host/swarm.")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{quote(password, safe='')}@{host}"))


async def _provisioned(project: Project, plan: Plan, store_url: str, wait: float) -> list[str]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    while True:
        try:
            return await provision(project, plan, store_url)
        except StoreDown as error:
            if loop.time() >= deadline:
                raise
            log.info("waiting for the database: %s", error)
            await asyncio.sleep(0.5)


def _write_settings(
    project: Project,
    plan: Plan,
    authority: Authority,
    bus_url: str,
    store_url: str,
    coordinator: Path | None,
    nodes: Sequence[str],
    pages: str,
) -> None:
    config, home = plan.config, project.home / "secrets"
    common: dict[str, object] = {
        "swarm": config.swarm.name,
        "bus_url": bus_url,
        "log_level": config.swarm.log_level,
        "log_format": config.swarm.log_format,
        "pages": pages,
    }
    if coordinator is not None:
        who = authority.mint("coordinator", "coordinator")
        settings = common | {
            "store_url": store_url,
            "credentials": who.to_text(),
            "retention": config.retention.model_dump(),
            "telemetry": telemetry_settings(config.settings),
        }
        write_secret(coordinator / "coordinator.json", json.dumps(settings))
    for node in nodes:
        creds = home / f"{node}.creds"
        authority.mint("node", node).save(creds)
        settings = common | {
            "file": str(project.file),
            "node": node,
            "store_url": without_user(store_url),
            "credentials_file": str(creds),
        }
        write_secret(
            home / f"{node}.json", json.dumps(settings | config.limits.of_instances() | config.node.of_node())
        )
    authority.mint("operator", "operator").save(project.operator_file)


def _state(plan: Plan, bus_url: str, store_url: str) -> RunState:
    """What lets `swarm ps`, `swarm ask` … find the swarm. Its supervisor is this process, which ends: nobody of
    ours keeps these processes."""
    own = ProcessId.of(os.getpid())
    assert own is not None
    return RunState(
        swarm=plan.config.swarm.name,
        bus_url=bus_url,
        store_url=without_user(store_url),
        supervisor=Process(own.pid, own.started),
        ready=True,
    )


async def _converge(project: Project) -> None:
    from swarm.client import Swarm

    try:
        async with Swarm.connect(project) as swarm:
            await swarm.converge()
    except (SwarmError, BusError) as error:
        log.info("no coordinator runs yet, it will read the registry when it starts (%s)", error)


# ── the command ───────────────────────────────────────────────────────────────────────────────────
def main(arguments: Sequence[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    args = _parser().parse_args(arguments)
    try:
        for change in asyncio.run(_run(args)):
            print(change)
    except BaseException as error:
        cause = first_cause(error)
        if not isinstance(cause, SwarmError | BusError):
            raise
        print(f"prepare: {cause}", file=sys.stderr)
        return exit_code(cause)
    return 0


async def _run(args: Namespace) -> list[str]:
    project = Project.find(args.file)
    plan = await load_plan(project)
    if args.what == "keys":
        prepare_keys(
            project,
            plan.config.swarm.name,
            listen=args.listen,
            monitor_port=args.monitor_port,
            nats_conf=args.nats_conf,
            store_password=args.store_password,
            cluster=args.cluster,
            routes=args.route,
        )
        return []
    bus_url = getattr(args, "bus_url", None) or plan.config.bus.url or ""
    store_url = args.store_url or plan.config.store.url or ""
    if not store_url or (args.what != "registry" and not bus_url):
        raise UsageError("Give --bus-url and --store-url, or [bus] and [store] in swarm.toml.")
    if args.store_password is not None:
        store_url = with_password(store_url, read_secret(args.store_password).strip())
    changes = []
    if args.what in ("registry", "swarm"):
        changes = await prepare_registry(project, plan, store_url=store_url, wait=args.wait)
    if args.what in ("settings", "swarm"):
        prepare_settings(
            project,
            plan,
            bus_url=bus_url,
            store_url=store_url,
            coordinator=args.coordinator,
            nodes=args.node or ["node"],
            pages=args.pages,
        )
    return changes


def _parser() -> ArgumentParser:
    parser = ArgumentParser(prog="python -m deploy.prepare", description="Prepare what others will start.")
    parser.add_argument(
        "-f", "--file", help="swarm.toml or its folder (else: SWARM_PROJECT, here and upward)"
    )
    commands = parser.add_subparsers(dest="what", required=True)
    keys = commands.add_parser("keys", help="before the servers start")
    keys.add_argument("--listen", default="0.0.0.0:4222", metavar="HOST:PORT", help="where NATS listens")
    keys.add_argument("--monitor-port", type=int, metavar="PORT", help="NATS's health page, on its loopback")
    keys.add_argument("--cluster", default="", metavar="HOST:PORT", help="where NATS listens for its cluster")
    keys.add_argument(
        "--route",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="another server's --cluster; again for more",
    )
    keys.add_argument("--nats-conf", type=Path, required=True, metavar="FILE", help="written")
    keys.add_argument("--store-password", type=Path, required=True, metavar="FILE", help="written once")
    for name, help_text in (
        ("settings", "before coordinator and nodes start"),
        ("registry", "when the database is up"),
        ("swarm", "settings and registry at once"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--store-url", metavar="URL", help="of the database; its user may create roles")
        command.add_argument("--store-password", type=Path, metavar="FILE", help="read")
        if name != "registry":
            _add_settings(command)
        if name != "settings":
            command.add_argument(
                "--wait", type=float, default=STORE_SECONDS, metavar="S", help="for the database (60 seconds)"
            )
    return parser


def _add_settings(command: ArgumentParser) -> None:
    command.add_argument("--bus-url", metavar="URL", help="as coordinator and nodes reach NATS")
    command.add_argument(
        "--coordinator",
        type=Path,
        metavar="FOLDER",
        help="for its settings, which are secret (else: none made)",
    )
    command.add_argument("--node", action="append", metavar="NAME", help="node or node-…; again for more")
    command.add_argument(
        "--pages", default="", metavar="HOST:PORT", help="where each serves /health, /ready and /metrics"
    )


if __name__ == "__main__":
    sys.exit(main())
