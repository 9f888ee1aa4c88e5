"""`swarm config validate`, `schema` and `login`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from deploy.cli.frame import add_common, add_json
from deploy.cli.output import put_json

if TYPE_CHECKING:
    from deploy.provision import Plan
    from swarm.project import Project


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="validate|schema|login")
    validate = verbs.add_parser("validate", help="the file and every character it names")
    add_common(validate)
    schema = verbs.add_parser("schema", help="a JSON Schema for editors")
    add_json(schema)
    login = verbs.add_parser("login", help="the URL with which an agent logs in at the store; it is a secret")
    login.add_argument("agent", help="its name")
    add_common(login)


def run(args: Namespace) -> int:
    if args.verb == "schema":
        from swarm.config import json_schema

        print(json.dumps(json_schema(), indent=None if args.json else 2))
        return 0
    import asyncio

    from deploy.provision import load_plan
    from swarm.project import Project

    project = Project.find(args.file)
    plan = asyncio.run(load_plan(project))
    if args.verb == "login":
        put_login(project, plan, args.agent, as_json=args.json)
        return 0
    if args.json:
        names = [agent.name for agent in plan.agents]
        put_json({"file": str(project.file), "valid": True, "agents": names, "instances": plan.instances})
    else:
        print(f"{project.file.name} is valid: {len(plan.agents)} agents, {plan.instances} instances")
    return 0


def put_login(project: Project, plan: Plan, name: str, *, as_json: bool) -> None:
    """For an agent that runs elsewhere as itself (`swarm run --edge` with SYNC_URL). Raises UsageError for a name
    that the file does not have, NotRunning before the swarm has made its store."""
    from bus.credentials import read_secret
    from swarm.errors import NotRunning, UsageError, near
    from swarm.stores.postgres import agent_url

    known = {agent.name: agent.id for agent in plan.agents}
    if name not in known:
        raise UsageError(f"{project.file.name} has no agent {name!r}{near(name, known)}")
    try:
        store = read_secret(project.home / "secrets" / "store_url").strip()
    except OSError as error:
        raise NotRunning("The swarm has no store yet; start it once: swarm up -d.") from error
    swarm = plan.config.swarm.name
    url = agent_url(store, swarm, known[name], project.agent_password(swarm, name))
    if as_json:
        put_json({"agent": name, "url": url})
    else:
        print(url)
