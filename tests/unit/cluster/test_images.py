import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from headrace_cluster import images

BUSYBOX = b"\x7fELF pretended busybox"


@pytest.fixture
def archive(tmp_path: Path) -> dict[str, bytes]:
    path = tmp_path / "images.tar"
    images.write_archive(path, BUSYBOX, "/venv/bin:/usr/bin:/bb")
    with tarfile.open(path) as opened:
        return {member.name: opened.extractfile(member).read() for member in opened.getmembers()}  # type: ignore[union-attr]


def _blob(archive: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    content = archive[f"blobs/sha256/{descriptor['digest'].removeprefix('sha256:')}"]
    assert len(content) == descriptor["size"]
    return content


def _image(archive: dict[str, bytes], name: str) -> tuple[dict[str, Any], tarfile.TarFile]:
    for descriptor in json.loads(archive["index.json"])["manifests"]:
        if descriptor["annotations"]["io.containerd.image.name"] == name:
            manifest = json.loads(_blob(archive, descriptor))
            layer = _blob(archive, manifest["layers"][0])
            config = json.loads(_blob(archive, manifest["config"]))
            assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
            return config, tarfile.open(fileobj=io.BytesIO(layer))
    raise AssertionError(f"no image {name}")


def test_every_blob_lies_under_its_own_digest(archive: dict[str, bytes]) -> None:
    blobs = {name: content for name, content in archive.items() if name.startswith("blobs/")}
    assert blobs
    assert all(name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}" for name, content in blobs.items())


@pytest.mark.parametrize("name", ["engine", "gateway", "operator", "standin"])
def test_each_image_has_the_full_and_the_short_name(archive: dict[str, bytes], name: str) -> None:
    full, _ = _image(archive, f"docker.io/headrace/{name}:dev")
    short, _ = _image(archive, f"headrace/{name}:dev")
    assert full == short


def test_the_image_finds_programs_on_the_given_path_and_writes_no_bytecode(archive: dict[str, bytes]) -> None:
    config, _ = _image(archive, "headrace/engine:dev")
    assert "PATH=/venv/bin:/usr/bin:/bb" in config["config"]["Env"]
    assert "PYTHONDONTWRITEBYTECODE=1" in config["config"]["Env"]


def test_the_image_knows_the_nonroot_user_and_has_a_shell(archive: dict[str, bytes]) -> None:
    _, layer = _image(archive, "headrace/engine:dev")
    passwd = layer.extractfile("etc/passwd")
    assert passwd is not None
    assert "nonroot:x:65532:65532" in passwd.read().decode()
    assert layer.getmember("bb/sh").linkname == "busybox"
    assert layer.getmember("lib").linkname == "usr/lib"
    assert layer.getmember("tmp").mode == 0o1777


def test_the_sandbox_image_sleeps_in_busybox(archive: dict[str, bytes]) -> None:
    config, layer = _image(archive, images.PAUSE)
    assert config["config"]["Entrypoint"][:2] == ["/bin/busybox", "sh"]
    program = layer.extractfile("bin/busybox")
    assert program is not None
    assert program.read() == BUSYBOX
