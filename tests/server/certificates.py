"""Certificates for tests: made on the spot, signed by a root that nobody else has."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

DAY = datetime.timedelta(days=1)
PEM = serialization.Encoding.PEM
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Root:
    """Signs certificates, and writes them below a directory."""

    def __init__(self, directory: Path, name: str = "root") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = named(name)
        own = self._signed(self._name, self._key, ca=True, days=1)
        self.file = directory / f"{name}.pem"
        self.file.write_bytes(own.public_bytes(PEM))

    def pair(
        self, name: str, *, days: int = 1, password: bytes | None = None, key: Key | None = None
    ) -> Pair:
        """Write a certificate for localhost, which ends in so many days and began ten days before."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        signed = self._signed(named(name), key, ca=False, days=days)
        pair.certificate.write_bytes(signed.public_bytes(PEM))
        kept = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pair.key.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, kept))
        return pair

    def _signed(self, subject: x509.Name, key: Key, *, ca: bool, days: int) -> x509.Certificate:
        end = datetime.datetime.now(datetime.UTC) + days * DAY
        hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - 10 * DAY)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )
        return builder.sign(self._key, hashes.SHA256())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
