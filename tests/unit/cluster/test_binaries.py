import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from headrace_cluster import binaries, downloads
from headrace_cluster.errors import ClusterError
from headrace_cluster.report import Report

TOOLS = [binaries.ETCD, *binaries.KUBERNETES, binaries.PROMETHEUS, binaries.PROMETHEUS_ADAPTER]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: str(tool.name))
def test_every_tool_takes_its_version_from_the_pinned_module(tool: binaries.Tool) -> None:
    assert tool.version.startswith("v")
    assert tool.file_name.startswith(f"{tool.name}-{tool.version}-")
    assert (
        f"\t{tool.package}\n" in (tool.pins / "go.mod").read_text()
        or f"tool {tool.package}\n" in (tool.pins / "go.mod").read_text()
    )


def test_kubernetes_programs_are_linked_with_the_version_that_clients_check() -> None:
    flags = binaries.KUBERNETES[0].linker_flags
    assert f"gitVersion={binaries.KUBERNETES[0].version}" in flags
    assert "gitMajor=1" in flags


def test_a_cached_program_is_neither_downloaded_nor_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "headrace" / "bin"
    folder.mkdir(parents=True)
    (folder / binaries.ETCD.file_name).write_bytes(b"etcd")

    def refuse() -> bool:
        raise AssertionError("asked the network")

    monkeypatch.setattr(downloads, "reachable", refuse)
    found = binaries.ensure([binaries.ETCD], Report(quiet=True))
    assert found["etcd"].read_bytes() == b"etcd"


def test_a_missing_go_is_named_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(downloads, "reachable", lambda: False)
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(ClusterError, match=r"install Go 1\.26"):
        binaries.ensure([binaries.ETCD], Report(quiet=True))
    assert list((tmp_path / "headrace" / "bin").glob("etcd*")) == []


def test_checksum_files_of_both_forms_are_read() -> None:
    one, two = "a" * 64, "B" * 64
    assert downloads.published_sum(f"{one}\n", "kubelet") == one
    assert downloads.published_sum(f"{one}  other.tar.gz\n{two} *etcd.tar.gz\n", "etcd.tar.gz") == two.lower()
    with pytest.raises(ClusterError, match=r"don't name etcd\.tar\.gz"):
        downloads.published_sum(f"{one}  other.tar.gz\n", "etcd.tar.gz")


def _serve(monkeypatch: pytest.MonkeyPatch, content: bytes, listing: str) -> list[str]:
    asked: list[str] = []

    def read(url: str) -> bytes:
        asked.append(url)
        return listing.encode() if "sum" in url.lower() or url.endswith(".sha256") else content

    monkeypatch.setattr(downloads, "_read", read)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return asked


def test_a_release_with_the_right_checksum_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = _serve(monkeypatch, b"kubelet", hashlib.sha256(b"kubelet").hexdigest())
    assert downloads.fetch("kubelet", "v1.36.4", tmp_path / "kubelet")
    assert (tmp_path / "kubelet").read_bytes() == b"kubelet"
    assert asked[0] == "https://dl.k8s.io/release/v1.36.4/bin/linux/amd64/kubelet"


def test_a_release_with_a_wrong_checksum_is_refused_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _serve(monkeypatch, b"tampered", hashlib.sha256(b"kubelet").hexdigest())
    with pytest.raises(ClusterError, match="not used"):
        downloads.fetch("kubelet", "v1.36.4", tmp_path / "kubelet")
    assert not (tmp_path / "kubelet").exists()


def test_prometheus_comes_out_of_the_release_that_its_module_version_hides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stem = "prometheus-3.14.0.linux-amd64"
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(f"{stem}/prometheus")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"prom"))
    content = buffer.getvalue()
    asked = _serve(monkeypatch, content, f"{hashlib.sha256(content).hexdigest()}  {stem}.tar.gz")
    assert downloads.fetch("prometheus", "v0.314.0", tmp_path / "prometheus")
    assert (tmp_path / "prometheus").read_bytes() == b"prom"
    assert asked[0].endswith(f"/v3.14.0/{stem}.tar.gz")


def test_a_way_that_breaks_off_leads_to_a_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(url: str) -> bytes:
        raise OSError(url)

    monkeypatch.setattr(downloads, "_read", read)
    assert not downloads.fetch("etcd", "v3.6.14", tmp_path / "etcd")
