"""`swarm config validate` and `schema`."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, add_json
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="validate|schema")
    validate = verbs.add_parser("validate", help="the file and every character it names")
    add_common(validate)
    schema = verbs.add_parser("schema", help="a JSON Schema for editors")
    add_json(schema)


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
    if args.json:
        names = [agent.name for agent in plan.agents]
        put_json({"file": str(project.file), "valid": True, "agents": names, "instances": plan.instances})
    else:
        print(f"{project.file.name} is valid: {len(plan.agents)} agents, {plan.instances} instances")
    return 0
