"""Certificates of the embedded cluster: one authority, everything signed by it, ECDSA P-256, valid for a year."""

import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)
"""A certificate that ends within this time is made anew at the next start."""

SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc")

CLIENTS = {
    "admin": ("deepseek-local-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kwok": ("kwok", "system:masters"),
    "pod-runner": ("pod-runner", "system:masters"),
    "openai": ("openai", "system:masters"),
    "fluid": ("fluid", "system:masters"),
    "lws": ("lws", "system:masters"),
    "apiserver-etcd": ("apiserver-etcd", None),
}
"""User and group of each client, as the certificate's common name and organization."""


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files; the key is readable only by its owner."""

    certificate: Path
    key: Path


class Certificates:
    """The files in one folder; missing or ending ones are made by ``ensure``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = self.pair("ca")
        self.server = self.pair("server")
        self.service_account_key = folder / "service-account.key"

    def pair(self, name: str) -> KeyPair:
        """The files of the certificate called ``name``."""
        return KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def ensure(self) -> None:
        """Makes all certificates if one of them is missing or near its end."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        names = ["ca", "server", *CLIENTS]
        if self.service_account_key.exists() and all(_is_good(self.pair(name).certificate) for name in names):
            return
        authority_key, authority = self._authority()
        self._issue("server", authority_key, authority, common_name="deepseek-local", server=True)
        for name, (user, group) in CLIENTS.items():
            self._issue(name, authority_key, authority, common_name=user, organization=group)
        if not self.service_account_key.exists():
            _write_key(self.service_account_key, ec.generate_private_key(ec.SECP256R1()))

    def _authority(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "deepseek-local-ca")])
        builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        _write(self.authority, key, builder.sign(key, hashes.SHA256()))
        return key, name

    def _issue(
        self,
        name: str,
        authority_key: ec.EllipticCurvePrivateKey,
        authority: x509.Name,
        *,
        common_name: str,
        organization: str | None = None,
        server: bool = False,
    ) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        usage = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = _builder(x509.Name(attributes), authority, key).add_extension(
            # etcd's gRPC gateway is a client of itself with its server certificate.
            x509.ExtendedKeyUsage([usage, ExtendedKeyUsageOID.CLIENT_AUTH] if server else [usage]),
            critical=False,
        )
        if server:
            names: list[x509.GeneralName] = [x509.DNSName(host) for host in SERVER_NAMES]
            names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        _write(self.pair(name), key, builder.sign(authority_key, hashes.SHA256()))


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A clock that is set back a little must not make it invalid.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + VALIDITY)
    )


def _is_good(path: Path) -> bool:
    if not path.exists():
        return False
    end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return end - datetime.datetime.now(datetime.UTC) > RENEW_BEFORE


def _write(pair: KeyPair, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    _write_key(pair.key, key)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    path.unlink(missing_ok=True)
    # Readable only by its owner from the first moment on.
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
