"""Somebody else's HorizontalPodAutoscaler or ScaledObject: named, and left to size its pool alone."""

from dataclasses import replace
from typing import Any

import pytest
from headrace_fakes.actuators import PROMETHEUS, begin, foreign_hpa, published, replicas, scale, scale_writes, settled

from headrace.api.roles import Role
from headrace.kube.kinds import HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT

World = Any


async def test_a_foreign_hpa_is_named_and_left_to_size_its_pool_until_it_is_gone(world: World) -> None:
    await begin(world, "Internal")
    await world.kube.apply(foreign_hpa(), "kubectl")
    await settled(world)
    await scale(world, 3)
    before = scale_writes(world)
    world.decide(Role.DECODE, 2)
    world.decide(Role.PREFILL, 2)
    assert await world.step() == 30.0, "its going sends no event"
    await world.steps(2)
    assert await replicas(world) == 3
    assert await replicas(world, "prefill") == 2, "the other pool is Headrace's as before"
    assert [write for write in scale_writes(world)[len(before) :] if "decode" in write[1]] == []
    found = await world.condition("ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "ActuatorConflict")
    assert "HorizontalPodAutoscaler/mine sizes Deployment/chat-decode" in found["message"]
    assert any(event["reason"] == "ActuatorConflict" for event in await world.events())
    await world.kube.delete(HORIZONTAL_POD_AUTOSCALER, "default", "mine")
    await settled(world)
    assert (await world.condition("ScalingActive"))["reason"] == "Active"
    assert await replicas(world) == 3, "no jump"


async def test_pods_that_drained_serve_again_when_somebody_else_sizes_the_pool(world: World) -> None:
    await begin(world, "Internal")
    world.decide(Role.DECODE, 2)
    await world.steps(2)
    victim = world.live_pods("decode")[1]["metadata"]["name"]
    world.engines.load = replace(world.engines.load, running_requests=1)
    world.decide(Role.DECODE, 1, victims=(victim,))
    await world.steps(2)
    await world.kube.apply(foreign_hpa(), "kubectl")
    await settled(world)
    assert world.server.store.get(("pods", "default", victim))["metadata"]["labels"]["headrace.dev/state"] == "serving"
    assert await replicas(world) == 2


async def test_in_mode_hpa_a_second_one_takes_the_pool_over_and_ours_comes_back_after_it(world: World) -> None:
    await begin(world, "HPA")
    await world.kube.apply(foreign_hpa(), "kubectl")
    await settled(world)
    names = {hpa["metadata"]["name"] for hpa in await world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")}
    assert names == {"mine", "chat-prefill"}, "two would undo each other"
    assert (await world.condition("ScalingActive"))["reason"] == "ActuatorConflict"
    await scale(world, 3)
    await world.steps(2)
    assert published(world) == 3, "what ours will read first when it is back"
    await world.kube.delete(HORIZONTAL_POD_AUTOSCALER, "default", "mine")
    await settled(world)
    names = {hpa["metadata"]["name"] for hpa in await world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")}
    assert names == {"chat-prefill", "chat-decode"}
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated"


async def test_a_foreign_scaled_object_and_what_keda_makes_of_it_are_named(world: World) -> None:
    await begin(world, "Internal")
    scaled = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": "theirs", "namespace": "default"},
        "spec": {"scaleTargetRef": {"name": "chat-decode"}},
    }
    await world.kube.apply(scaled, "kubectl")
    await settled(world)
    found = await world.condition("ScalingActive")
    assert found["reason"] == "ActuatorConflict"
    assert "ScaledObject/theirs sizes Deployment/chat-decode" in found["message"]


async def test_the_hpa_that_keda_makes_for_our_scaled_object_is_ours(world: World) -> None:
    world.settings = PROMETHEUS
    world.restart()
    await begin(world, "KEDA")
    ours = await world.kube.get(SCALED_OBJECT, "default", "chat-decode")
    owner = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "chat-decode",
             "uid": ours["metadata"]["uid"], "controller": True}  # fmt: skip
    await world.kube.apply(
        foreign_hpa("keda-hpa-chat-decode", ownerReferences=[owner], labels=ours["metadata"]["labels"]), "keda"
    )
    await settled(world)
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated"
    assert await world.kube.get(HORIZONTAL_POD_AUTOSCALER, "default", "keda-hpa-chat-decode")


@pytest.mark.parametrize("mode", ["Advisory", "Off"])
async def test_where_replicas_are_left_to_others_theirs_is_no_conflict(world: World, mode: str) -> None:
    await begin(world, mode)
    await world.kube.apply(foreign_hpa(), "kubectl")
    await settled(world)
    assert (await world.condition("ScalingActive"))["reason"] == {"Off": "ModeOff"}.get(mode, mode)


async def test_actuators_of_other_workloads_are_nobodys_business(world: World) -> None:
    await begin(world, "Internal")
    await world.kube.apply(foreign_hpa(target="chat-gateway"), "kubectl")
    stateful = foreign_hpa("stateful")
    stateful["spec"]["scaleTargetRef"]["kind"] = "StatefulSet"
    await world.kube.apply(stateful, "kubectl")
    await settled(world)
    assert (await world.condition("ScalingActive"))["reason"] == "Active"
