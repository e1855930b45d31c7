"""Replicas: carried out from decisions, adopted from others, lowered only after a drain that survives restarts."""

from dataclasses import replace
from typing import Any

from headrace.api.roles import Role
from headrace.kube.kinds import DEPLOYMENT, INFERENCE_SERVICE, POD

World = Any


async def replicas(world: World, role: str = "decode") -> int:
    return int((await world.kube.get(DEPLOYMENT, "default", f"chat-{role}"))["spec"]["replicas"])


async def kubectl_scale(world: World, count: int, role: str = "decode") -> None:
    await world.kube.merge_patch(DEPLOYMENT, "default", f"chat-{role}", {"spec": {"replicas": count}})


async def two_decode_pods(world: World) -> list[str]:
    """A service that was scaled up: the names of its decode pods."""
    await world.apply()
    await world.steps(3)
    world.decide(Role.PREFILL, 1)
    world.decide(Role.DECODE, 2)
    await world.steps(2)
    assert await replicas(world) == 2
    return [pod["metadata"]["name"] for pod in world.live_pods("decode")]


def labels_of(world: World, name: str) -> dict[str, str]:
    return dict(world.server.store.get(("pods", "default", name))["metadata"]["labels"])


async def test_a_decision_to_grow_is_carried_out_by_the_scale_manager(world: World) -> None:
    await two_decode_pods(world)
    assert len(world.live_pods("decode")) == 2
    assert await replicas(world, "prefill") == 1
    assert (await world.service())["status"]["decode"]["summary"] == "2/2"


async def test_scaling_down_drains_the_victim_and_then_ends_exactly_it(world: World) -> None:
    stays, victim = await two_decode_pods(world)
    world.decide(Role.DECODE, 1, victims=(victim,))
    assert await world.step() == 1.0, "a drain is looked at again within a second"
    assert labels_of(world, victim)["headrace.dev/state"] == "draining"
    assert await replicas(world) == 2
    status = (await world.service())["status"]["decode"]
    assert (status["desired"], status["draining"]) == (1, 1)
    await world.steps(3)
    assert await replicas(world) == 1
    assert [pod["metadata"]["name"] for pod in world.live_pods("decode")] == [stays]
    assert await world.step() is None


async def test_a_victim_with_work_or_still_listed_is_kept(world: World) -> None:
    _, victim = await two_decode_pods(world)
    world.decide(Role.DECODE, 1, victims=(victim,))
    world.engines.listed = frozenset({"127.0.0.1"})
    await world.steps(4)
    assert await replicas(world) == 2, "the gateway may still send to it"
    world.engines.listed, world.engines.load = frozenset(), replace(world.engines.load, running_requests=1)
    await world.steps(4)
    assert await replicas(world) == 2, "it has work"
    world.engines.load = None
    await world.steps(4)
    assert await replicas(world) == 2, "missing is not idle"
    world.engines.listed = None
    await world.steps(4)
    assert await replicas(world) == 2, "a gateway that can't be asked may still send"


async def test_an_operator_restarted_in_the_middle_of_a_drain_goes_on_with_it(world: World) -> None:
    _, victim = await two_decode_pods(world)
    world.decide(Role.DECODE, 1, victims=(victim,))
    busy = replace(world.engines.load, running_requests=1)
    idle, world.engines.load = world.engines.load, busy
    await world.steps(2)
    world.restart()
    await world.steps(2)
    assert labels_of(world, victim)["headrace.dev/state"] == "draining"
    assert await replicas(world) == 2
    world.engines.load = idle
    await world.steps(3)
    assert await replicas(world) == 1


async def test_a_victim_needed_again_serves_again(world: World) -> None:
    _, victim = await two_decode_pods(world)
    world.decide(Role.DECODE, 1, victims=(victim,))
    world.engines.load = replace(world.engines.load, running_requests=1)
    await world.steps(2)
    world.decide(Role.DECODE, 2, back=(victim,))
    await world.steps(2)
    metadata = world.server.store.get(("pods", "default", victim))["metadata"]
    assert metadata["labels"]["headrace.dev/state"] == "serving"
    assert "headrace.dev/draining-since" not in metadata.get("annotations", {})
    assert await replicas(world) == 2


async def test_a_pod_that_vanishes_in_the_middle_of_a_drain_is_no_loss_of_count(world: World) -> None:
    _, victim = await two_decode_pods(world)
    world.decide(Role.DECODE, 1, victims=(victim,))
    world.engines.load = replace(world.engines.load, running_requests=1)
    await world.steps(2)
    await world.kube.delete(POD, "default", victim)
    await world.step()
    newcomer = next(p["metadata"]["name"] for p in world.live_pods("decode") if p["metadata"]["name"] != victim)
    assert newcomer
    assert await replicas(world) == 2
    assert len(world.live_pods("decode")) == 2


async def test_somebodys_scaling_up_is_a_floor_for_one_window(world: World) -> None:
    await two_decode_pods(world)
    await kubectl_scale(world, 9)
    await world.step()
    surplus = tuple(pod["metadata"]["name"] for pod in world.live_pods("decode"))[3:]
    world.decide(Role.DECODE, 2, victims=surplus)
    await world.steps(4)
    assert await replicas(world) == 3, "clamped to max, and not below it while the floor holds"
    pool = world.book.pools(world.key)[Role.DECODE]
    assert (pool.desired, pool.floor) == (3, 3)
    await world.steps(3)
    adopted = [event for event in await world.events() if event["reason"] == "ReplicasAdopted"]
    assert len(adopted) == 1
    assert "set to 9 by somebody else" in adopted[0]["note"]
    world.restart()
    await world.steps(2)
    assert world.book.pools(world.key)[Role.DECODE].floor == 3, "remembered on the object"
    world.clock.at += 120
    await world.steps(2)
    assert world.book.pools(world.key)[Role.DECODE].floor == 0


async def test_somebodys_replicas_within_bounds_are_kept_as_they_are(world: World) -> None:
    await world.apply()
    await world.steps(3)
    await kubectl_scale(world, 3)
    await world.steps(3)
    assert await replicas(world) == 3
    before = world.versions()
    await world.steps(2)
    assert world.versions() == before


async def test_scaling_to_zero_by_hand_is_raised_to_min(world: World) -> None:
    await world.apply()
    await world.steps(3)
    await kubectl_scale(world, 0)
    await world.steps(3)
    assert await replicas(world) == 1


async def test_advisory_mode_writes_no_replicas(world: World) -> None:
    await world.apply(autoscaling={"mode": "Advisory"})
    await world.steps(3)
    world.decide(Role.DECODE, 3)
    await world.steps(2)
    assert await replicas(world) == 1
    status = (await world.service())["status"]
    assert status["decision"]["decode"]["target"] == 3
    assert (await world.condition("ScalingActive"))["reason"] == "Advisory"


async def test_paused_holds_scaling_and_says_so(world: World) -> None:
    manifest = await world.apply()
    await world.steps(3)
    note = {"metadata": {"annotations": {"headrace.dev/paused": "true"}}}
    await world.kube.merge_patch(INFERENCE_SERVICE, "default", manifest["metadata"]["name"], note)
    world.decide(Role.DECODE, 3)
    await world.steps(2)
    assert await replicas(world) == 1
    assert (await world.condition("ScalingActive"))["reason"] == "Paused"


async def test_a_rising_tick_alone_writes_no_status(world: World) -> None:
    await two_decode_pods(world)
    await world.steps(2)
    before = world.versions()
    for _ in range(5):
        world.decide(Role.PREFILL, 1)
        world.decide(Role.DECODE, 2)
        await world.step()
    assert world.versions() == before


async def test_target_changes_are_listed_and_told(world: World) -> None:
    await two_decode_pods(world)
    world.decide(Role.DECODE, 3)
    await world.steps(2)
    recent = (await world.service())["status"]["recentDecisions"]
    assert [(r["role"], r["fromReplicas"], r["toReplicas"]) for r in recent] == [("decode", 2, 3)]
    assert any("decode 2 -> 3" in event["note"] for event in await world.events())
