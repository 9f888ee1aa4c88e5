"""Which addresses a character may be fetched from: public ones, unless private ones are allowed.

What is checked is what is connected to: a name is resolved once, its addresses judged, and the socket
opened to one of them, so a name that resolves differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

from swarm.errors import CharacterError

Address = IPv4Address | IPv6Address

_NAT64: Final = IPv6Network("64:ff9b::/96")
_METADATA: Final = frozenset({IPv4Address("168.63.129.16")})
"""Public by number, but answered by the cloud's own host (Azure). The others' are link-local or private."""


async def resolve(host: str, port: int) -> list[Address]:
    """All addresses of a name, in the resolver's order."""
    loop = asyncio.get_running_loop()
    try:
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CharacterError(f"The host {host} cannot be found ({error}).") from None
    return list(dict.fromkeys(ip_address(str(sockaddr[0])) for *_, sockaddr in answers))


def is_public(address: Address) -> bool:
    """Whether an address is on the public Internet, looking through the IPv6 forms that wrap an IPv4 one."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFF_FFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and address not in _METADATA
