"""One agent, wherever it runs: initialised, services, actions, store, memory, and a verdict (H12)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy.doctor.finding import Finding, fault, ok


def findings_of(diagnosis: Mapping[str, Any]) -> Iterator[Finding]:
    """What the coordinator's `diagnose` says, as findings: one for each instance, or why there is none."""
    name = diagnosis["agent"]
    for silent in diagnosis["silent"]:
        yield fault(
            name,
            f"{silent['instance']} (pid {silent['pid']} on {silent['node'] or 'no node'}) does not answer: its event "
            "loop is blocked, or the process is stopped.",
            f"`swarm logs {name}` shows what it did last; `swarm restart {name}` replaces it, its mail waits.",
        )
    for one in diagnosis["instances"]:
        for plugin, why in one["broken"].items():
            yield fault(
                name,
                f"{one['instance']} works without the plugin {plugin}: {why}",
                f"`swarm doctor {name} --plugin {plugin}` tries it; mend it, then `swarm restart {name}`.",
            )
        for reason in one["reasons"]:
            yield fault(name, f"{one['instance']} is not well: {reason}", f"`swarm logs {name}` tells more.")
        if not one["reasons"] and not one["broken"]:
            yield ok(name, f"{one['instance']} is well: {summary(one)}.")
    if not diagnosis["silent"] and not diagnosis["instances"]:
        if diagnosis["desired"] == "stopped":
            yield ok(name, f"{name} was stopped; `swarm start {name}` starts it.")
        elif diagnosis["asleep"]:
            yield ok(name, f"{name} is asleep; its next message starts it.")
        elif not diagnosis["wanted"]:
            yield ok(name, f"{name} is scaled to 0; `swarm scale {name} 1` starts one.")
        else:
            yield fault(name, f"No instance of {name} is there.", f"`swarm logs {name}` shows why.")


def summary(one: Mapping[str, Any]) -> str:
    running = sum(service["status"] == "running" for service in one["services"])
    return (
        f"{running} of {len(one['services'])} services run, {len(one['actions'])} actions, "
        f"{one['in_flight']} turns in flight, {one['memory_mb']:g} MB"
    )


def lines_of(diagnosis: Mapping[str, Any]) -> Iterator[str]:
    """For people: each instance in full, as H12 lists it."""
    for one in diagnosis["instances"]:
        services = ", ".join(f"{each['name']} ({each['status']})" for each in one["services"])
        store = next((reason for reason in one["reasons"] if "store" in reason), "answers")
        yield f"{one['instance']} on {one['node'] or 'no node'}, pid {one['pid']}, version {one['version']}"
        yield f"  initialized  {'yes' if one['initialized'] else 'no'} ({one['phase']})"
        yield f"  services     {services or 'none'}"
        yield f"  actions      {', '.join(one['actions']) or 'none'}"
        yield f"  store        {store}"
        yield f"  memory       {one['memory_mb']:g} MB; {one['turns']} turns, {one['errors']} errors"
        yield f"  verdict      {one['verdict']}"
