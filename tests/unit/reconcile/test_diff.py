"""What counts as drift: the real server's managedFields on real-looking objects."""

import copy
from typing import Any

import pytest

from headrace.reconcile.diff import Ref, diff
from headrace.reconcile.fields import drift, quantity

OWNER = {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService", "name": "chat", "uid": "u1"}
WANTED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "chat-decode", "namespace": "d", "labels": {"a": "b"}, "ownerReferences": [OWNER]},
    "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "automountServiceAccountToken": False,
                "containers": [
                    {
                        "name": "engine",
                        "image": "e:1",
                        "args": ["--x"],
                        "ports": [{"name": "http", "containerPort": 30000}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                        "env": [{"name": "A", "value": ""}],
                        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp", "readOnly": False}],  # noqa: S108
                    }
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}
# As a 1.36 API server returns it for that apply: defaults filled in, zero values dropped, quantities rewritten.
LIVE: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "chat-decode", "namespace": "d", "uid": "u2", "labels": {"a": "b"}, "ownerReferences": [OWNER],
        "annotations": {"deployment.kubernetes.io/revision": "1"},
        "managedFields": [
            {
                "manager": "headrace-operator", "operation": "Apply", "fieldsV1": {
                    "f:metadata": {"f:labels": {"f:a": {}}, "f:ownerReferences": {'k:{"uid":"u1"}': {}}},
                    "f:spec": {
                        "f:selector": {},
                        "f:template": {
                            "f:metadata": {"f:labels": {"f:a": {}}},
                            "f:spec": {
                                "f:automountServiceAccountToken": {},
                                "f:containers": {'k:{"name":"engine"}': {
                                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                                    "f:ports": {'k:{"containerPort":30000,"protocol":"TCP"}': {
                                        ".": {}, "f:name": {}, "f:containerPort": {}}},
                                    "f:resources": {"f:requests": {"f:cpu": {}, "f:memory": {}}},
                                    "f:env": {'k:{"name":"A"}': {".": {}, "f:name": {}, "f:value": {}}},
                                    "f:volumeMounts": {'k:{"mountPath":"/tmp"}': {
                                        ".": {}, "f:name": {}, "f:mountPath": {}, "f:readOnly": {}}},
                                }},
                                "f:volumes": {'k:{"name":"tmp"}': {".": {}, "f:name": {}, "f:emptyDir": {}}},
                            },
                        },
                    },
                },
            },
            {"manager": "kcm", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
        ],
    },
    "spec": {
        "replicas": 1, "progressDeadlineSeconds": 600, "selector": {"matchLabels": {"a": "b"}},
        "template": {
            "metadata": {"labels": {"a": "b"}},
            "spec": {
                "automountServiceAccountToken": False, "dnsPolicy": "ClusterFirst",
                "containers": [{
                    "name": "engine", "image": "e:1", "args": ["--x"], "imagePullPolicy": "IfNotPresent",
                    "ports": [{"name": "http", "containerPort": 30000, "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}},
                    "env": [{"name": "A"}], "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
                }],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}  # fmt: skip
POD = ("spec", "template", "spec")


def changed(obj: dict[str, Any], path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    inner = obj
    for name in path[:-1]:
        inner = inner[name]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return obj


def owned(live: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = live["metadata"]["managedFields"][0]["fieldsV1"]
    return fields


def test_what_the_server_made_of_our_apply_is_no_drift() -> None:
    assert drift(WANTED, LIVE, "headrace-operator") is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*POD, "containers", 0, "image"), "e:2"),
        ((*POD, "containers", 0, "args"), ["--x", "--y"]),
        ((*POD, "containers", 0, "resources", "requests", "memory"), "2Gi"),
        ((*POD, "containers", 0, "env", 0, "value"), "set"),
        ((*POD, "automountServiceAccountToken"), True),
        (("spec", "selector", "matchLabels", "a"), "c"),
        (("metadata", "labels", "a"), "c"),
        (("metadata", "labels"), {}),
        ((*POD, "volumes"), []),
    ],
)
def test_a_live_value_that_differs_is_drift(path: tuple[Any, ...], value: Any) -> None:
    assert drift(WANTED, changed(LIVE, path, value), "headrace-operator") is not None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((*POD, "containers", 0, "env"), []),
        ((*POD, "containers", 0, "ports"), []),
        ((*POD, "volumes"), None),
        ((*POD, "containers", 0, "args"), None),
        (("metadata", "labels"), {}),
    ],
)
def test_what_we_own_and_no_longer_want_is_drift(path: tuple[Any, ...], value: Any) -> None:
    found = drift(changed(WANTED, path, value), LIVE, "headrace-operator")
    assert found is not None
    assert "no longer wanted" in found


def test_a_new_wanted_field_is_drift() -> None:
    found = drift(changed(WANTED, (*POD, "dnsPolicy"), "ClusterFirst"), LIVE, "headrace-operator")
    assert found == "spec.template.spec.dnsPolicy is not ours"


def test_a_field_that_another_manager_took_is_drift_though_its_zero_value_is_hidden() -> None:
    live = copy.deepcopy(LIVE)
    del owned(live)["f:spec"]["f:template"]["f:spec"]["f:automountServiceAccountToken"]
    del live["spec"]["template"]["spec"]["automountServiceAccountToken"]
    assert drift(WANTED, live, "headrace-operator") is not None


def test_an_object_that_we_never_applied_is_drift() -> None:
    assert drift(WANTED, changed(LIVE, ("metadata", "managedFields"), []), "headrace-operator") is not None


def test_what_others_add_is_theirs() -> None:
    live = changed(LIVE, ("metadata", "annotations", "team"), "search")
    live["spec"]["template"]["spec"]["containers"].append({"name": "injected-sidecar"})
    assert drift(WANTED, live, "headrace-operator") is None


@pytest.mark.parametrize(("text", "value"), [("1000m", 1), ("1Gi", 2**30), ("0.5", "0.5"), (2, 2), ("1e3", None)])
def test_quantities(text: Any, value: Any) -> None:
    found = quantity(text)
    assert found == (None if value is None else quantity(value))


def test_missing_children_are_created_with_their_first_replicas() -> None:
    actions = diff([WANTED], [], "u1", {"chat-decode": 2})
    assert actions.apply[0].manifest["spec"]["replicas"] == 2
    assert actions.apply[0].created
    assert "replicas" not in WANTED["spec"]


def test_equal_children_are_left_alone_and_unwanted_ones_pruned_by_uid() -> None:
    actions = diff([], [LIVE], "u1")
    assert [(p.ref, p.uid) for p in actions.prune] == [(Ref("apps/v1", "Deployment", "chat-decode"), "u2")]
    assert diff([WANTED], [LIVE], "u1", {"chat-decode": 1}).apply == ()


def test_somebody_elses_objects_are_neither_pruned_nor_overwritten() -> None:
    foreign = changed(LIVE, ("metadata", "ownerReferences"), [{**OWNER, "uid": "other", "controller": True}])
    actions = diff([WANTED], [foreign], "u1")
    assert actions.apply == ()
    assert actions.prune == ()
    assert "Deployment/chat-decode" in actions.collisions[0].message()
    assert diff([], [foreign], "u1").prune == ()


def test_an_orphan_of_the_same_name_is_a_collision_too() -> None:
    orphan = changed(LIVE, ("metadata", "ownerReferences"), None)
    assert "not made for" in diff([WANTED], [orphan], "u1").collisions[0].message()


def test_nothing_is_written_for_a_service_that_is_being_deleted() -> None:
    actions = diff([WANTED], [], "u1", deleting=True)
    assert actions.apply == ()


def test_the_structure_lets_go_of_replicas_only_when_the_scale_manager_has_them() -> None:
    live = copy.deepcopy(LIVE)
    owned(live)["f:spec"]["f:replicas"] = {}
    assert diff([WANTED], [live], "u1", {"chat-decode": 1}).apply == (), "letting go now would fall back to 1"
    scale = {"manager": "headrace-autoscaler", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    live["metadata"]["managedFields"].append(scale)
    apply = diff([WANTED], [live], "u1", {"chat-decode": 1}).apply
    assert "replicas" not in apply[0].manifest["spec"]
