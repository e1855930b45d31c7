"""Container images without a registry: one OCI archive, written by the standard library.

The image is a skeleton (folders, the usual links, a static busybox); what runs in it is the machine's own environment,
which `policy` mounts into the pods. The sandbox ("pause") image is the same busybox asleep.
"""

import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAUSE = "localhost/headrace/pause:1"
PREFIX = "headrace/"
# Entry points by image; none: the pod's own command says what runs.
ENTRY_POINTS = {"engine": "headrace-engine", "gateway": None, "operator": "headrace", "standin": "headrace-standin"}
USER_ID = 65532  # the customary id of a "nonroot" user in images without a distribution
_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_APPLETS = ("sh", "sleep", "cat", "nc", "wget", "nslookup", "ps", "kill", "httpd", "mount", "df", "free", "top", "id")
_FOLDERS = ("proc", "sys", "dev", "run", "etc", "root", "home", "var", "var/log", "usr", "bb", "opt", "mnt", "srv")
_LINKS = {"lib": "usr/lib", "lib64": "usr/lib64", "bin": "usr/bin", "sbin": "usr/sbin", "var/run": "../run"}
_PASSWD = f"root:x:0:0:root:/root:/bb/sh\nnonroot:x:{USER_ID}:{USER_ID}:nonroot:/tmp:/bb/sh\n"
_GROUP = f"root:x:0:\nnonroot:x:{USER_ID}:\n"
# Asleep until told to end; `wait` also reaps orphans, which is the sandbox's duty in a shared PID namespace.
_PAUSE_SCRIPT = "trap 'exit 0' TERM INT; while :; do sleep 2147483647 & wait; done"


def forms(name: str) -> tuple[str, str]:
    """The names that one image is imported under: kubelet asks for the full form, people for the short."""
    return f"docker.io/{PREFIX}{name}:dev", f"{PREFIX}{name}:dev"


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of a layer: a folder, a link (`target`) or a file (`content`)."""

    path: str
    mode: int = 0o755
    target: str | None = None
    content: bytes | None = None


def skeleton(busybox: bytes) -> list[Entry]:
    """What the project's image holds."""
    return [
        *(Entry(folder) for folder in _FOLDERS),
        *(Entry(folder, mode=0o1777) for folder in ("tmp", "var/tmp")),
        *(Entry(path, target=target) for path, target in _LINKS.items()),
        Entry("bb/busybox", content=busybox),
        *(Entry(f"bb/{applet}", target="busybox") for applet in _APPLETS),
        Entry("etc/passwd", mode=0o644, content=_PASSWD.encode()),
        Entry("etc/group", mode=0o644, content=_GROUP.encode()),
        Entry("etc/nsswitch.conf", mode=0o644, content=b"passwd: files\ngroup: files\nhosts: files dns\n"),
    ]


def _layer(entries: Sequence[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode = entry.mode
            if entry.target is not None:
                member.type, member.linkname = tarfile.SYMTYPE, entry.target
            elif entry.content is None:
                member.type = tarfile.DIRTYPE
            else:
                member.size = len(entry.content)
            archive.addfile(member, io.BytesIO(entry.content or b""))
    return buffer.getvalue()


class _Store:
    """The archive's blobs, addressed by their digest."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    def put(self, media_type: str, content: bytes) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def put_json(self, media_type: str, content: object) -> dict[str, object]:
        return self.put(media_type, json.dumps(content, sort_keys=True).encode())

    def image(self, entries: Sequence[Entry], config: dict[str, object]) -> dict[str, object]:
        layer = self.put(_LAYER, _layer(entries))
        description = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": self.put_json(_CONFIG, description),
            "layers": [layer],
        }
        return self.put_json(_MANIFEST, manifest)


def write_archive(path: Path, busybox: bytes, search_path: str) -> None:
    """Write the OCI archive with the project's image under all its names and the sandbox image.

    `search_path` becomes PATH in the project's image; a pod's own `env` still goes before it.
    """
    store = _Store()
    environment = [f"PATH={search_path}", "HOME=/tmp", "PYTHONDONTWRITEBYTECODE=1", "LANG=C.UTF-8"]
    files_of_image = skeleton(busybox)
    config: dict[str, object] = {"Env": environment, "WorkingDir": "/"}
    named = []
    for name, program in ENTRY_POINTS.items():
        start: dict[str, object] = {"Entrypoint": [program]} if program else {"Cmd": ["/bb/sh"]}
        image = store.image(files_of_image, config | start)
        named += [(form, image) for form in forms(name)]
    pause = store.image(
        [Entry("bin"), Entry("bin/busybox", content=busybox), Entry("bin/sleep", target="busybox")],
        {"Env": ["PATH=/bin"], "Entrypoint": ["/bin/busybox", "sh", "-c", _PAUSE_SCRIPT]},
    )
    named.append((PAUSE, pause))
    manifests = [{**image, "annotations": {"io.containerd.image.name": name}} for name, image in named]
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": manifests}
    files = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps(index).encode(),
        **{f"blobs/sha256/{digest}": content for digest, content in store.blobs.items()},
    }
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
