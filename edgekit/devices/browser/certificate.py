"""A certificate of this machine, for HTTPS on the local network. Browsers warn of it, as nobody vouches for it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import ssl
import tempfile
from collections.abc import Sequence
from typing import Any

from edgekit.errors import MissingDependencyError

DAYS = 7


def server_context(names: Sequence[str]) -> tuple[ssl.SSLContext, str]:
    """TLS for ``names`` (addresses or host names), with a new key that is kept nowhere, and its SHA-256 fingerprint.

    The fingerprint is what a browser shows of the certificate. Raises ``MissingDependencyError`` without cryptography.
    """
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
    except ImportError as error:
        raise MissingDependencyError("--https", found=str(error), fix="pip install edgekit[sign]") from None
    key = ec.generate_private_key(ec.SECP256R1())  # the one that every phone's browser takes
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "edgekit phone")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    handle, path = tempfile.mkstemp(prefix="edgekit-", suffix=".pem")  # mode 0600; ssl reads keys from files alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
    return context, certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _name(name: str) -> Any:
    from cryptography.x509 import DNSName, IPAddress

    try:
        return IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return DNSName(name)
