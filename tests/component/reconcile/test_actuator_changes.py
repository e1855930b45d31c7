"""Another mode or topology: the replicas stay, and at no time do two write them."""

from contextlib import suppress
from typing import Any

import pytest
from headrace_fakes.actuators import PROMETHEUS, begin, published, replicas, steps

from headrace.api.roles import Role
from headrace.kube.kinds import HORIZONTAL_POD_AUTOSCALER, INFERENCE_SERVICE, SCALED_OBJECT

World = Any


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
