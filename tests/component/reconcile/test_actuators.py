"""Modes HPA and KEDA: an actuator writes the replicas that Headrace publishes; KEDA is optional."""

from dataclasses import replace
from typing import Any

import pytest
from headrace_fakes.actuators import (
    BOUNDS,
    PROMETHEUS,
    actuate,
    begin,
    published,
    replicas,
    scale_writes,
    settled,
    steps,
)
from headrace_fakes.apiserver.server import Fault

from headrace.api.conditions import format_time
from headrace.api.roles import Role
from headrace.kube.kinds import HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, SCALED_OBJECT

World = Any


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
async def test_the_actuator_writes_what_headrace_decides_and_headrace_writes_no_replicas(
    world: World, mode: str
) -> None:
    world.settings = PROMETHEUS
    world.restart()
    await begin(world, mode)
    before = scale_writes(world)
    world.decide(Role.DECODE, 3)
    await world.step()
    assert (published(world), await replicas(world)) == (3, 1), "published and not written"
    await actuate(world)
    await world.steps(2)
    assert await replicas(world) == 3
    assert scale_writes(world) == before
    assert len(world.live_pods("decode")) == 3
    found = await world.condition("ScalingActive")
    assert (found["status"], found["reason"]) == ("True", "Delegated")
    assert not [event for event in await world.events() if event["reason"] in {"ReplicasAdopted", "Scaled"}]


async def test_steady_state_in_mode_hpa_writes_nothing(world: World) -> None:
    await begin(world, "HPA")
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    before = world.versions()
    await steps(world, 8)
    assert world.versions() == before


async def test_a_smaller_number_is_published_only_once_the_victim_is_idle(world: World) -> None:
    await begin(world, "HPA")
    world.decide(Role.DECODE, 2)
    await steps(world, 3)
    stays, victim = (pod["metadata"]["name"] for pod in world.live_pods("decode"))
    idle, world.engines.load = world.engines.load, replace(world.engines.load, running_requests=1)
    world.decide(Role.DECODE, 1, victims=(victim,))
    await steps(world, 4)
    metadata = world.server.store.get(("pods", "default", victim))["metadata"]
    assert metadata["labels"]["headrace.dev/state"] == "draining"
    assert metadata["annotations"]["controller.kubernetes.io/pod-deletion-cost"] == "-1000"
    assert (published(world), await replicas(world)) == (2, 2), "it still works"
    world.engines.load = idle
    await steps(world, 4)
    assert (published(world), await replicas(world)) == (1, 1)
    assert [pod["metadata"]["name"] for pod in world.live_pods("decode")] == [stays]


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
async def test_a_lower_max_is_carried_out_by_draining_first(world: World, mode: str) -> None:
    """An actuator enforces its bounds at once; it would end a pod that still works, and perhaps not the drained one."""
    world.settings = PROMETHEUS
    world.restart()
    await begin(world, mode)
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    names = tuple(pod["metadata"]["name"] for pod in world.live_pods("decode"))
    idle, world.engines.load = world.engines.load, replace(world.engines.load, running_requests=1)
    await world.apply(autoscaling={"mode": mode}, decode={"replicas": {"min": 1, "max": 1}})
    world.decide(Role.DECODE, 1, victims=names[1:])
    await steps(world, 4)
    assert await replicas(world) == 3, "they still work"
    world.engines.load = idle
    await steps(world, 5)
    assert [pod["metadata"]["name"] for pod in world.live_pods("decode")] == [names[0]]
    kind = "HorizontalPodAutoscaler" if mode == "HPA" else "ScaledObject"
    listed = await world.kube.list(HORIZONTAL_POD_AUTOSCALER if mode == "HPA" else SCALED_OBJECT, "default")
    (actuator,) = (a for a in listed if a["metadata"]["name"] == "chat-decode")
    assert actuator["spec"][BOUNDS[kind][1]] == 1


async def test_a_restarted_operator_publishes_what_there_is_until_it_has_decided(world: World) -> None:
    await begin(world, "HPA")
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    world.restart()
    assert published(world) is None, "missing is not zero"
    await steps(world, 2)
    assert (published(world), await replicas(world)) == (3, 3)


async def test_paused_publishes_what_there_is(world: World) -> None:
    await begin(world, "HPA")
    note = {"metadata": {"annotations": {"headrace.dev/paused": "true"}}}
    await world.kube.merge_patch(INFERENCE_SERVICE, "default", "chat", note)
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    assert (published(world), await replicas(world)) == (1, 1)


async def test_an_edited_or_deleted_actuator_is_repaired(world: World) -> None:
    await begin(world, "HPA")
    patch = {"spec": {"maxReplicas": 99}}
    await world.kube.merge_patch(HORIZONTAL_POD_AUTOSCALER, "default", "chat-decode", patch)
    await world.kube.delete(HORIZONTAL_POD_AUTOSCALER, "default", "chat-prefill")
    await world.step()
    children = await world.children()
    assert children["HorizontalPodAutoscaler/chat-decode"]["spec"]["maxReplicas"] == 3
    assert "HorizontalPodAutoscaler/chat-prefill" in children


async def test_an_actuator_that_says_it_cannot_scale_is_reported(world: World) -> None:
    await begin(world, "HPA")
    since = {"lastTransitionTime": format_time(world.clock.at)}
    broken = {"type": "ScalingActive", "status": "False", "reason": "FailedGetExternalMetric", **since}
    await world.kube.merge_patch(
        HORIZONTAL_POD_AUTOSCALER, "default", "chat-decode", {"status": {"conditions": [broken]}}
    )
    assert await world.step() == 30.0, "looked at again"
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated", "its first look comes before a scrape"
    world.clock.at += 60
    await world.step()
    found = await world.condition("ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "ActuatorFailing")
    assert "HorizontalPodAutoscaler/chat-decode can't scale (FailedGetExternalMetric)" in found["message"]
    well = {**broken, "status": "True", "reason": "ValidMetricFound"}
    await world.kube.merge_patch(
        HORIZONTAL_POD_AUTOSCALER, "default", "chat-decode", {"status": {"conditions": [well]}}
    )
    await world.step()
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated"
    assert {e["reason"] for e in await world.events()} >= {"ActuatorFailing", "Delegated"}


async def test_without_kedas_crd_the_mode_says_so_and_works_once_it_is_there(world: World) -> None:
    world.settings = PROMETHEUS
    world.restart()
    world.server.kinds.remove(SCALED_OBJECT)
    await begin(world, "KEDA")
    found = await world.condition("ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "ActuatorMissing")
    assert "scaledobjects.keda.sh" in found["message"]
    assert (await world.condition("Stalled"))["status"] == "False"
    assert (await world.condition("Ready"))["status"] == "True", "serving does not depend on it"
    world.server.kinds.append(SCALED_OBJECT)
    await settled(world)
    assert await world.kube.get(SCALED_OBJECT, "default", "chat-decode")
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated"


async def test_keda_without_a_known_prometheus_says_which_setting_is_missing(world: World) -> None:
    await begin(world, "KEDA")
    found = await world.condition("ScalingActive")
    assert found["reason"] == "ActuatorMissing"
    assert "HEADRACE_PROMETHEUS_URL" in found["message"]


async def test_an_operator_that_may_not_see_kedas_kind_works_in_the_other_modes(world: World) -> None:
    world.server.faults.append(Fault(403, times=1000, contains="/scaledobjects"))
    await world.apply(autoscaling={"mode": "HPA"})
    await world.steps(3)
    world.decide(Role.DECODE, 2)
    await world.step()
    assert published(world) == 2
    assert (await world.condition("ScalingActive"))["reason"] == "Delegated"
