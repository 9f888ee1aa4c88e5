"""`swarm doctor`: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from deploy.cli.frame import add_common, with_swarm
from deploy.cli.output import paint, put_json

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.doctor.finding import Finding
    from swarm.project import Project

COLOURS = {"ok": 32, "warning": 33, "fault": 31}


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", nargs="?", help="one agent (default: the whole swarm)")
    parser.add_argument("--plugin", metavar="NAME", help="try to load a plugin, in a process of its own")


def run(args: Namespace) -> int:
    """Exit code 0 when nothing is at fault, else 1. --json: `{"verdict", "findings": [{"check", "verdict", "text",
    "remedy"}]}`, with `diagnosis` of an agent or `plugin` of a plugin."""
    if args.plugin:
        return _plugin(args)
    if args.agent:
        return _agent(args)
    from deploy.doctor.examine import examine
    from swarm.project import Project

    return _put(args, asyncio.run(examine(Project.find(args.file))), {})


def _agent(args: Namespace) -> int:
    from deploy.doctor.agent import findings_of, lines_of

    diagnosis = with_swarm(args, lambda swarm: swarm.diagnose(args.agent))
    if not args.json:
        for line in lines_of(diagnosis):
            print(line)
    return _put(args, list(findings_of(diagnosis)), {"diagnosis": diagnosis})


def _plugin(args: Namespace) -> int:
    from deploy.doctor.plugin import check_plugin
    from swarm.project import Project

    project = Project.find(args.file)
    folders = _folders(project, args.agent)
    report, finding = asyncio.run(check_plugin(args.plugin, folders, project.folder))
    return _put(args, [finding], {"plugin": report})


def _folders(project: Project, agent: str | None) -> list[Path]:
    """The folders of the agent, or of all agents of the file."""
    from deploy.provision import source_of
    from swarm.config import load_config
    from swarm.errors import UnknownAgent

    agents = load_config(project.file).agents
    if agent is not None and agent not in agents:
        raise UnknownAgent(agent, agents)
    names = agents if agent is None else [agent]
    sources = [source_of(project, agents[name].character) for name in names]
    return [source for source in sources if not isinstance(source, str) and source.is_dir()]


def _put(args: Namespace, findings: Sequence[Finding], more: dict[str, Any]) -> int:
    from deploy.doctor.finding import worst

    verdict = worst(findings)
    if args.json:
        put_json({"verdict": verdict, "findings": [each._asdict() for each in findings], **more})
        return 1 if verdict == "fault" else 0
    width = max((len(each.check) for each in findings), default=0)
    for each in findings:
        print(
            f"{paint(each.verdict.ljust(7), COLOURS[each.verdict])}  {each.check.ljust(width)}  {each.text}"
        )
        if each.remedy:
            print(f"{'':7}  {'':{width}}  → {each.remedy}")
    return 1 if verdict == "fault" else 0
