"""`swarm character lint` and `show`: a character outside any swarm."""

from __future__ import annotations

import asyncio
import json
from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_json
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="lint|show")
    for verb, help_text in (
        ("lint", "what is wrong with it"),
        ("show", "as the runtime sees it, without secrets"),
    ):
        one = verbs.add_parser(verb, help=help_text)
        add_json(one)
        one.add_argument("source", help="a gallery folder, a file, env: or an https URL")


def run(args: Namespace) -> int:
    return _lint(args) if args.verb == "lint" else _show(args)


def _show(args: Namespace) -> int:
    from swarm.character.lint import show

    shown = asyncio.run(show(args.source))
    if args.json:
        put_json(shown)
    else:
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    return 0


def _lint(args: Namespace) -> int:
    from swarm.character.lint import lint

    findings, code = asyncio.run(lint(args.source))
    if args.json:
        put_json({"source": args.source, "findings": [finding._asdict() for finding in findings]})
        return code
    for finding in findings:
        where = f"{finding.where}: " if finding.where and not finding.text.startswith(finding.where) else ""
        print(f"{finding.level:<8} {where}{finding.text}")
    if not findings:
        print(f"{args.source} is in order")
    return code
