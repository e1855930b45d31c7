"""Certificates and kubeconfigs of a cluster. Elliptic keys, because fifteen of them take milliseconds."""

import base64
import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# A cluster lives for hours; a year leaves room for one that is kept, and an hour back allows for a clock set meanwhile.
_LIFETIME = datetime.timedelta(days=365)
_BACKDATE = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, folder: Path, name: str) -> None:
        """Write NAME.crt and NAME.key (mode 0600) into `folder`."""
        (folder / f"{name}.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        write_private(folder / f"{name}.key", _private_pem(self.key))


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_bytes(content)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + _LIFETIME)
    )


def authority(common_name: str) -> Pair:
    """A self-signed certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, name, key).add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(
    ca: Pair,
    common_name: str,
    *,
    organization: str | None = None,
    hosts: Sequence[str] = (),
    addresses: Iterable[IPv4Address] = (),
) -> Pair:
    """A certificate signed by `ca`: for a server when `hosts` are given, for a client otherwise."""
    key = ec.generate_private_key(ec.SECP256R1())
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    builder = _builder(x509.Name(attributes), ca.certificate.subject, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if hosts:
        names = [*map(x509.DNSName, hosts), *map(x509.IPAddress, addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def kubeconfig(server: str, folder: Path, user: str, context: str) -> str:
    """A kubeconfig for `user`, whose certificate and key lie in `folder`; their contents are carried in it."""

    def inline(name: str) -> str:
        return base64.b64encode((folder / name).read_bytes()).decode()

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": inline("ca.crt")}}],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": inline(f"{user}.crt"),
                    "client-key-data": inline(f"{user}.key"),
                },
            }
        ],
        "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        "current-context": context,
    }
    return yaml.safe_dump(config, sort_keys=False)


# Component -> (common name, organization) of its client certificate; what each may do is bound to these names.
CLIENTS: dict[str, tuple[str, str | None]] = {
    "admin": ("admin", "system:masters"),
    "controller-manager": ("system:kube-controller-manager", None),
    "scheduler": ("system:kube-scheduler", None),
    "proxy": ("system:kube-proxy", None),
    "dns": ("headrace-dns", None),
    "prometheus": ("headrace-prometheus", None),
    "metrics-adapter": ("headrace-metrics-adapter", None),
    "apiserver-kubelet": ("kube-apiserver-kubelet-client", "system:masters"),
}


def write_all(folder: Path, node: str, server: str, addresses: Sequence[IPv4Address]) -> None:
    """Write every certificate, key and kubeconfig of a cluster into `folder`."""
    folder.mkdir(parents=True, mode=0o700)
    ca, front = authority("headrace-cluster-ca"), authority("headrace-front-proxy-ca")
    ca.write(folder, "ca")
    front.write(folder, "front-proxy-ca")
    issue(front, "front-proxy-client").write(folder, "front-proxy")
    service = "kubernetes.default.svc"
    hosts = ("localhost", "kubernetes", "kubernetes.default", service, f"{service}.cluster.local")
    loopback = IPv4Address("127.0.0.1")
    issue(ca, "kube-apiserver", hosts=hosts, addresses=(loopback, *addresses)).write(folder, "apiserver")
    adapter = "metrics-adapter"
    issue(ca, adapter, hosts=(f"{adapter}.kube-system.svc",)).write(folder, f"{adapter}-server")
    clients = {**CLIENTS, "kubelet": (f"system:node:{node}", "system:nodes")}
    for name, (common_name, organization) in clients.items():
        issue(ca, common_name, organization=organization).write(folder, name)
        write_private(folder / f"{name}.kubeconfig", kubeconfig(server, folder, name, node).encode())
    signer = ec.generate_private_key(ec.SECP256R1())
    write_private(folder / "service-accounts.key", _private_pem(signer))
    public = signer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-accounts.pub").write_bytes(public)
