"""Ids: who an agent is, what a row is called. Every id is a `str` in the canonical UUID spelling.

string_to_uuid(name)   an agent's id from its name, bit-identical to elizaOS
new_id()               a row's id: uuid7, so that ids sort by the time they were made
derived_id(*parts)     the same parts give the same id, so that a retry writes no second row
"""

from __future__ import annotations

import os
import re
import time
from hashlib import sha1
from urllib.parse import quote
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_UNESCAPED = "-_.!~*'()"  # what JavaScript's encodeURIComponent leaves alone besides letters and digits
_NAMESPACE = UUID("5a1c3f0e-7a2b-5d94-9c1e-0f6d3b8e4a71").bytes  # ours; changing it changes every derived id


def is_uuid(text: str) -> bool:
    """Whether `text` is spelled as a UUID of any version, in either case."""
    return _UUID.fullmatch(text) is not None


def string_to_uuid(text: str) -> str:
    """The id elizaOS gives this text: SHA-1 of `encodeURIComponent(text)`, 16 bytes, variant 10, version 0.

    A text that is a UUID already is returned as is. Raises ValueError on a lone surrogate, which no
    encoding has.
    """
    if is_uuid(text):
        return text
    try:
        escaped = quote(text, safe=_UNESCAPED)
    except UnicodeEncodeError as error:
        raise ValueError("a text with half a character (a lone surrogate) has no id") from error
    octets = bytearray(sha1(escaped.encode("ascii"), usedforsecurity=False).digest()[:16])
    octets[6] &= 0x0F
    octets[8] = octets[8] & 0x3F | 0x80
    return str(UUID(bytes=bytes(octets)))


def new_id(now_ns: int | None = None) -> str:
    """A uuid7 (RFC 9562): 48 bits of milliseconds, 12 of their fraction, 62 random bits.

    The fraction (a 4096th of a millisecond) keeps ids of one process in order without any state, which a
    fork would copy. `now_ns` is nanoseconds since the epoch; the wall clock unless given.
    """
    milliseconds, rest = divmod(time.time_ns() if now_ns is None else now_ns, 1_000_000)
    fraction = rest * 4096 // 1_000_000
    noise = int.from_bytes(os.urandom(8), "big") & (1 << 62) - 1
    bits = (milliseconds & (1 << 48) - 1) << 80 | 7 << 76 | fraction << 64 | 0b10 << 62 | noise
    digits = f"{bits:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def derived_id(*parts: str | int) -> str:
    """The id these parts always give (a version 5 UUID): `("a", "bc")` is not `("ab", "c")`, but `1` is `"1"`."""
    if not parts:
        raise ValueError("an id cannot be derived from nothing; give at least one part")
    name = "\x00".join([f"{len(part)}:{part}" for part in map(str, parts)])
    digest = bytearray(
        sha1(_NAMESPACE + name.encode(errors="surrogatepass"), usedforsecurity=False).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    digits = digest.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
