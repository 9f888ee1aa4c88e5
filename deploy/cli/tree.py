"""`swarm tree`: parents and children with their permissions."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from deploy.cli.frame import add_common, with_swarm
from deploy.cli.output import put_json_lines


def add(parser: ArgumentParser) -> None:
    add_common(parser)


def run(args: Namespace) -> int:
    roots = with_swarm(args, lambda swarm: swarm.tree())
    if args.json:
        put_json_lines(roots)
        return 0
    for root in roots:
        print(_label(root))
        _put_children(root, "")
    return 0


def _put_children(node: dict[str, Any], indent: str) -> None:
    children = node["children"]
    for number, child in enumerate(children, 1):
        last = number == len(children)
        print(f"{indent}{'└─ ' if last else '├─ '}{_label(child)}")
        _put_children(child, indent + ("   " if last else "│  "))


def _label(node: dict[str, Any]) -> str:
    words = [node["name"]]
    if node["replicas"] != 1:
        words.append(f"×{node['replicas']}")
    if node["desired"] == "stopped":
        words.append("(stopped)")
    elif node["status"] in ("absent", "asleep"):
        words.append(f"({node['status']})")
    if node["roles"]:
        words.append(f"roles: {', '.join(node['roles'])}")
    if node["spawned"]:
        words.append("spawned")
    rights = [right.replace("_", " ") for right, given in node["permissions"].items() if given]
    if rights:
        words.append(f"may {', '.join(rights)}")
    if node["orphans"] != "keep":
        words.append(f"orphans {node['orphans']}")
    return "  ".join(words)
