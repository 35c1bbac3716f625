"""TLS as sidecars speak it, from Python: a client or server with a mesh certificate."""

from __future__ import annotations

import http.client
import io
import ssl
import subprocess
import tempfile
from pathlib import Path

import xds_certificates

from xds.policy.proxy import KeyPair


def client_context(pair: KeyPair | None, *, alpn: str | None = "osm") -> ssl.SSLContext:
    """A peer that trusts everybody and shows the certificate, or none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return _with(context, pair)


def server_context(pair: KeyPair) -> ssl.SSLContext:
    """A server of the mesh: a client certificate of the test mesh is required."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=xds_certificates.ROOT.decode())
    context.set_alpn_protocols(["osm"])
    return _with(context, pair)


def _with(context: ssl.SSLContext, pair: KeyPair | None) -> ssl.SSLContext:
    if pair is not None:
        with tempfile.TemporaryDirectory() as directory:  # ssl reads keys from files only
            path = Path(directory) / "pair.pem"
            path.write_bytes(pair.certificate_chain + pair.private_key)
            context.load_cert_chain(path)
    return context


def http_request(connection: ssl.SSLSocket, text: bytes) -> http.client.HTTPResponse:
    """The response to one raw request; the connection stays open for the next."""
    connection.sendall(text)
    response = http.client.HTTPResponse(connection)
    response.begin()
    response.body = response.read()  # type: ignore[attr-defined]
    return response


def read_request(connection: io.BufferedIOBase) -> bytes:
    """The head of one request, without a body."""
    head = b""
    while line := connection.readline():
        head += line
        if line == b"\r\n":
            break
    return head


def self_signed(folder: Path) -> Path:
    """A file with a key and a certificate that nobody signed but the key."""
    path = folder / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-nodes", "-keyout", str(path), "-out", str(folder / "cert.pem"), "-days", "2",
         "-subj", "/CN=outside"],
        check=True, capture_output=True,
    )  # fmt: skip
    path.write_text(path.read_text() + (folder / "cert.pem").read_text())
    return path
