"""Checks of the addresses that requests lead to: only public ones are allowed.

Without these checks, a list, a page or a redirect that names a private address would make this machine send requests
into its own network.
"""

from __future__ import annotations

import ipaddress
import socket

# The well-known prefix that maps IPv4 addresses into IPv6 (NAT64, RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Zones for the names of a machine or of its own network.
_PRIVATE_ZONES = (".localhost", ".localdomain", ".local", ".internal", ".intranet", ".lan", ".home.arpa")


class PrivateAddress(Exception):
    """A host on this machine or in its network; the message names the host."""


def is_public(address: str) -> bool:
    """Return False for loopback, private, link-local, shared, reserved and multicast addresses.

    IPv4 addresses inside IPv6 (IPv4-mapped, 6to4, Teredo, NAT64) are judged as the IPv4 address.

    Raises:
        ValueError: When `address` is not an IP address.
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
    """Resolve a host as a connection would, and check every address that it resolves to.

    A name that cannot be resolved passes: the connection itself will fail and report the reason.

    Raises:
        PrivateAddress: When one of the addresses is not public.
    """
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError):
        return
    for *_, address in found:
        if not is_public(str(address[0])):
            raise PrivateAddress(f"{host} leads to the private address {address[0]}")


def check_named(host: str) -> None:
    """Check a host without asking a name server, for requests whose host is resolved by a proxy.

    Raises:
        PrivateAddress: When the host is an address that is not public, or a name of the proxy's own machine or network.
    """
    bare = host.strip("[]").rstrip(".").lower()
    try:
        public = is_public(socket.inet_ntoa(socket.inet_aton(bare)) if ":" not in bare else bare)
    except (OSError, ValueError):
        # A name without a dot is never a public host.
        public = "." in bare and not bare.endswith(_PRIVATE_ZONES)
    if not public:
        raise PrivateAddress(f"{host} is a private address")
