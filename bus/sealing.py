"""A secret in an envelope that only one can open: who was given the key by another way.

The wire may be plain between machines, and no key of ours travels over it unsealed. XSalsa20-Poly1305 by libsodium,
which comes with nkeys.
"""

from __future__ import annotations

import base64
import secrets

from bus.errors import Refused

KEY_BYTES = 32


def new_key() -> str:
    """32 random octets as text. A secret."""
    return base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def seal(key: str, text: str) -> str:
    from nacl.secret import SecretBox

    return base64.b64encode(SecretBox(base64.urlsafe_b64decode(key)).encrypt(text.encode())).decode()


def unseal(key: str, sealed: str) -> str:
    """Raises Refused when it was sealed with another key, or has been changed."""
    from nacl.exceptions import CryptoError
    from nacl.secret import SecretBox

    try:
        return SecretBox(base64.urlsafe_b64decode(key)).decrypt(base64.b64decode(sealed)).decode()
    except (CryptoError, ValueError):
        raise Refused(
            "This was sealed with another key; ask for a new invitation.", reason="sealed"
        ) from None
