"""Passwords of roles, as Postgres keeps them: SCRAM-SHA-256 verifiers (RFC 5802).

They are computed here so that no password is ever part of a statement, which servers log.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256
from hmac import digest

ITERATIONS = 4096  # the server's own default; our passwords are long and random


def verifier(role: str, password: str) -> str:
    """The same role and password give the same verifier, so that provisioning again changes nothing."""
    salt = sha256(f"swarm role {role}".encode()).digest()[:16]
    salted = pbkdf2_hmac("sha256", password.encode(), salt, ITERATIONS)
    stored = sha256(digest(salted, b"Client Key", "sha256")).digest()
    server = digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode()
