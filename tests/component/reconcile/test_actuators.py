"""Modes HPA and KEDA, and somebody else's actuators: exactly one writes the replicas of a pool."""

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from headrace_fakes.apiserver.server import Fault

from headrace.api.conditions import format_time
from headrace.api.roles import Role
from headrace.kube.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, SCALED_OBJECT
from headrace.settings import Settings

World = Any
Object = dict[str, Any]
PROMETHEUS = Settings(request_timeout_s=5.0, scale_down_window_s=60.0, prometheus_url="http://prometheus:9090")


BOUNDS = {
    "HorizontalPodAutoscaler": ("minReplicas", "maxReplicas"),
    "ScaledObject": ("minReplicaCount", "maxReplicaCount"),
}


async def replicas(world: World, role: str = "decode") -> int:
    return int((await world.kube.get(DEPLOYMENT, "default", f"chat-{role}"))["spec"]["replicas"])


async def scale(world: World, count: int, role: str = "decode") -> None:
    """As the /scale subresource does it: kubectl, or the controller of an actuator."""
    await world.kube.merge_patch(DEPLOYMENT, "default", f"chat-{role}", {"spec": {"replicas": count}})


def published(world: World, role: str = "decode") -> int | None:
    value = world.metrics.registry.get_sample_value(
        "headrace_desired_replicas", {"namespace": "default", "service": "chat", "role": role}
    )
    return None if value is None else int(value)


async def actuate(world: World) -> None:
    """What the actuators that exist would do with the published numbers."""
    served = [kind for kind in (HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT) if kind in world.server.kinds]
    for kind in served:
        for actuator in await world.kube.list(kind, "default"):
            role = actuator["metadata"]["name"].removeprefix("chat-")
            live = await replicas(world, role)
            least, most = (actuator["spec"][bound] for bound in BOUNDS[actuator["kind"]])
            wanted = max(least, min(most, published(world, role) or live))
            if wanted != live:
                await scale(world, wanted, role)


async def steps(world: World, count: int) -> None:
    for _ in range(count):
        await world.step()
        await actuate(world)


async def begin(world: World, mode: str) -> None:
    await world.apply(autoscaling={"mode": mode})
    await world.steps(3)
    world.decide(Role.PREFILL, 1)
    world.decide(Role.DECODE, 1)
    await steps(world, 2)


def foreign_hpa(name: str = "mine", target: str = "chat-decode", **metadata: Any) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target},
            "minReplicas": 1,
            "maxReplicas": 9,
        },
    }


def scale_writes(world: World) -> list[Any]:
    return [write for write in world.server.writes if write[2] == "headrace-autoscaler"]


async def settled(world: World, steps: int = 8) -> None:
    """Beyond the time for which one look at the namespace's actuators serves."""
    await world.steps(steps)


# ---- mode HPA


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


# ---- changing the mode


@pytest.mark.parametrize("mode", ["HPA", "KEDA"])
async def test_back_to_internal_the_actuator_goes_and_the_replicas_stay(world: World, mode: str) -> None:
    world.settings = PROMETHEUS
    world.restart()
    await begin(world, mode)
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    await world.apply(autoscaling={"mode": "Internal"})
    world.book.withdraw(world.key)  # as if the operator had been started anew meanwhile
    await world.steps(4)
    assert not await world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")
    assert not await world.kube.list(SCALED_OBJECT, "default")
    assert await replicas(world) == 3, "no jump"
    pool = world.book.pools(world.key)[Role.DECODE]
    assert (pool.desired, pool.floor) == (3, 0), "nobody's interference"
    assert not [event for event in await world.events() if event["reason"] == "ReplicasAdopted"]
    world.decide(Role.DECODE, 2, victims=(world.live_pods("decode")[0]["metadata"]["name"],))
    await world.steps(4)
    assert await replicas(world) == 2, "Headrace writes again"


@pytest.mark.parametrize("writes", range(7))
@pytest.mark.parametrize(("before", "after"), [("Internal", "HPA"), ("HPA", "Internal"), ("HPA", "Off")])
async def test_an_operator_killed_in_the_middle_of_a_change_of_mode_neither_jumps_nor_leaves_two(
    world: World, before: str, after: str, writes: int
) -> None:
    await begin(world, before)
    world.decide(Role.DECODE, 3)
    await steps(world, 3)
    await world.apply(autoscaling={"mode": after})
    world.mortal.writes_left = writes
    with suppress(world.killed):
        await steps(world, 2)
    assert await replicas(world) == 3
    world.restart()
    await steps(world, 4)
    assert await replicas(world) == 3
    ours = {hpa["metadata"]["name"] for hpa in await world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")}
    assert ours == ({"chat-prefill", "chat-decode"} if after == "HPA" else set())
    assert world.book.pools(world.key)[Role.DECODE].floor == 0
    versions = world.versions()
    await steps(world, 3)
    assert world.versions() == versions


async def test_replicas_are_not_written_while_our_own_old_actuator_still_exists(world: World) -> None:
    await begin(world, "HPA")
    ref = {"metadata": {"finalizers": ["example.org/slow"]}}
    for role in ("prefill", "decode"):
        await world.kube.merge_patch(HORIZONTAL_POD_AUTOSCALER, "default", f"chat-{role}", ref)
    await world.apply(autoscaling={"mode": "Internal"})
    world.decide(Role.DECODE, 3)
    assert await world.step() == 1.0, "looked at again soon"
    await world.steps(2)
    assert await replicas(world) == 1
    for role in ("prefill", "decode"):
        await world.kube.merge_patch(
            HORIZONTAL_POD_AUTOSCALER, "default", f"chat-{role}", {"metadata": {"finalizers": None}}
        )
    await world.steps(2)
    assert await replicas(world) == 3


async def test_from_internal_to_hpa_the_replicas_stay(world: World) -> None:
    await begin(world, "Internal")
    world.decide(Role.DECODE, 3)
    await world.steps(2)
    await world.apply(autoscaling={"mode": "HPA"})
    await steps(world, 3)
    assert (published(world), await replicas(world)) == (3, 3)


async def test_off_publishes_nothing_that_an_actuator_could_follow_later(world: World) -> None:
    await begin(world, "Internal")
    assert published(world) == 1
    await world.apply(autoscaling={"mode": "Off"})
    await world.steps(2)
    assert published(world) is None


async def test_a_topology_switch_moves_the_actuators(world: World) -> None:
    await begin(world, "HPA")
    await world.apply(topology="Aggregated", prefill=None, decode=None, autoscaling={"mode": "HPA"})
    spec = {"topology": "Aggregated", "prefill": None, "decode": None, "worker": {"replicas": {"min": 1, "max": 2}}}
    await world.kube.merge_patch(INFERENCE_SERVICE, "default", "chat", {"spec": spec})
    await world.steps(6)
    found = await world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")
    assert [hpa["metadata"]["name"] for hpa in found] == ["chat-worker"]
    assert (published(world, "worker"), published(world, "decode")) == (1, None)


# ---- somebody else's


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


# ---- KEDA is optional


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
