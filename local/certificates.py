"""Certificates of the embedded cluster: one certificate authority, and one key pair for each client and the server.

They never expire: they are valid on this machine's loopback interface, and ``reset`` deletes them.
"""

from dataclasses import dataclass
from pathlib import Path

import trustme

SERVER_NAMES = ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "127.0.0.1")

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
    """The files in one folder; ``ensure`` creates them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = self.pair("ca")
        self.server = self.pair("server")
        self.service_account_key = folder / "service-account.key"

    def pair(self, name: str) -> KeyPair:
        """The files of the certificate called ``name``."""
        return KeyPair(self.folder / f"{name}.crt", self.folder / f"{name}.key")

    def ensure(self) -> None:
        """Creates all certificates if one of them is missing."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pairs = [self.authority, self.server, *map(self.pair, CLIENTS)]
        files = [file for pair in pairs for file in (pair.certificate, pair.key)]
        if all(file.exists() for file in [*files, self.service_account_key]):
            return
        authority = trustme.CA(organization_name="deepseek-local", path_length=0)
        _write(self.authority, authority.cert_pem, authority.private_key_pem)
        # etcd's gRPC gateway is a client of itself with its server certificate; trustme's serve for both.
        self._issue("server", authority.issue_cert(*SERVER_NAMES, common_name="deepseek-local"))
        for name, (user, group) in CLIENTS.items():
            # Go refuses a certificate without any subject alternative name, which trustme marks as critical.
            self._issue(name, authority.issue_cert(name, common_name=user, organization_name=group))
        if not self.service_account_key.exists():
            _write_key(self.service_account_key, authority.issue_cert("service-account").private_key_pem)

    def _issue(self, name: str, issued: trustme.LeafCert) -> None:
        _write(self.pair(name), issued.cert_chain_pems[0], issued.private_key_pem)


def _write(pair: KeyPair, certificate: trustme.Blob, key: trustme.Blob) -> None:
    certificate.write_to_path(str(pair.certificate))
    _write_key(pair.key, key)


def _write_key(path: Path, key: trustme.Blob) -> None:
    path.touch(mode=0o600)
    key.write_to_path(str(path))
