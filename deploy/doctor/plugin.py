"""One plugin, tried in a process of its own (H13): is it there, what does it need, does it load?

    python -m deploy.doctor.plugin NAME FOLDER…     prints one JSON object; FOLDER: agents' folders to look in

The live runtime sees nothing of it: the plugin is registered in a runtime of this process, on a store in
memory; its services are not started and its `start` is not run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.doctor.finding import Finding, fault, ok
from swarm.errors import PluginError

if TYPE_CHECKING:
    from swarm.agent.plugins import Source
    from swarm.plugin import Plugin

TRY_SECONDS: Final = 60.0


async def check_plugin(name: str, folders: Sequence[Path], project: Path) -> tuple[dict[str, Any], Finding]:
    """The report and what it means. Bounded by TRY_SECONDS: a plugin that hangs at import is a finding."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "deploy.doctor.plugin", name, *map(str, folders),
        cwd=project, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TRY_SECONDS):
            out, said = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return {"plugin": name, "loads": False}, fault(
            name,
            f"The plugin {name} did not load within {TRY_SECONDS:g} s.",
            "It waits for something at import.",
        )
    try:
        report: dict[str, Any] = json.loads(out)
    except json.JSONDecodeError:
        last = said.decode(errors="replace").strip().rpartition("\n")[2]
        return {"plugin": name, "loads": False}, fault(
            name, f"The plugin {name} ended the process that tried it: {last or child.returncode}.",
            "It must not exit or crash at import.",
        )  # fmt: skip
    return report, _finding(report)


def _finding(report: dict[str, Any]) -> Finding:
    name = report["plugin"]
    if not report["exists"]:
        return fault(name, report["error"], "Correct the name, or install the package that has it.")
    if report["missing"]:
        missing = ", ".join(report["missing"])
        return fault(
            name, f"The plugin {name} needs {missing}, which is not there.", "Install what is missing."
        )
    if not report["loads"]:
        return fault(name, report["error"], f"Mend it in {report['where']}, then try again.")
    offers = ", ".join(
        f"{len(report[kind])} {kind}" for kind in ("actions", "providers", "evaluators", "services")
    )
    return ok(name, f"The plugin {name} of {report['where']} loads: {offers}.")


async def try_plugin(name: str, folders: Sequence[Path]) -> dict[str, Any]:
    """`{"plugin", "exists", "where", "dependencies", "missing", "loads", "error", "actions", "providers",
    "evaluators", "services"}`."""
    from swarm.agent.plugins import in_order
    from swarm.agent.runtime import AgentRuntime

    report: dict[str, Any] = {
        "plugin": name, "exists": False, "where": None, "dependencies": [], "missing": [], "loads": False,
        "error": None, "actions": [], "providers": [], "evaluators": [], "services": [],
    }  # fmt: skip
    try:
        source, folder = _find(name, folders)
        report |= {"exists": True, "where": source.where}
        plugin = source.open()
        plugin.check()
        report["dependencies"] = list(plugin.dependencies)
        needed, report["missing"] = _with_needs(plugin, folder)
        if report["missing"]:
            return report
        runtime = AgentRuntime({"name": "Doctor", "bio": "Tries plugins."})
        for one in in_order(needed):
            await runtime.register_plugin(one)
    except PluginError as error:
        report["error"] = str(error)
    except Exception as error:
        report["error"] = f"The plugin {name} raised {type(error).__name__} while it was registered: {error}."
    else:
        report |= {
            "loads": True,
            "actions": [action.name for action in plugin.actions],
            "providers": [provider.name for provider in plugin.providers],
            "evaluators": [evaluator.name for evaluator in plugin.evaluators],
            "services": [service.service_type for service in plugin.services],
        }
    return report


def _find(name: str, folders: Sequence[Path]) -> tuple[Source, Path | None]:
    """The plugin and the folder it was found in. Raises PluginError when no folder and no package has it."""
    from swarm.agent.plugins import find_source, folder_source

    own: list[str] = []
    for folder in folders:
        source = folder_source(folder)
        if source is not None and name in (source.name, folder.name, _called(source)):
            return source, folder
        if source is not None:
            own.append(source.name)
        try:
            return find_source(name, own, folder), folder
        except PluginError:
            continue
    return find_source(name, own, None), None


def _called(source: Source) -> str:
    """The name that a plugin without a manifest gives itself; only its code can say it."""
    try:
        return source.name if source.manifest is not None else source.open().name
    except PluginError:
        return source.name


def _with_needs(plugin: Plugin, folder: Path | None) -> tuple[list[Plugin], list[str]]:
    """The plugin with all that it depends on, and the names that are found nowhere."""
    from swarm.agent.plugins import find_source

    found, missing, pending = {plugin.name: plugin}, [], list(plugin.dependencies)
    while pending:
        need = pending.pop(0)
        if need in found or need in missing:
            continue
        try:
            found[need] = find_source(need, found, folder).open()
            pending += found[need].dependencies
        except PluginError:
            missing.append(need)
    return list(found.values()), missing


if __name__ == "__main__":
    given, *where = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):  # a plugin that prints at import spoils nothing
        tried = asyncio.run(try_plugin(given, [Path(one) for one in where]))
    print(json.dumps(tried))
