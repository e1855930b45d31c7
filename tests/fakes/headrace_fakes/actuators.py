"""What HorizontalPodAutoscalers and ScaledObjects do with the published numbers; how tests look at it and begin."""

from typing import Any

from headrace.api.roles import Role
from headrace.kube.kinds import DEPLOYMENT, HORIZONTAL_POD_AUTOSCALER, SCALED_OBJECT
from headrace.settings import Settings

World = Any  # of the reconcile tests: a Reconciler on the fake API server
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
