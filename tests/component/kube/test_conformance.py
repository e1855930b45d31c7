"""What the operator relies on, asked of the fake always and of a real API server where there is one."""

import asyncio
from typing import Any

import pytest
from headrace_fakes.apiserver.fields import Object

from headrace.kube.interface import Conflict, Invalid, Kind, KubeError, NotFound
from headrace.kube.kinds import CONFIG_MAP, DEPLOYMENT, LEASE, POD, SERVICE_ACCOUNT

STRUCTURE, SCALER = "headrace-operator", "headrace-autoscaler"


def config_map(namespace: str, name: str = "one", **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": namespace, "name": name, "labels": {"headrace.dev/service": "chat"}},
        "data": data or {"a": "1"},
    }


def deployment(namespace: str, replicas: int | None = None, image: str = "registry.invalid/engine:1") -> Object:
    labels = {"app": "engine"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "engine", "labels": labels},
        "spec": {
            **({} if replicas is None else {"replicas": replicas}),
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "e", "image": image}]}},
        },
    }


def only_replicas(namespace: str, replicas: int) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "engine"},
        "spec": {"replicas": replicas},
    }


async def test_what_does_not_exist_is_none_and_its_deletion_is_no_error(target: Any) -> None:
    assert await target.kube.get(CONFIG_MAP, target.namespace, "absent") is None
    assert await target.kube.delete(CONFIG_MAP, target.namespace, "absent") is False


async def test_a_created_object_has_identity_and_can_be_listed_by_label(target: Any) -> None:
    created = await target.kube.create(config_map(target.namespace))
    assert created["metadata"]["uid"]
    assert int(created["metadata"]["resourceVersion"]) > 0
    await target.kube.create(config_map(target.namespace, "two") | {"metadata": {
        "namespace": target.namespace, "name": "two"}})  # fmt: skip
    listed = await target.kube.list(CONFIG_MAP, target.namespace, {"headrace.dev/service": "chat"})
    assert [(item["metadata"]["name"], item["kind"], item["apiVersion"]) for item in listed] == [
        ("one", "ConfigMap", "v1")
    ]


async def test_creating_twice_is_a_conflict(target: Any) -> None:
    await target.kube.create(config_map(target.namespace))
    with pytest.raises(Conflict, match="already exists"):
        await target.kube.create(config_map(target.namespace))


async def test_a_kind_that_the_server_does_not_know_is_not_found(target: Any) -> None:
    with pytest.raises(NotFound):
        await target.kube.list(Kind("nowhere.dev/v1", "Thing", "things"), target.namespace)


async def test_applying_the_same_again_leaves_the_version_alone(target: Any) -> None:
    first = await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    again = await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    changed = await target.kube.apply(config_map(target.namespace, a="2"), STRUCTURE)
    assert again["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert changed["metadata"]["resourceVersion"] != first["metadata"]["resourceVersion"]


async def test_a_field_that_is_no_longer_applied_goes(target: Any) -> None:
    await target.kube.apply(config_map(target.namespace, a="1", b="2"), STRUCTURE)
    applied = await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    assert applied["data"] == {"a": "1"}


async def test_applying_takes_an_edited_field_back_and_leaves_foreign_fields(target: Any) -> None:
    await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    await target.kube.merge_patch(CONFIG_MAP, target.namespace, "one", {"data": {"a": "edited", "foreign": "x"}})
    applied = await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    assert applied["data"] == {"a": "1", "foreign": "x"}


async def test_applying_a_foreign_field_without_force_is_a_conflict_that_names_it(target: Any) -> None:
    await target.kube.apply(config_map(target.namespace, a="1"), STRUCTURE)
    with pytest.raises(Conflict, match=r"data\.a"):
        await target.kube.apply(config_map(target.namespace, a="2"), "someone-else", force=False)


async def test_replicas_stay_when_the_structure_drops_them_and_the_autoscaler_owns_them(target: Any) -> None:
    kube, namespace = target.kube, target.namespace
    await kube.apply(deployment(namespace, replicas=2), STRUCTURE)
    await kube.apply(only_replicas(namespace, 2), SCALER)
    assert (await kube.apply(deployment(namespace), STRUCTURE))["spec"]["replicas"] == 2
    assert (await kube.apply(only_replicas(namespace, 3), SCALER))["spec"]["replicas"] == 3
    live = await kube.apply(deployment(namespace), STRUCTURE)
    assert live["spec"]["replicas"] == 3
    owners = {
        entry["manager"]
        for entry in live["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners == {SCALER}


async def test_generation_counts_changes_of_the_spec_and_a_deployments_annotations_but_not_of_labels(
    target: Any,
) -> None:
    async def patched(patch: Object) -> int:
        return int(
            (await target.kube.merge_patch(DEPLOYMENT, target.namespace, "engine", patch))["metadata"]["generation"]
        )

    first = (await target.kube.apply(deployment(target.namespace, replicas=0), STRUCTURE))["metadata"]["generation"]
    assert await patched({"metadata": {"labels": {"note": "x"}}}) == first
    assert await patched({"metadata": {"annotations": {"note": "x"}}}) == first + 1
    assert await patched({"spec": {"replicas": 1}}) == first + 2


async def test_a_deployment_makes_pods_that_carry_the_template_labels(target: Any) -> None:
    await target.kube.apply(deployment(target.namespace, replicas=2), STRUCTURE)
    for _ in range(200):
        pods = await target.kube.list(POD, target.namespace, {"app": "engine"})
        live = await target.kube.get(DEPLOYMENT, target.namespace, "engine")
        if len(pods) == 2 and live["status"].get("replicas") == 2:
            break
        await asyncio.sleep(0.1)
    assert len(pods) == 2
    assert live["status"]["observedGeneration"] == live["metadata"]["generation"]


async def test_status_is_written_through_its_subresource_only(target: Any) -> None:
    kube, namespace = target.kube, target.namespace
    await kube.apply(deployment(namespace, replicas=0), STRUCTURE)
    status = {"conditions": [{"type": "Mine", "status": "True", "reason": "R", "message": "m"}]}
    identity = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "engine"}}
    through_main = await kube.merge_patch(DEPLOYMENT, namespace, "engine", {"status": {"readyReplicas": 9}})
    assert through_main.get("status", {}).get("readyReplicas") != 9
    written = await kube.apply_status({**identity, "spec": {"replicas": 7}, "status": status}, "headrace-status")
    assert "Mine" in {condition["type"] for condition in written["status"]["conditions"]}
    assert written["spec"]["replicas"] == 0


async def test_a_conditional_patch_with_an_old_version_is_a_conflict(target: Any) -> None:
    first = await target.kube.create(config_map(target.namespace))
    old = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    await target.kube.merge_patch(CONFIG_MAP, target.namespace, "one", old | {"data": {"a": "2"}})
    with pytest.raises(Conflict):
        await target.kube.merge_patch(CONFIG_MAP, target.namespace, "one", old | {"data": {"a": "3"}})


async def test_the_lease_can_be_created_renewed_and_released(target: Any) -> None:
    metadata = {"namespace": target.namespace, "name": "headrace-operator"}
    spec = {"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-11-23T00:00:00.000001Z"}
    created = await target.kube.create(
        {"apiVersion": LEASE.api_version, "kind": "Lease", "metadata": metadata, "spec": spec}
    )
    version = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}}
    released = await target.kube.merge_patch(
        LEASE,
        target.namespace,
        "headrace-operator",
        version | {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}},
    )
    assert not released["spec"].get("holderIdentity")


async def test_deletion_with_the_uid_of_an_earlier_object_is_a_conflict(target: Any) -> None:
    await target.kube.create(config_map(target.namespace))
    with pytest.raises(Conflict):
        await target.kube.delete(CONFIG_MAP, target.namespace, "one", uid="00000000-0000-0000-0000-000000000000")
    assert await target.kube.get(CONFIG_MAP, target.namespace, "one") is not None


async def test_dependents_go_with_their_owner(target: Any) -> None:
    kube, namespace = target.kube, target.namespace
    owner = await kube.create(config_map(namespace))
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "one", "uid": owner["metadata"]["uid"]}
    await kube.create(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"namespace": namespace, "name": "child", "ownerReferences": [reference]},
        }
    )
    await kube.delete(CONFIG_MAP, namespace, "one")
    for _ in range(300):
        if await kube.get(SERVICE_ACCOUNT, namespace, "child") is None:
            return
        await asyncio.sleep(0.1)
    pytest.fail("the dependent is still there after 30 s")


async def test_an_object_without_a_name_is_invalid(target: Any) -> None:
    with pytest.raises(Invalid, match="name"):
        await target.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": target.namespace}})


async def test_errors_name_the_request(target: Any) -> None:
    with pytest.raises(KubeError, match=f"POST /api/v1/namespaces/{target.namespace}/configmaps"):
        await target.kube.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": target.namespace}})
