"""The bus over TLS: `tls://` in `[bus] url`, and a server whose certificate the system's trust names."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.prepare import authority_of
from swarm.project import Project
from tests.running import running_swarm
from tests.servers import NatsServer

PEM = Path(__file__).parents[1] / "fixtures/tls/localhost.pem"
TOML = """
[swarm]
name = "sealed"
[bus]
url = "tls://localhost:{port}"
[agents.ada]
character = "agents/ada.json"
"""
FILES = {"agents/ada.json": '{"name": "Ada", "bio": "Talks."}'}


async def test_a_swarm_speaks_tls_with_a_nats_server_whose_certificate_it_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    server = NatsServer(tmp_path)
    config = authority_of(Project(home / "swarm.toml"), "sealed").server_config(port=server.port)
    server.start(f"{config}tls {{ cert_file: '{PEM}', key_file: '{PEM}' }}\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(PEM))
    try:
        async with running_swarm(home, TOML.format(port=server.port), FILES) as running:
            assert (await running.json("ask", "ada", "hello"))["text"]
            assert [row["status"] for row in await running.json("ps")] == ["ready"]
    finally:
        server.kill()
