"""Certificates of the embedded cluster: one certificate authority, and one key pair for each client and the server.

They never expire: they are valid on this machine's loopback interface, and ``reset`` deletes them.
"""

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509

from local.real_nodes.plan import GATEWAY, NODE_ADDRESSES

SERVER_NAMES = (
    *("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1"),
    # The built-in Service, and where real nodes find it and are found themselves.
    *("10.96.0.1", GATEWAY, *NODE_ADDRESSES),
)

CLIENTS = {
    "admin": ("deepseek-local-admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "kwok": ("kwok", "system:masters"),
    "pod-runner": ("pod-runner", "system:masters"),
    "openai": ("openai", "system:masters"),
    "fluid": ("fluid", "system:masters"),
    "lws": ("lws", "system:masters"),
    "kubelet": ("kubelet", "system:masters"),
    "kube-proxy": ("system:kube-proxy", None),
    "netpol": ("netpol", "system:masters"),
    "coredns": ("coredns", "system:masters"),
    "apiserver-etcd": ("apiserver-etcd", None),
    "apiserver-kubelet": ("apiserver-kubelet", "system:masters"),
}
"""User and group of each client, as the certificate's common name and organization."""


@dataclass(frozen=True)
class KeyPair:
    """Two PEM files; the key is readable only by its owner."""

    certificate: Path
    key: Path


class Certificates:
    """The files in one folder; ``ensure`` creates them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = self.pair("ca")
        self.server = self.pair("server")
        self.service_account_key = folder / "service-account.key"

    def pair(self, name: str) -> KeyPair:
        """The files of the certificate called ``name``."""
        return KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def ensure(self) -> bool:
        """Creates all certificates if one of them is missing, or the server has got another name. Whether it did."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pairs = [self.authority, self.server, *map(self.pair, CLIENTS)]
        files = [file for pair in pairs for file in (pair.certificate, pair.key)]
        if all(file.exists() for file in [*files, self.service_account_key]) and self._names() == set(SERVER_NAMES):
            return False
        authority = trustme.CA(organization_name="deepseek-local", path_length=0)
        _write(self.authority, authority.cert_pem, authority.private_key_pem)
        # etcd's gRPC gateway is a client of itself with its server certificate; trustme's serve for both.
        self._issue("server", authority.issue_cert(*SERVER_NAMES, common_name="deepseek-local"))
        for name, (user, group) in CLIENTS.items():
            # Go refuses a certificate without any subject alternative name, which trustme marks as critical.
            self._issue(name, authority.issue_cert(name, common_name=user, organization_name=group))
        if not self.service_account_key.exists():
            _write_key(self.service_account_key, authority.issue_cert("service-account").private_key_pem)
        return True

    def _names(self) -> set[str]:
        """Of the server's certificate."""
        certificate = x509.load_pem_x509_certificate(self.server.certificate.read_bytes())
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return {*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress))}

    def _issue(self, name: str, issued: trustme.LeafCert) -> None:
        _write(self.pair(name), issued.cert_chain_pems[0], issued.private_key_pem)


def _write(pair: KeyPair, certificate: trustme.Blob, key: trustme.Blob) -> None:
    certificate.write_to_path(str(pair.certificate))
    _write_key(pair.key, key)


def _write_key(path: Path, key: trustme.Blob) -> None:
    path.touch(mode=0o600)
    key.write_to_path(str(path))
