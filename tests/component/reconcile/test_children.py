"""From the spec to the children and back: what a pass creates, mends, prunes, and leaves alone."""

from typing import Any

import pytest

from headrace.kube.kinds import CONFIG_MAP, DEPLOYMENT, INFERENCE_SERVICE, SERVICE
from headrace.loops.keys import Key
from headrace.reconcile.replicas import Scale, read_scale

World = Any


async def test_a_service_gets_its_children_and_becomes_ready(world: World) -> None:
    await world.apply()
    await world.steps(3)
    children = await world.children()
    assert {"Deployment/chat-prefill", "Deployment/chat-decode", "Deployment/chat-gateway"} <= children.keys()
    assert {"ConfigMap/chat-prefill-engine", "Service/chat", "Role/chat-gateway"} <= children.keys()
    assert all(child["metadata"]["ownerReferences"][0]["name"] == "chat" for child in children.values())
    ready = await world.condition("Ready")
    assert (ready["status"], ready["reason"]) == ("True", "Available")
    status = (await world.service())["status"]
    assert status["prefill"]["summary"] == "1/1"
    assert status["observedGeneration"] == 1
    assert status["resolved"]["gateway"]["policy"] == "CacheAware"


async def test_steady_state_writes_nothing(world: World) -> None:
    await world.apply()
    await world.steps(4)
    before, writes = world.versions(), len(world.server.writes)
    world.clock.at += 3600
    await world.steps(5)
    assert world.server.writes[writes:] == []
    assert world.versions() == before


async def test_reapplying_the_same_spec_writes_nothing(world: World) -> None:
    await world.apply()
    await world.steps(4)
    before = world.versions()
    await world.apply()
    await world.steps(2)
    assert world.versions() == before


@pytest.mark.parametrize(
    "change",
    [{"slo": {"ttft": "7s"}}, {"slo": {"ttftPer1kPromptTokens": "1s"}}, {"engine": {"queueOrder": "Arrival"}}],
    ids=str,
)
async def test_another_objective_or_order_reaches_the_engines_without_a_rollout(
    world: World, change: dict[str, Any]
) -> None:
    await world.apply()
    await world.steps(4)
    before = world.versions()
    await world.apply(**change)
    await world.steps(2)
    changed = {key[-1] for key, version in world.versions().items() if before.get(key) != version}
    assert changed == {"chat", "chat-prefill-engine", "chat-decode-engine"}


async def test_a_deleted_child_comes_back(world: World) -> None:
    await world.apply()
    await world.steps(3)
    await world.kube.delete(CONFIG_MAP, "default", "chat-decode-engine")
    await world.step()
    assert await world.kube.get(CONFIG_MAP, "default", "chat-decode-engine") is not None


async def test_an_edited_field_is_repaired(world: World) -> None:
    await world.apply()
    await world.steps(3)
    before = (await world.kube.get(SERVICE, "default", "chat"))["spec"]["ports"]
    await world.kube.merge_patch(SERVICE, "default", "chat", {"spec": {"ports": [{"name": "http", "port": 81}]}})
    await world.step()
    assert (await world.kube.get(SERVICE, "default", "chat"))["spec"]["ports"] == before


async def test_fields_that_others_add_are_left_alone(world: World) -> None:
    await world.apply()
    await world.steps(3)
    note = {"metadata": {"annotations": {"example.com/team": "search"}}}
    await world.kube.merge_patch(SERVICE, "default", "chat", note)
    before = world.versions()
    await world.steps(2)
    assert world.versions() == before


async def test_replicas_are_born_at_min_and_left_to_the_scale_manager(world: World) -> None:
    await world.apply(decode={"replicas": {"min": 2, "max": 3}})
    await world.steps(3)
    deployment = await world.kube.get(DEPLOYMENT, "default", "chat-decode")
    assert deployment["spec"]["replicas"] == 2
    owners = {
        entry["manager"]
        for entry in deployment["metadata"]["managedFields"]
        if "f:replicas" in entry["fieldsV1"].get("f:spec", {})
    }
    assert owners == {"headrace-autoscaler"}


async def test_a_changed_spec_changes_the_children(world: World) -> None:
    await world.apply()
    await world.steps(3)
    await world.apply(engine={"image": "registry.example/engine:2"})
    await world.steps(2)
    deployment = await world.kube.get(DEPLOYMENT, "default", "chat-prefill")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/engine:2"


async def test_topology_switch_leaves_no_orphan_and_serves_meanwhile(world: World) -> None:
    await world.apply(topology="Aggregated", prefill=None, decode=None, worker={"replicas": {"min": 1, "max": 2}})
    await world.steps(3)
    assert "Deployment/chat-worker" in await world.children()
    world.server.deployments.ready_after_s = None  # new pods do not become Ready yet
    await world.apply()
    await world.steps(2)
    assert {"Deployment/chat-worker", "Deployment/chat-prefill"} <= (await world.children()).keys()
    assert (await world.condition("Reconciling"))["status"] == "True"
    for pod in [*world.live_pods("prefill"), *world.live_pods("decode"), *world.live_pods("gateway")]:
        world.server.deployments._make_ready(("pods", "default", pod["metadata"]["name"]))
    await world.steps(3)
    left = {name for name in await world.children() if "worker" in name}
    assert left == set()
    status = (await world.service())["status"]
    assert "worker" not in status
    assert not [c for c in status["conditions"] if c["type"] == "WorkerReady"]
    assert (await world.condition("Ready"))["status"] == "True"


async def test_nothing_is_created_under_a_deletion_timestamp(world: World) -> None:
    await world.apply()
    await world.steps(3)
    finalizer = {"metadata": {"finalizers": ["example.com/hold"]}}
    await world.kube.merge_patch(INFERENCE_SERVICE, "default", "chat", finalizer)
    await world.kube.delete(INFERENCE_SERVICE, "default", "chat", propagation="Foreground")
    await world.kube.delete(CONFIG_MAP, "default", "chat-decode-engine")
    writes = len(world.server.writes)
    await world.steps(2)
    assert world.server.writes[writes:] == []


async def test_foreground_deletion_ends_and_nothing_is_recreated(world: World) -> None:
    await world.apply()
    await world.steps(3)
    await world.kube.delete(INFERENCE_SERVICE, "default", "chat", propagation="Foreground")
    await world.steps(3)
    assert await world.kube.get(INFERENCE_SERVICE, "default", "chat") is None
    assert await world.children() == {}


@pytest.mark.parametrize("writes", [0, 1, 2, 7, 15, 16, 17, 18, 19, 20, 21, 22, 23])
async def test_an_operator_killed_after_any_number_of_writes_is_caught_up_with(world: World, writes: int) -> None:
    await world.apply()
    world.mortal.writes_left = writes
    with pytest.raises(BaseException, match="killed"):
        await world.steps(3)
    world.restart()
    await world.steps(4)
    assert (await world.condition("Ready"))["status"] == "True"
    for role in ("prefill", "decode"):
        deployment = await world.kube.get(DEPLOYMENT, "default", f"chat-{role}")
        assert read_scale(deployment) == Scale(replicas=1, wanted=1, owned=True)
    before = world.versions()
    await world.steps(2)
    assert world.versions() == before


async def test_children_of_another_service_are_never_taken(world: World) -> None:
    await world.apply("chat")
    await world.steps(3)
    before = await world.kube.get(SERVICE, "default", "chat-decode")
    await world.apply("chat-decode")
    await world.step(Key("default", "chat-decode"))
    stalled = await world.condition("Stalled", "chat-decode")
    assert (stalled["status"], stalled["reason"]) == ("True", "ChildNameCollision")
    assert "Service/chat-decode" in stalled["message"]
    assert "InferenceService/chat" in stalled["message"]
    assert await world.kube.get(SERVICE, "default", "chat-decode") == before
    assert "Deployment/chat-decode-prefill" not in await world.children(), "half a service is not created"
