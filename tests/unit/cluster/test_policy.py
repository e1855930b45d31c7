from pathlib import Path

from headrace_cluster import environment, policy


def test_folders_inside_other_folders_are_not_mounted_twice() -> None:
    paths = [Path("/usr"), Path("/opt/venv"), Path("/usr/local/python"), Path("/opt/venv"), Path("/opt/venv2")]
    assert environment.without_nested(paths) == [Path("/usr"), Path("/opt/venv"), Path("/opt/venv2")]


def test_the_policy_mounts_every_folder_read_only_at_its_own_path() -> None:
    _, manifest = policy.manifests([Path("/usr"), Path('/odd"name')])[0]
    expression = manifest["spec"]["mutations"][0]["applyConfiguration"]["expression"]
    assert 'hostPath{path: "/usr"}' in expression
    assert 'mountPath: "/usr", readOnly: true' in expression
    assert 'hostPath{path: "/odd\\"name"}' in expression
    assert expression.count("readOnly: true") == 4  # two folders, in containers and in init containers


def test_the_policy_is_in_force_once_a_dry_run_shows_its_volumes() -> None:
    assert not policy.in_force({"spec": {"containers": []}})
    assert policy.in_force({"spec": {"volumes": [{"name": "headrace-env-0"}]}})


def test_components_may_only_read() -> None:
    roles = [manifest for _, manifest in policy.manifests([]) if manifest["kind"] == "ClusterRole"]
    assert len(roles) == 2
    assert {verb for role in roles for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
