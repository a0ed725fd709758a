"""Which addresses the web may send us to: public ones. A list, a page or a redirect that names another would make this
machine ask its own network.
"""

from __future__ import annotations

import ipaddress
import socket

# The well-known prefix behind which IPv6 networks reach IPv4 addresses (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Zones of a machine's or a network's own names.
_PRIVATE_ZONES = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa")


class PrivateAddress(Exception):
    """A host on this machine or in its network; the text names it."""


def is_public(address: str) -> bool:
    """False for loopback, private, link-local, shared, reserved and multicast addresses, in whatever clothes.

    Raises:
        ValueError: It is not an IP address.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        inside = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo or (None, None))[1]
        if inside is None and parsed in _NAT64:
            inside = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if inside is not None:
            return is_public(str(inside))
    return parsed.is_global and not parsed.is_multicast


def check_resolved(host: str, port: int) -> None:
    """Resolve a host as a connection would, and look at every address it has.

    A name that cannot be resolved passes: connecting to it fails by itself, and says why.

    Raises:
        PrivateAddress: One of them is not public.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return
    for *_, address in found:
        if not is_public(str(address[0])):
            raise PrivateAddress(f"{host} leads to the private address {address[0]}")


def check_named(host: str) -> None:
    """What can be told without asking a name server, for requests that a proxy resolves.

    Raises:
        PrivateAddress: The host is an address that is not public, or a name of the proxy's own machine or network.
    """
    bare = host.strip("[]").rstrip(".").lower()
    try:
        public = is_public(socket.inet_ntoa(socket.inet_aton(bare)) if ":" not in bare else bare)
    except (OSError, ValueError):
        # No public host goes by a single word.
        public = "." in bare and not bare.endswith(_PRIVATE_ZONES)
    if not public:
        raise PrivateAddress(f"{host} is a private address")
