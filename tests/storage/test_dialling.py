"""TLS through the guard: the certificate is checked for the name although an address was dialled."""

import datetime
import ipaddress
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from engine.errors import SourceUnreachable
from engine.settings import Settings
from engine.storage.fetch import Fetcher
from engine.storage.patience import Patience
from tests.storage.servers import Server, file, serving

NAME = "media.example"


def certificate(folder: Path) -> Path:
    """A self-signed certificate for NAME, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + made.public_bytes(serialization.Encoding.PEM)
    path = folder / "server.pem"
    path.write_bytes(pem)
    return path


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    path = certificate(tmp_path)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server = Server()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server


def test_a_certificate_is_verified_for_the_name_that_was_asked_for(
    secure: Server, settings: Settings, scratch: Path, patience: Patience
) -> None:
    opened = settings.model_copy(update={"allowed_hosts": frozenset({NAME, "other.example"})})
    fetcher = Fetcher(opened, resolve=lambda host, port: ["127.0.0.1"], patience=patience)
    secure.script("/a.mp4", file(b"content"))
    assert fetcher.fetch(f"https://{NAME}:{secure.server_port}/a.mp4", scratch).path.read_bytes() == b"content"
    with pytest.raises(SourceUnreachable, match="certificate"):
        fetcher.fetch(f"https://other.example:{secure.server_port}/a.mp4", scratch)
    assert len(secure.seen) == 1


def test_a_certificate_of_unknown_authority_is_refused(
    secure: Server, settings: Settings, scratch: Path, patience: Patience, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    opened = settings.model_copy(update={"allowed_hosts": frozenset({NAME})})
    fetcher = Fetcher(opened, resolve=lambda host, port: ["127.0.0.1"], patience=patience)
    with pytest.raises(SourceUnreachable, match="certificate"):
        fetcher.fetch(f"https://{NAME}:{secure.server_port}/a.mp4", scratch)


def test_the_next_address_is_dialled_where_the_first_does_not_answer(
    settings: Settings, web: Server, scratch: Path
) -> None:
    web.script("/a.mp4", file(b"content"))
    opened = settings.model_copy(update={"allowed_hosts": frozenset({NAME})})
    addresses = [str(ipaddress.ip_address("127.0.0.2")), "127.0.0.1"]  # nobody listens on the first
    fetcher = Fetcher(opened, resolve=lambda host, port: addresses)
    assert fetcher.fetch(f"http://{NAME}:{web.server_port}/a.mp4", scratch).path.read_bytes() == b"content"
