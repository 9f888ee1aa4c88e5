"""Minting and keeping credentials. That the server honours them is proved in tests/security."""

from __future__ import annotations

import base64
import json
import logging
import stat
import time
from pathlib import Path

import nkeys
import pytest

from bus.credentials import Authority, Credentials
from bus.errors import Refused
from bus.jwt import Key, read_claims


@pytest.fixture
def authority() -> Authority:
    return Authority.new("t")


def test_a_jwt_is_signed_by_its_roles_key_and_names_its_bearer(authority: Authority) -> None:
    credentials = authority.mint("agent", "reader", ttl=60)
    header, body, signature = credentials.jwt.split(".")
    claims = read_claims(credentials.jwt)
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"typ": "JWT", "alg": "ed25519-nkey"}
    assert claims["name"] == "reader"
    assert claims["sub"] == Key(credentials.seed).public
    assert claims["iss"] == authority._keys["role:agent"].public
    assert claims["nats"] == {
        "issuer_account": authority._keys["account"].public,
        "type": "user",
        "version": 2,
    }
    assert 50 < claims["exp"] - time.time() < 61
    signer = authority._keys["role:agent"].seed
    pair = nkeys.from_seed(bytearray(signer.encode()))  # type: ignore[no-untyped-call]
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    assert pair.verify(f"{header}.{body}".encode(), raw)


def test_without_a_ttl_credentials_never_expire(authority: Authority) -> None:
    assert authority.mint("agent", "reader").expires is None


@pytest.mark.parametrize(
    "name", ["", "*", ">", "a.b", "a b", "a\n", "ä", "x" * 64, "{{name()}}", "a\x00", "a>"]
)
@pytest.mark.parametrize("role", ["agent", "node", "operator", "coordinator"])
def test_a_name_that_would_widen_the_rights_is_refused(authority: Authority, role: str, name: str) -> None:
    with pytest.raises(Refused) as caught:
        authority.mint(role, name)  # type: ignore[arg-type]
    assert caught.value.reason == "bad_name"


@pytest.mark.parametrize(
    ("role", "name"),
    [
        ("agent", "coordinator"),
        ("agent", "operator"),
        ("agent", "node"),
        ("agent", "all"),
        ("agent", "operator-cli"),
        ("agent", "node-m"),
        ("operator", "cli"),
        ("operator", "node-m"),
        ("node", "machine"),
        ("coordinator", "coordinator-2"),
        ("coordinator", "reader"),
    ],
)
def test_no_role_takes_the_name_of_another_because_it_would_read_its_replies(
    authority: Authority, role: str, name: str
) -> None:
    with pytest.raises(Refused) as caught:
        authority.mint(role, name)  # type: ignore[arg-type]
    assert caught.value.reason == "reserved_name"


@pytest.mark.parametrize("swarm", ["", "a.b", "*", "a b", "x" * 64])
def test_a_swarm_is_called_by_one_token(swarm: str) -> None:
    with pytest.raises(Refused):
        Authority.new(swarm)


def test_secrets_are_shown_by_neither_repr_nor_str_nor_log(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    credentials = authority.mint("agent", "reader")
    key = Key(credentials.seed)
    logging.getLogger("x").warning("%s %r %s %r", credentials, credentials, key, authority)
    shown = f"{credentials} {credentials!r} {key} {key!r} {authority} {authority!r} {caplog.text}"
    assert "reader" in shown
    for secret in (credentials.seed, credentials.jwt, *(key.seed for key in authority._keys.values())):
        assert secret not in shown


def test_keys_are_kept_in_one_file_for_its_owner_only(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "authority.json"
    authority.save(file)
    authority.save(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["authority.json"]
    again = Authority.load(file)
    assert again.swarm == "t"
    assert {kind: key.public for kind, key in again._keys.items()} == {
        kind: key.public for kind, key in authority._keys.items()
    }


def test_a_key_file_that_others_can_read_is_refused(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "authority.json"
    authority.save(file)
    file.chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        Authority.load(file)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "junk",
        '{"swarm": "t", "keys": {}}',
        '{"swarm": "t", "keys": {"operator": "SOSECRET"}}',
    ],
)
def test_a_broken_key_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    file = tmp_path / "authority.json"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(Refused) as caught:
        Authority.load(file)
    assert "SOSECRET" not in str(caught.value)


def test_credentials_are_kept_in_the_file_form_that_every_nats_client_reads(
    authority: Authority, tmp_path: Path
) -> None:
    credentials = authority.mint("node", "node-m", ttl=5)
    credentials.save(tmp_path / "node.creds")
    assert stat.S_IMODE((tmp_path / "node.creds").stat().st_mode) == 0o600
    assert Credentials.load(tmp_path / "node.creds") == credentials
    for text in ("", credentials.jwt, credentials.to_text().replace(credentials.jwt, "a.b.c")):
        with pytest.raises(Refused):
            Credentials.from_text(text)


def test_the_configuration_listens_where_it_is_told_and_keeps_no_state(authority: Authority) -> None:
    config = authority.server_config(port=4333, monitor_port=8333)
    assert 'listen: "127.0.0.1:4333"' in config
    assert 'http: "127.0.0.1:8333"' in config
    assert "jetstream" not in config
    assert "max_payload: 2097152" in config
    assert "listen" not in authority.server_config()
