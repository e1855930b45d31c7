"""Official releases over HTTPS, verified against the checksums published with them."""

import functools
import hashlib
import io
import platform
import tarfile
import threading
import urllib.request
from pathlib import Path

from headrace_cluster.errors import ClusterError

# One question decides for the whole run: a machine without a way out must not wait at every tool. The name lookup
# has no time limit of its own, hence the thread.
_PROBE_PATIENCE_S = 4.0
_READ_PATIENCE_S = 60.0
_KUBERNETES = "https://dl.k8s.io/release"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@functools.cache
def reachable() -> bool:
    """Can the release server be reached? Asked once per process."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{_KUBERNETES}/stable.txt", timeout=_PROBE_PATIENCE_S):
                answered.set()
        except OSError:
            return

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_PROBE_PATIENCE_S)
    return answered.is_set()


def _read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=_READ_PATIENCE_S) as response:
        content: bytes = response.read()
    return content


def published_sum(listing: str, file_name: str) -> str:
    """The SHA-256 of `file_name` in a checksum file: lines of "SUM  NAME", or a bare sum."""
    for line in listing.splitlines():
        words = line.split()
        if len(words) == 1 or (len(words) == 2 and words[1].lstrip("*") == file_name):
            return words[0].lower()
    raise ClusterError(f"The published checksums don't name {file_name}.")


def _addresses(name: str, version: str, machine: str) -> tuple[str, str, str | None]:
    """The URL of a release, the URL of its checksums, and the program's path in the archive (None: no archive)."""
    if name.startswith("kube"):
        url = f"{_KUBERNETES}/{version}/bin/linux/{machine}/{name}"
        return url, f"{url}.sha256", None
    if name == "etcd":
        base = f"https://github.com/etcd-io/etcd/releases/download/{version}"
        stem = f"etcd-{version}-linux-{machine}"
        return f"{base}/{stem}.tar.gz", f"{base}/SHA256SUMS", f"{stem}/etcd"
    # Prometheus' module v0.314.0 is release v3.14.0: its Go module hides the major version.
    _, hidden, patch = version.removeprefix("v").split(".")
    release = f"{hidden[0]}.{int(hidden[1:])}.{patch}"
    base = f"https://github.com/prometheus/prometheus/releases/download/v{release}"
    stem = f"prometheus-{release}.linux-{machine}"
    return f"{base}/{stem}.tar.gz", f"{base}/sha256sums.txt", f"{stem}/prometheus"


def fetch(name: str, version: str, target: Path) -> bool:
    """Download and verify a release into `target`; False if there is none or the way broke off, so that it's built.

    A checksum that doesn't match raises ClusterError: that is no reason to go on in silence.
    """
    machine = _ARCHITECTURES.get(platform.machine())
    if machine is None:
        return False
    url, sums, member = _addresses(name, version, machine)
    try:
        content, listing = _read(url), _read(sums).decode()
    except OSError:
        return False
    found, wanted = hashlib.sha256(content).hexdigest(), published_sum(listing, url.rsplit("/", 1)[1])
    if found != wanted:
        raise ClusterError(f"{url} has the SHA-256 {found}, but {sums} says {wanted}: not used.")
    if member is not None:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            program = archive.extractfile(member)
            if program is None:
                raise ClusterError(f"{url} holds no {member}.")
            content = program.read()
    target.write_bytes(content)
    return True
