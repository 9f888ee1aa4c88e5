"""compose.yaml and the image: what they say is right, and what they start becomes a swarm and ends."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from coordinator.settings import load_settings
from deploy.node_settings import NodeSettings
from deploy.provision import load_plan
from deploy.readiness import wait_ready
from swarm.client import Swarm
from tests.composed import BIN, FILE, OURS, ROOT, Composed, LocalServers, mounts, services
from tests.containers import ContainerServers

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
STEPS = [
    line.split(maxsplit=1)
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(
    params=[LocalServers, pytest.param(ContainerServers, marks=pytest.mark.containers)],
    ids=["embedded", "containers"],
)
async def composed(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Composed]:
    made = Composed(tmp_path / "root", request.param())
    try:
        yield made
    finally:
        await made.clear()


async def ready(composed: Composed) -> None:
    plan = await load_plan(composed.project)
    async with Swarm.connect(composed.project, wait=10.0) as swarm:
        assert await wait_ready(swarm, composed.project, plan.agents, 60.0) == [], composed.logs()


# ── it runs ───────────────────────────────────────────────────────────────────────────────────────
async def test_what_compose_names_becomes_a_swarm_and_leaves_nothing(composed: Composed) -> None:
    await composed.start()
    await ready(composed)
    done = await composed.run("node", ["swarm", "ask", "greeter", "hello", "--json"])
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["from"] == "greeter" and "welcome" in answer["text"]

    file = composed.project.file
    file.write_text(file.read_text().replace("replicas = 2", "replicas = 3"))
    done = await composed.run("setup", composed.services["setup"]["command"])
    assert (done.returncode, done.stdout) == (0, "reader: replicas 2 → 3\n"), done.stderr
    await ready(composed)

    assert await composed.stop() == {"node": 0, "coordinator": 0}
    assert composed.left() == []


async def test_each_process_gets_only_what_it_needs(composed: Composed) -> None:
    await composed.start()
    root = composed.root
    settings = load_settings(f"{root}/var/lib/swarm/coordinator/coordinator.json")
    assert settings.credentials and not settings.credentials_file
    assert [path.name for path in (root / "var/lib/swarm/coordinator").iterdir()] == ["coordinator.json"]
    password = (root / "var/lib/swarm/store/password").read_text()
    for path in composed.project.home.rglob("*"):
        if path.is_file():
            assert password not in path.read_text(errors="replace"), f"{path.name} holds the owner's password"
    for secret in [*(root / "var/lib/swarm").rglob("*"), *(composed.project.home / "secrets").iterdir()]:
        if secret.is_file() and secret.name != "nats.conf":
            assert secret.stat().st_mode & 0o077 == 0, f"others can read {secret.name}"
    reached = [target for _, target, _ in mounts(composed.services["node-2"])]
    second = composed.project.home / "secrets" / "node-2.json"
    node = msgspec.json.decode(second.read_bytes(), type=NodeSettings)
    assert node.node == "node-2" and "@" not in node.store_url
    for path in (node.file, node.credentials_file):
        assert path.removeprefix(str(root)).startswith(tuple(reached))


# ── what it says ──────────────────────────────────────────────────────────────────────────────────
def test_compose_keeps_its_schema() -> None:
    done = subprocess.run(
        [BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", FILE],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", list(services()))
def test_a_service_names_no_path_that_it_does_not_mount(name: str) -> None:
    service = services()[name]
    words = [*service["command"], *map(str, (service.get("environment") or {}).values())]
    paths = re.findall(r"(?<![\w/])/(?:srv|var)/[\w./-]+", " ".join(words))
    reached = tuple(target for _, target, _ in mounts(service))
    assert paths and all(path.startswith(reached) for path in paths), (paths, reached)


def test_only_setup_and_nodes_hold_the_keys() -> None:
    holders = {
        volume: {
            name for name, each in services().items() if volume in [source for source, *_ in mounts(each)]
        }
        for volume in ("project", "store", "coordinator")
    }
    assert holders == {
        "project": {"keys", "setup", "node", "node-2"},
        "store": {"keys", "setup", "postgres"},
        "coordinator": {"setup", "coordinator"},
    }


def test_a_volume_is_at_one_place() -> None:
    places: dict[str, set[str]] = {}
    for service in services().values():
        for source, target, _ in mounts(service):
            places.setdefault(source, set()).add(target)
    assert {source: len(targets) for source, targets in places.items()} == dict.fromkeys(places, 1)


@pytest.mark.parametrize("name", [name for name, each in services().items() if each["image"] == OURS])
def test_our_containers_have_no_more_rights_than_they_need(name: str) -> None:
    service = services()[name]
    assert service["user"] == "10001:10001" and service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and "no-new-privileges:true" in service["security_opt"]
    assert "ports" not in service and "privileged" not in service


def test_images_are_pinned_and_nothing_holds_a_password() -> None:
    for name, service in services().items():
        _, _, tag = service["image"].partition(":")
        assert tag and tag != "latest", f"{name} takes whatever image is the latest"
    assert not re.search(r"(?i)(password|secret|token)\w*:\s*(?!/)\S", re.sub(r"#.*", "", FILE.read_text()))


def test_a_node_has_longer_to_stop_than_its_instances_to_drain() -> None:
    for name in ("node", "node-2"):
        assert services()[name]["stop_grace_period"] == "50s"  # drain 25 s, hurry 5 s, kill 10 s, and its own
    assert services()["coordinator"]["stop_grace_period"] == "20s"


# ── the image ─────────────────────────────────────────────────────────────────────────────────────
def of(word: str) -> list[str]:
    return [rest for step, rest in STEPS if step == word]


def test_the_image_is_built_in_two_stages_from_pinned_ones() -> None:
    assert of("FROM") == ["python:3.12-slim AS build", "python:3.12-slim"]


def test_the_image_runs_as_nobody_in_particular() -> None:
    last_stage = STEPS[max(i for i, (step, _) in enumerate(STEPS) if step == "FROM") :]
    users = [rest for step, rest in last_stage if step == "USER"]
    assert users == ["10001:10001"]
    after = last_stage[[step for step, _ in last_stage].index("USER") :]
    assert not [step for step, _ in after if step in ("RUN", "COPY", "ADD")]


def test_process_1_passes_signals_on_and_reaps() -> None:
    assert json.loads(of("ENTRYPOINT")[0]) == ["tini", "--"]  # exec form: no shell in between
    assert json.loads(of("CMD")[0]) == ["swarm", "--help"]
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_the_image_installs_by_hash_only() -> None:
    installs = [
        line for step in of("RUN") for line in step.split("&&") if " install " in line and "pip" in line
    ]
    assert len(installs) == 3
    for line in installs:
        assert "--require-hashes" in line or ("--no-index" in line and "--no-deps" in line), line
    assert not of("ADD") and "curl" not in DOCKERFILE and "http" not in DOCKERFILE


def test_the_image_gets_no_more_than_it_copies() -> None:
    ignore = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    let_in = {line[1:] for line in ignore if line.startswith("!")}
    copied = {
        source.split("/")[0]
        for line in of("COPY")
        if not line.startswith("--from")
        for source in line.split()[:-1]
    }
    assert ignore[0] == "*" and copied == let_in
    assert all((ROOT / name).exists() for name in let_in)


def test_the_folders_that_volumes_cover_belong_to_the_user_of_the_image() -> None:
    """An engine copies owner and mode of the image's folder to a fresh volume; else the user cannot write there."""
    run = " ".join(of("RUN")[-1].split())
    for name, service in services().items():
        for source, target, _ in mounts(service):
            if service["image"] == OURS and not source.startswith("./"):
                assert re.search(rf"--owner=10001 [^&]*{target}(\s|$)", run), f"{name}: {target}"


async def test_a_container_engine_that_is_not_there_is_said_and_not_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(pytest.fail.Exception, match="container engine"):
        await ContainerServers().start_nats(services()["nats"], tmp_path)
