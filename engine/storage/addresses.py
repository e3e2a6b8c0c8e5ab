"""Which network addresses a job may make this worker talk to: public ones, and hosts that the operator named.

A caller's URL must not become a way into the network the worker stands in. A name is refused when any address that
it resolves to is refused, and `dialling` connects to the very addresses that were looked at here, so a name that
resolves differently a moment later gains nothing.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from engine.errors import InvalidInput, Problem, SourceBlocked

Resolve = Callable[[str, int], list[str]]

_NAT64 = IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address
_UNICAST = IPv6Network("2000::/3")  # the only part of IPv6 that is handed out to the public
_TUNNELS = (IPv6Network("2001::/32"), IPv6Network("2002::/16"))  # Teredo and 6to4 carry an IPv4 address of choice
_ALSO = (  # reserved, although older Pythons call them global
    IPv4Network("168.63.129.16/32"),  # the services of an Azure host
    IPv4Network("192.0.0.0/24"),  # protocol assignments, among them Oracle's metadata
    IPv4Network("192.88.99.0/24"),  # 6to4 relays
)


def resolve(host: str, port: int) -> list[str]:
    """Every address of a name, as the system resolves it. Raises socket.gaierror."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def refused(address: str) -> bool:
    """True for everything but public unicast addresses. An IPv4 address inside an IPv6 one counts as itself."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is None:
            return ip not in _UNICAST or not ip.is_global or any(ip in tunnel for tunnel in _TUNNELS)
        ip = inner
    return not ip.is_global or ip.is_multicast or ip.is_reserved or any(ip in network for network in _ALSO)


@dataclass(frozen=True, slots=True)
class Guard:
    """Resolves names and refuses those that lead inside; `allowed` holds the exempt, as `host` or `host:port`.

    blamed: the job's field that its addresses come from.
    """

    allowed: frozenset[str] = frozenset()
    resolve: Resolve = field(default=resolve)
    blamed: str = "source"

    def addresses(self, host: str, port: int) -> list[str]:
        """The addresses that may be dialled for a name. Raises SourceBlocked, socket.gaierror."""
        found = self.resolve(host, port)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        if not self._exempt(host, port) and any(refused(address) for address in found):
            raise SourceBlocked(
                f"{host} leads to a private, loopback, link-local or otherwise reserved address; "
                "only public addresses are fetched from and delivered to",
                hint="the operator may list test hosts in ALLOWED_HOSTS",
                field=self.blamed,
            )
        return found

    def check(self, url: str) -> None:
        """Look at a URL before it is used. Raises InvalidInput, SourceBlocked, socket.gaierror."""
        host, port = host_and_port(url, self.blamed)
        self.addresses(host, port)

    def _exempt(self, host: str, port: int) -> bool:
        bare = host.strip("[]").rstrip(".").lower()
        shown = f"[{bare}]" if ":" in bare else bare
        return not self.allowed.isdisjoint({bare, shown, f"{shown}:{port}"})


def host_and_port(url: str, field: str = "source") -> tuple[str, int]:
    """Where an http(s) URL points. Raises InvalidInput for every other URL."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https"):
        raise InvalidInput([Problem(field, "is not an http:// or https:// address with a host")])
    return host, port or (443 if parts.scheme == "https" else 80)
