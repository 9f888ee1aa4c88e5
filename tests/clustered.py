"""deploy/kubernetes without a cluster: its pods as local processes, with exactly the commands they name.

Each pod is a folder that stands for `/`, each volume a folder that its mounts link to, the image's own files a
copy of the project. Servers are those that come with us. What differs from a cluster: no isolation.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from swarm.project import Project
from swarm.testing import eventually
from tests.composed import BIN, ROOT, copy
from tests.servers import free_port

FOLDER = ROOT / "deploy" / "kubernetes"
IMAGE_FILES = ("swarm.toml", "agents")


def objects() -> Iterator[dict[str, Any]]:
    """Every object of every manifest but the kustomization."""
    for file in sorted(FOLDER.glob("*.yaml")):
        if file.name != "kustomization.yaml":
            yield from yaml.safe_load_all(file.read_text())


def workload(name: str) -> dict[str, Any]:
    return next(
        each
        for each in objects()
        if each["kind"] in ("Deployment", "StatefulSet") and each["metadata"]["name"] == name
    )


def pod_spec(name: str) -> dict[str, Any]:
    spec: dict[str, Any] = workload(name)["spec"]["template"]["spec"]
    return spec


@dataclass
class Addresses:
    bus: str
    store: str


@dataclass
class Pod:
    """One pod of a workload. `secrets` has a folder for each secret volume."""

    root: Path
    name: str
    workload: str
    secrets: Path
    addresses: Addresses
    page_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def prepare(self) -> None:
        for file in IMAGE_FILES:
            copy(ROOT / file, self.root / "srv" / "swarm" / file)
        spec = pod_spec(self.workload)
        kinds = {volume["name"]: volume for volume in spec["volumes"]}
        for container in [*spec["initContainers"], *spec["containers"]]:
            for mount in container["volumeMounts"]:
                volume = kinds[mount["name"]]
                source = self.secrets / mount["name"]
                if "emptyDir" in volume:
                    source = self.root / "volumes" / mount["name"]
                    source.mkdir(parents=True, exist_ok=True)
                target = self.root / mount["mountPath"].removeprefix("/")
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.symlink_to(source)

    @property
    def project(self) -> Project:
        return Project(self.root / "srv" / "swarm" / "swarm.toml")

    async def start(self) -> None:
        self.prepare()
        spec = pod_spec(self.workload)
        for container in spec["initContainers"]:
            done = await self.run(container["command"])
            assert done.returncode == 0, f"{self.name}/{container['name']}: {done.stderr}"
        [container] = spec["containers"]
        with (self.root / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self._here(container["command"]),
                env=self._environment(),
                cwd=self.project.folder,
                stdout=log,
                stderr=log,
            )

    async def run(self, words: list[str]) -> subprocess.CompletedProcess[str]:
        """As an init container, or `kubectl exec`."""
        return await asyncio.to_thread(
            subprocess.run,
            self._here(words),
            env=self._environment(),
            cwd=self.project.folder,
            capture_output=True,
            text=True,
            timeout=90,
        )

    async def probe(self, name: str) -> int:
        """The status that a probe of the main container gets; 0 when nobody listens."""
        path = pod_spec(self.workload)["containers"][0][name]["httpGet"]["path"]
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.page_port}{path}")

    async def ready(self) -> None:
        async def look() -> bool:
            assert self.process is not None and self.process.poll() is None, self.log
            return await self.probe("readinessProbe") == 200

        await eventually(look, seconds=60)

    async def stop(self) -> int:
        """As the kubelet does it: SIGTERM, the grace, then a kill. Returns the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        grace = pod_spec(self.workload)["terminationGracePeriodSeconds"]
        try:
            return await asyncio.to_thread(self.process.wait, grace)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return await asyncio.to_thread(self.process.wait)

    @property
    def log(self) -> str:
        return (self.root / "log").read_text()

    def _environment(self) -> dict[str, str]:
        project = f"{self.root}/srv/swarm/swarm.toml"
        return {"PATH": os.environ["PATH"], "NO_COLOR": "1", "SWARM_PROJECT": project}

    def _here(self, words: list[str]) -> list[str]:
        words = words[2:] if words[:2] == ["tini", "--"] else words
        program = {"python": sys.executable, "swarm": str(BIN / "swarm")}.get(words[0], words[0])
        return [program, *map(self._word, words[1:])]

    def _word(self, word: str) -> str:
        for written, here in (
            ("$(POD)", self.name),
            ("0.0.0.0:9100", f"127.0.0.1:{self.page_port}"),
            ("nats:4222", self.addresses.bus),
            ("postgres:5432", self.addresses.store),
        ):
            word = word.replace(written, here)
        for folder in ("/srv/swarm", "/var/lib/swarm", "/etc/swarm", "/tmp/coordinator"):
            word = word.replace(folder, f"{self.root}{folder}")
        return word


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=6) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
