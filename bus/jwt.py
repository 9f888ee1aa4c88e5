"""NATS's own JWTs: claims about an operator, an account or a user, signed with an Ed25519 key.

The shape is that of NATS JWT version 2 (header ``{"typ":"JWT","alg":"ed25519-nkey"}``). Keys are "nkeys":
a seed begins with S and the kind's letter (``SO…``, ``SA…``, ``SU…``), a public key with the letter.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from typing import Any, Final, Literal

KeyKind = Literal["operator", "account", "user"]
_HEADER: Final = {"typ": "JWT", "alg": "ed25519-nkey"}


class Key:
    """A key pair. The seed is the secret; neither `repr` nor `str` shows it."""

    def __init__(self, seed: str) -> None:
        import nkeys  # loads libsodium; only who mints or connects pays for it

        self.seed = seed
        self._pair = nkeys.from_seed(bytearray(seed.encode()))  # type: ignore[no-untyped-call]
        self.public: str = self._pair.public_key.decode()

    @classmethod
    def new(cls, kind: KeyKind) -> Key:
        import nkeys

        prefix = {
            "operator": nkeys.PREFIX_BYTE_OPERATOR,
            "account": nkeys.PREFIX_BYTE_ACCOUNT,
            "user": nkeys.PREFIX_BYTE_USER,
        }[kind]
        seed: bytes = nkeys.encode_seed(os.urandom(32), prefix)  # type: ignore[no-untyped-call]
        return cls(seed.decode())

    def sign(self, data: bytes) -> bytes:
        signature: bytes = self._pair.sign(data)
        return signature

    def __repr__(self) -> str:
        return f"Key({self.public})"


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_claims(
    signer: Key, *, subject: str, name: str, nats: dict[str, Any], expires: float | None = None
) -> str:
    """A JWT by `signer` about the public key `subject`; `expires` is a Unix time in seconds, None for never."""
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "iss": signer.public,
        "name": name,
        "nats": nats,
        "sub": subject,
    }
    if expires is not None:
        claims["exp"] = int(expires)
    digest = hashlib.sha256(json.dumps(claims, sort_keys=True).encode()).digest()
    claims["jti"] = base64.b32encode(digest).rstrip(b"=").decode()
    signed = f"{_b64(json.dumps(_HEADER).encode())}.{_b64(json.dumps(claims).encode())}"
    return f"{signed}.{_b64(signer.sign(signed.encode()))}"


def read_claims(jwt: str) -> dict[str, Any]:
    """What a JWT says, *unverified*: for one's own credentials. Raises ValueError when it is none."""
    try:
        payload = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError) as error:
        raise ValueError("This is not a NATS JWT.") from error
    if not isinstance(claims, dict):
        raise ValueError("This is not a NATS JWT.")
    return claims
