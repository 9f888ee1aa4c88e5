"""An agent of a real swarm answers by the language model that swarm.toml names, and the key stays out of sight."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.running import running_swarm

KEY = "sk-planted-secret-4711"


class Endpoint(BaseHTTPRequestHandler):
    seen: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append({"key": self.headers["Authorization"], "body": body})
        choice = {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "forty-two"},
        }
        if body.get("stream"):
            piece = {"choices": [{"index": 0, "delta": {"content": "forty-two"}, "finish_reason": "stop"}]}
            said = f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n".encode()
            kind = "text/event-stream"
        else:
            said, kind = (
                json.dumps({"choices": [choice], "model": body["model"]}).encode(),
                "application/json",
            )
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def endpoint() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Endpoint,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_an_agent_answers_by_the_endpoint_that_the_swarm_file_names(
    tmp_path: Path, endpoint: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", KEY)
    toml = (
        "[swarm]\nname = 'asked'\n[settings]\n"
        f"OPENAI_BASE_URL = 'http://127.0.0.1:{endpoint.server_address[1]}/v1'\n"
        "OPENAI_API_KEY = '${THE_KEY}'\nOPENAI_MODEL = 'deep'\n"
        "[agents.sage]\ncharacter = 'agents/sage'\n"
    )
    sage = json.dumps({"name": "Sage", "bio": "Knows.", "system": "You are wise."})
    async with running_swarm(tmp_path / "asked", toml, {"agents/sage/character.json": sage}) as running:
        reply = await running.json("ask", "sage", "what is the answer?")
        logs = "".join(path.read_text() for path in (running.project.home / "logs").iterdir())
        state = (running.project.home / "state.json").read_text()
    assert reply["text"] == "forty-two"
    (asked,) = endpoint.RequestHandlerClass.seen  # type: ignore[attr-defined]
    assert asked["key"] == f"Bearer {KEY}"
    assert asked["body"]["model"] == "deep"
    assert any("You are wise." in message["content"] for message in asked["body"]["messages"])
    assert KEY not in logs + state
