"""HTTP connections that dial only what the guard has looked at.

The check sits where the socket is opened, beneath requests and botocore alike: redirects, retries and new connections
all pass it, and between the look and the call no second lookup happens. The name stays the name in the Host header,
in SNI and in the verification of the certificate.
"""

import os
import socket
import sys
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import create_connection

from engine.storage.addresses import Guard

TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds of silence
_BLOCK = 1 << 18  # bytes handed to the socket at a time when a body is sent


def session(guard: Guard) -> requests.Session:
    """A session without the environment's proxies and passwords (`.netrc`), but with its certificate authorities."""
    made = requests.Session()
    made.trust_env = False
    made.verify = certificate_authorities()
    made.headers["User-Agent"] = "restoration-worker"
    made.headers["Accept-Encoding"] = "identity"
    for scheme in ("http://", "https://"):
        made.mount(scheme, _GuardedAdapter(guard))
    return made


def certificate_authorities() -> str | bool:
    """The bundle that the environment names by any of its usual variables, else the one that comes with requests."""
    names = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
    return next((bundle for name in names if (bundle := os.environ.get(name))), True)


def guarded_pools(
    guard: Guard,
    plain: type[HTTPConnectionPool] = HTTPConnectionPool,
    secure: type[HTTPSConnectionPool] = HTTPSConnectionPool,
) -> dict[str, type[HTTPConnectionPool]]:
    """Pool classes by scheme, for a urllib3 PoolManager, whose connections ask the guard."""

    class PlainConnection(plain.ConnectionCls):  # type: ignore[name-defined, misc]
        def _new_conn(self) -> socket.socket:
            return dial(guard, self)

    class SecureConnection(secure.ConnectionCls):  # type: ignore[name-defined, misc]
        def _new_conn(self) -> socket.socket:
            return dial(guard, self)

    return {
        "http": type("GuardedPool", (plain,), {"ConnectionCls": PlainConnection}),
        "https": type("GuardedSecurePool", (secure,), {"ConnectionCls": SecureConnection}),
    }


def dial(guard: Guard, connection: HTTPConnection | HTTPSConnection) -> socket.socket:
    """Open the socket of a connection to one of the guarded addresses. Raises urllib3's errors and SourceBlocked."""
    port = connection.port or connection.default_port
    try:
        made = _first_that_answers(guard.addresses(connection.host, port), port, connection)
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    except TimeoutError as error:
        raise ConnectTimeoutError(connection, f"{connection.host} did not answer in time") from error
    except OSError as error:
        raise NewConnectionError(connection, f"{connection.host} could not be connected to") from error
    sys.audit("http.client.connect", connection, connection.host, port)
    return made


def _first_that_answers(addresses: list[str], port: int, connection: HTTPConnection | HTTPSConnection) -> socket.socket:
    failure: OSError = OSError("no address")
    for address in addresses:
        try:
            return create_connection(
                (address, port),
                connection.timeout,
                source_address=connection.source_address,
                socket_options=connection.socket_options,
            )
        except OSError as error:
            failure = error
    raise failure


class _GuardedAdapter(HTTPAdapter):
    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        super().__init__(max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, blocksize=_BLOCK)
        self.poolmanager.pool_classes_by_scheme = guarded_pools(self._guard)
