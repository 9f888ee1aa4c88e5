"""deploy/kubernetes: the manifests are right, and what they start becomes a swarm, shows how it is, and drains."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from kubernetes_validate import validate

from deploy.embedded import EmbeddedNats, EmbeddedPostgres
from deploy.node import agents_mark
from deploy.prepare import prepare_keys
from deploy.processes import end_strays, find_strays
from swarm.project import Project
from swarm.testing import eventually
from tests.clustered import FOLDER, IMAGE_FILES, Addresses, Pod, objects, pod_spec, workload
from tests.composed import ROOT, copy

OURS = ("coordinator", "node")
WORKLOADS = ("nats", "postgres", *OURS)


@pytest.mark.parametrize(
    "item", list(objects()), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}"
)
def test_every_object_is_valid(item: dict[str, Any]) -> None:
    validate(item, "1.37", strict=True)


def test_the_kustomization_names_every_manifest_and_every_secret_that_is_mounted() -> None:
    kustomization = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    manifests = {file.name for file in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(kustomization["resources"]) == manifests
    made = {each["name"] for each in kustomization["secretGenerator"]}
    mounted = {
        volume["secret"]["secretName"]
        for name in WORKLOADS
        for volume in pod_spec(name)["volumes"]
        if "secret" in volume
    }
    assert mounted == made
    assert "secrets/" in (ROOT / ".gitignore").read_text()


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_container_is_locked_in_and_bounded(name: str) -> None:
    spec = pod_spec(name)
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] != 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    for container in [*spec.get("initContainers", ()), *spec["containers"]]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"] and not rights["allowPrivilegeEscalation"], container["name"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
    for container in spec["containers"]:
        assert "memory" in container["resources"]["limits"]
        assert container["livenessProbe"] and container["readinessProbe"]


@pytest.mark.parametrize("name", OURS)
def test_liveness_asks_the_loop_and_readiness_the_dependencies(name: str) -> None:
    [container] = pod_spec(name)["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    budgets = {each["metadata"]["name"] for each in objects() if each["kind"] == "PodDisruptionBudget"}
    assert name in budgets


def test_what_runs_does_not_hold_the_keys_that_prepared_it() -> None:
    [container] = pod_spec("coordinator")["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {"coordinator", "tmp"}
    [node] = pod_spec("node")["containers"]
    assert "store" not in {volume["name"] for volume in pod_spec("node")["volumes"]}
    assert node["lifecycle"]["preStop"]["exec"]["command"][-1].startswith("kill -TERM 1")
    assert workload("node")["kind"] == "StatefulSet"  # its names are the nodes' names


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[tuple[Path, Addresses]]:
    """The two servers, and the secrets as docs/guide/deploy.md has them made: root folder and addresses."""
    home = tmp_path / "made"
    for file in IMAGE_FILES:
        copy(ROOT / file, home / file)
    secrets = tmp_path / "secrets"
    for name in ("authority", "wire", "store"):
        (secrets / name).mkdir(parents=True)
    project = Project(home / "swarm.toml")
    authority = prepare_keys(
        project,
        "survey",
        listen="127.0.0.1:4222",
        monitor_port=None,
        nats_conf=secrets / "wire" / "nats.conf",
        store_password=secrets / "store" / "password",
    )
    for name in ("authority.json", "project"):
        copy(project.home / "secrets" / name, secrets / "authority" / name)
    nats = EmbeddedNats(tmp_path / "nats", config_text=authority.server_config(port=4222))
    postgres = EmbeddedPostgres(tmp_path / "postgres")
    try:
        await nats.start()
        await postgres.start()
        connection = await asyncpg.connect(postgres.url)
        password = (secrets / "store" / "password").read_text().strip()
        await connection.execute(f"create role swarm superuser login password '{password}'")
        await connection.execute("create database swarm owner swarm")
        await connection.close()
        yield tmp_path, Addresses(nats.url.removeprefix("nats://"), f"127.0.0.1:{postgres.port}")
    finally:
        await nats.stop()
        await postgres.stop()


@pytest.mark.timeout(180)
async def test_what_the_manifests_name_becomes_a_swarm_and_drains(cluster: tuple[Path, Addresses]) -> None:
    root, addresses = cluster
    names = {"coordinator-a": "coordinator", "coordinator-b": "coordinator", "node-0": "node"}
    pods = {name: Pod(root / name, name, kind, root / "secrets", addresses) for name, kind in names.items()}
    marks = [mark for pod in pods.values() for mark in (pod.project.mark, agents_mark(pod.project))]
    try:
        for pod in pods.values():
            await pod.start()
        for pod in pods.values():
            await pod.ready()
        node = pods["node-0"]

        async def all_ready() -> bool:
            done = await node.run(["swarm", "ps", "--json"])
            rows = [json.loads(line) for line in done.stdout.splitlines()] if done.returncode == 0 else []
            return len(rows) == 5 and all(row["status"] == "ready" for row in rows)

        await eventually(all_ready, seconds=60)
        done = await node.run(["swarm", "ask", "greeter", "hello", "--json"])
        assert done.returncode == 0 and json.loads(done.stdout)["from"] == "greeter", done.stderr
        assert await node.probe("livenessProbe") == 200
        for pod in reversed(pods.values()):
            assert await pod.stop() == 0, pod.log
        assert [find_strays(mark) for mark in marks] == [[]] * len(marks)
    finally:
        for pod in pods.values():
            if pod.process is not None and pod.process.poll() is None:
                pod.process.kill()
        for mark in marks:
            await end_strays(mark)
