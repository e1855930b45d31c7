from pathlib import Path

import pytest

from headrace_cluster import cgroups, checks
from headrace_cluster.errors import ClusterError
from headrace_cluster.layout import Layout, layout

V1 = """\
24 1 0:21 / /proc rw - proc proc rw
30 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
31 24 0:27 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
32 24 0:28 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw
"""
V2 = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    missing = checks.missing_packages(lambda witness: witness not in {"runc", "/usr/lib/cni/bridge"})
    assert missing == ["runc", "containernetworking-plugins"]
    sentence = checks.missing_sentence(missing)
    assert sentence.startswith("This machine lacks runc, containernetworking-plugins:")
    assert "apt-get install -y --no-install-recommends runc containernetworking-plugins" in sentence


def test_a_machine_with_everything_misses_nothing() -> None:
    assert checks.missing_packages(lambda _: True) == []


def test_without_root_the_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ClusterError, match=r"needs root.*--kube-context"):
        checks.require_root()


def test_a_version_1_machine_has_a_tree_per_controller_and_the_bare_version_2_tree() -> None:
    found = cgroups.parse(V1)
    assert found is not None
    assert found.version == 1
    assert [root.name for root in found.roots] == ["memory", "pids", "unified"]


def test_a_version_2_machine_has_one_tree() -> None:
    assert cgroups.parse(V2) == cgroups.Cgroups(2, (Path("/sys/fs/cgroup"),))


def test_a_machine_without_cgroups_has_none() -> None:
    assert cgroups.parse("24 1 0:21 / /proc rw - proc proc rw\n") is None


def test_version_2_controllers_are_handed_down_to_the_pods_level_but_not_into_the_leaf(tmp_path: Path) -> None:
    scope = tmp_path / "scope"
    (scope / "system").mkdir(parents=True)
    for level in (tmp_path, scope, scope / "system"):
        (level / "cgroup.controllers").write_text("cpuset cpu memory hugetlb pids rdma\n")
    procs = cgroups.Cgroups(2, (tmp_path,)).create("scope")
    assert procs == [scope / "system" / "cgroup.procs"]
    for level in (tmp_path, scope):
        assert (level / "cgroup.subtree_control").read_text() == "+cpuset +cpu +memory +hugetlb +pids"
    assert not (scope / "system" / "cgroup.subtree_control").exists()


@pytest.mark.parametrize("name", ["", "Demo", "1st", "-x", "x-", "a" * 21, "a/b"])
def test_a_name_that_cannot_name_a_node_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="--name"):
        layout(name)


def test_a_state_folder_too_deep_for_a_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/" + "deep/" * 20)
    with pytest.raises(ClusterError, match="XDG_STATE_HOME"):
        layout("demo")


def test_interface_names_fit_the_kernels_limit_and_differ_between_clusters() -> None:
    one, two = Layout("a" * 20, Path("/s")), Layout("a" * 19 + "b", Path("/s"))
    names = {one.host_link, one.node_link, two.host_link, two.node_link}
    assert len(names) == 4
    assert all(len(name) <= 15 for name in names)
