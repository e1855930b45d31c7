"""Whatever happens in whatever order, a pool has one writer, and its pods end only idle and by its word."""

import random
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from headrace.api.roles import Role
from headrace.kube.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER

World = Any
MODES = ("Internal", "HPA", "Off", "Advisory")
NOTICED_STEPS = 7  # one second each: for 5 s a look at the namespace's actuators serves, and a pass in flight ends


@dataclass
class Story:
    """Random events on one service, with a HorizontalPodAutoscaler controller that does what the real one would."""

    world: World
    rng: random.Random
    mode: str = "Internal"
    foreign_steps: int | None = None  # for how long somebody else's actuator exists
    told: list[str] = field(default_factory=list)

    async def replicas(self) -> int:
        return int((await self.world.kube.get(DEPLOYMENT, "default", "chat-decode"))["spec"]["replicas"])

    async def actuators(self) -> list[str]:
        listed = await self.world.kube.list(HORIZONTAL_POD_AUTOSCALER, "default")
        return [a["metadata"]["name"] for a in listed if a["spec"]["scaleTargetRef"]["name"] == "chat-decode"]

    async def actuate(self) -> None:
        """Two on one target: the real controller calls them ambiguous and follows neither."""
        found = await self.actuators()
        labels = {"namespace": "default", "service": "chat", "role": "decode"}
        published = self.world.metrics.registry.get_sample_value("headrace_desired_replicas", labels)
        wanted = self.rng.randint(1, 3) if found == ["mine"] else published if found == ["chat-decode"] else None
        if wanted is not None and int(wanted) != await self.replicas():
            patch = {"spec": {"replicas": int(wanted)}}
            await self.world.kube.merge_patch(DEPLOYMENT, "default", "chat-decode", patch)

    async def event(self) -> None:
        name = self.rng.choice(("mode", "foreign", "decide", "decide", "restart", "kill", "load", "nothing", "nothing"))
        self.told.append(name)
        await getattr(self, f"_{name}")()

    async def _nothing(self) -> None:
        """Time passes."""

    async def _mode(self) -> None:
        self.mode = self.rng.choice(MODES)
        await self.world.apply(autoscaling={"mode": self.mode})

    async def _foreign(self) -> None:
        if self.foreign_steps is not None:
            await self.world.kube.delete(HORIZONTAL_POD_AUTOSCALER, "default", "mine")
            self.foreign_steps = None
            return
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "chat-decode"}
        await self.world.kube.apply(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "mine", "namespace": "default"},
                "spec": {"scaleTargetRef": target, "maxReplicas": 3},
            },
            "kubectl",
        )
        self.foreign_steps = 0

    async def _decide(self) -> None:
        pods = [p["metadata"]["name"] for p in self.world.live_pods("decode")]
        count = self.rng.randint(1, 3)
        self.world.decide(Role.DECODE, count, victims=tuple(pods[count:]))

    async def _restart(self) -> None:
        self.world.restart()

    async def _kill(self) -> None:
        self.world.mortal.writes_left = self.rng.randint(0, 4)
        with suppress(self.world.killed):
            await self.world.step()
        self.world.restart()

    async def _load(self) -> None:
        running = self.rng.choice((0, 0, 1))
        self.world.engines.load = replace(self.world.engines.load, running_requests=running)

    async def step(self) -> None:
        """One pass, and what it must not have written."""
        before, seen = await self.actuators(), len(self.world.server.writes)
        old = await self.replicas()
        await self.world.step()
        written = [w for w in self.world.server.writes[seen:] if w[2] == "headrace-autoscaler" and "decode" in w[1]]
        noticed = self.foreign_steps is not None and self.foreign_steps >= NOTICED_STEPS
        if "chat-decode" in before or noticed:
            assert written == [], f"{self.told}: {before} sizes the pool already"
            assert await self.replicas() == old
        if self.foreign_steps is not None:
            self.foreign_steps += 1
        await self.actuate()


@pytest.mark.parametrize("seed", range(6))
async def test_a_pool_has_one_writer_whatever_happens(world: World, seed: int) -> None:
    story = Story(world, random.Random(seed))  # noqa: S311  a story, no secret
    await world.apply(autoscaling={"mode": "Internal"})
    await world.steps(3)
    for _ in range(6):
        await story.event()
        for _ in range(story.rng.randint(1, 3)):
            await story.step()
    # Whatever was, it ends as if it had never been.
    if story.foreign_steps is not None:
        await story._foreign()
    await world.apply(autoscaling={"mode": "Internal"})
    world.engines.load = replace(world.engines.load, running_requests=0)
    for _ in range(NOTICED_STEPS + 3):
        await story.step()
    world.clock.at += 120  # beyond a floor that an earlier stranger's number may have set
    for _ in range(4):
        pods = [p["metadata"]["name"] for p in world.live_pods("decode")]
        world.decide(Role.DECODE, 2, victims=tuple(pods[2:]))
        await story.step()
        await story.step()
    assert await story.actuators() == []
    assert await story.replicas() == 2
    serving = [p for p in world.live_pods("decode") if p["metadata"]["labels"]["headrace.dev/state"] == "serving"]
    assert len(serving) == 2
    assert (await world.condition("ScalingActive"))["reason"] == "Active"
