"""Nothing is spawned without an owner: a task is started in a TaskGroup, or its owner is named here.

A task that nobody awaits loses its exception, and is garbage while it runs.
"""

from __future__ import annotations

import ast

import pytest

from tests.architecture.tree import PACKAGES, modules

SPAWNS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}

OWNED = {
    ("swarm/agent/runtime.py", "in_background"): "the runtime keeps it, bounded, and ends it at its stop",
    ("swarm/agent/services.py", "_keep_running"): "the services keep it and end it before their own stop",
    ("deploy/supervisor.py", "_unless_stopped"): "awaited or cancelled before the function returns",
    ("agents/bridge/link.py", "start"): "the service keeps it; its stop cancels and awaits it",
    ("deploy/slot.py", "_either"): "a wait on an event, cancelled before the function returns",
}
"""Where a task is started outside of a group: by whom it is awaited and ended."""


class Spawns(ast.NodeVisitor):
    """Collects (function, line) of each task that is started on something that is not known as a TaskGroup."""

    def __init__(self, module: ast.Module) -> None:
        self.found: list[tuple[str, int]] = []
        self._function = ""
        self._groups = _groups(module)
        self.visit(module)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - a name of ast's

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in SPAWNS and ast.unparse(node.value) not in self._groups:
            self.found.append((self._function, node.lineno))
        self.generic_visit(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module == "asyncio":  # under a name of its own it would be seen by nobody
            self.found += [(self._function, node.lineno) for alias in node.names if alias.name in SPAWNS]


def _groups(module: ast.Module) -> set[str]:
    """The names that are a TaskGroup in a module: bound by `async with`, annotated, or one of those."""
    names: set[str] = set()
    for node in ast.walk(module):
        match node:
            case ast.withitem(context_expr=ast.Call(func=function), optional_vars=ast.expr() as name):
                if ast.unparse(function).endswith("TaskGroup"):
                    names.add(ast.unparse(name))
            case ast.arg(arg=argument, annotation=ast.expr() as kind) if "TaskGroup" in ast.unparse(kind):
                names.add(argument)
            case ast.AnnAssign(target=target, annotation=kind) if "TaskGroup" in ast.unparse(kind):
                names.add(ast.unparse(target))
    for node in ast.walk(module):
        if isinstance(node, ast.Assign) and ast.unparse(node.value) in names:
            names |= {ast.unparse(target) for target in node.targets}
    return names


def test_every_task_has_an_owner() -> None:
    seen = set()
    for path, module in modules(*PACKAGES, "agents").items():
        for function, line in Spawns(module).found:
            assert (path, function) in OWNED, f"{path}:{line} starts a task that no TaskGroup owns"
            seen.add((path, function))
    assert seen == set(OWNED), "these start no task of their own any more; take them from the list"


@pytest.mark.parametrize(
    "line",
    [
        "asyncio.create_task(work())",
        "asyncio.ensure_future(work())",
        "asyncio.get_running_loop().create_task(work())",
        "spawn = loop.create_task",
        "from asyncio import create_task",
    ],
)
def test_it_would_catch(line: str) -> None:
    assert Spawns(ast.parse(f"async def f():\n    {line}\n")).found == [("f", 2)]


def test_it_lets_groups_pass() -> None:
    source = """
async def f(given: asyncio.TaskGroup):
    given.create_task(work())
    async with asyncio.TaskGroup() as group:
        self._group = group
        self._group.create_task(work())
        group.create_task(work())
"""
    assert not Spawns(ast.parse(source)).found
