"""autoscaling.mode on an API server: who decides, who is told, and what is written."""

from typing import Any

from headrace.api.roles import Role
from headrace.kube.kinds import DEPLOYMENT

Operator = Any
QUEUE = 50_000_000  # prompt tokens: far more than the pool can work off in time


async def ready(operator: Operator, mode: str) -> None:
    await operator.apply(autoscaling={"mode": mode})
    await operator.run(4)
    assert await operator.replicas() == 1


async def condition(operator: Operator, kind: str) -> dict[str, str]:
    return next(c for c in (await operator.status())["conditions"] if c["type"] == kind)


async def kubectl_scale(operator: Operator, count: int) -> None:
    await operator.kube.merge_patch(DEPLOYMENT, "default", "chat-prefill", {"spec": {"replicas": count}})


async def test_internal_decides_shows_and_scales(operator: Operator) -> None:
    await ready(operator, "Internal")
    operator.engines.queued_tokens = QUEUE
    await operator.run(4)
    assert await operator.replicas() > 1
    assert (await operator.status())["decision"]["prefill"]["target"] == await operator.replicas()
    assert (await condition(operator, "ScalingActive"))["status"] == "True"


async def test_hpa_decides_and_publishes_what_its_horizontal_pod_autoscaler_shall_write(operator: Operator) -> None:
    await ready(operator, "HPA")
    before = [write for write in operator.server.writes if write[2] == "headrace-autoscaler"]
    operator.engines.queued_tokens = QUEUE
    await operator.run(4)
    wanted = (await operator.status())["decision"]["prefill"]["target"]
    assert wanted > 1
    assert operator.metrics.desired_replicas.labels("default", "chat", "prefill")._value.get() == wanted
    assert await operator.replicas() == 1
    await kubectl_scale(operator, wanted)  # as the actuator does
    await operator.run(2)
    assert await operator.replicas() == wanted
    assert [write for write in operator.server.writes if write[2] == "headrace-autoscaler"] == before
    assert (await condition(operator, "ScalingActive"))["reason"] == "Delegated"


async def test_advisory_decides_and_shows_and_writes_nothing_to_the_pools(operator: Operator) -> None:
    await ready(operator, "Advisory")
    before = operator.writes_to("deployments", "pods")
    operator.engines.queued_tokens = QUEUE
    await operator.run(6)
    wanted = (await operator.status())["decision"]["prefill"]
    assert wanted["target"] > 1
    assert wanted["needs"]
    assert operator.metrics.desired_replicas.labels("default", "chat", "prefill")._value.get() == wanted["target"]
    assert operator.writes_to("deployments", "pods") == before
    assert await operator.replicas() == 1
    found = await condition(operator, "ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "Advisory")


async def test_advisory_drains_nothing_when_less_would_do(operator: Operator) -> None:
    await ready(operator, "Advisory")
    await kubectl_scale(operator, 3)
    before = operator.writes_to("deployments", "pods")
    await operator.run(40)
    part = operator.book.decision(operator.key).roles[Role.PREFILL]
    assert part.target.replicas < 3
    assert part.target.victims, "it says who would go"
    assert operator.writes_to("deployments", "pods") == before
    assert await operator.replicas() == 3


async def test_advice_is_followed_once_the_mode_is_internal(operator: Operator) -> None:
    await ready(operator, "Advisory")
    operator.engines.queued_tokens = QUEUE
    await operator.run(4)
    wanted = operator.book.decision(operator.key).roles[Role.PREFILL].target.replicas
    assert await operator.replicas() == 1
    await operator.apply(autoscaling={"mode": "Internal"})
    await operator.reconciler.reconcile(operator.key)
    assert await operator.replicas() == wanted > 1


async def test_off_reads_no_engine_decides_nothing_and_leaves_replicas_to_others(operator: Operator) -> None:
    await ready(operator, "Off")
    operator.engines.queued_tokens = QUEUE
    await kubectl_scale(operator, 3)
    before = operator.writes_to("deployments", "pods")
    await operator.run(10)
    assert operator.engines.asked == []
    assert operator.book.decision(operator.key) is None
    assert "decision" not in await operator.status()
    assert await operator.replicas() == 3
    assert operator.writes_to("deployments", "pods") == before
    found = await condition(operator, "ScalingActive")
    assert (found["status"], found["reason"]) == ("False", "ModeOff")


async def test_turning_it_off_withdraws_the_decision_and_keeps_the_replicas(operator: Operator) -> None:
    await ready(operator, "Internal")
    operator.engines.queued_tokens = QUEUE
    await operator.run(4)
    held = await operator.replicas()
    await operator.apply(autoscaling={"mode": "Off"})
    operator.engines.queued_tokens = 0
    await operator.run(40)
    assert operator.book.decision(operator.key) is None
    assert await operator.replicas() == held > 1


async def test_turning_it_on_again_takes_nothing_away_before_there_is_history(operator: Operator) -> None:
    await ready(operator, "Internal")
    operator.engines.queued_tokens = QUEUE
    await operator.run(4)
    held = await operator.replicas()
    await operator.apply(autoscaling={"mode": "Off"})
    operator.engines.queued_tokens = 0
    await operator.run(1)
    operator.clock.at += 3600.0
    await operator.apply(autoscaling={"mode": "Internal"})
    await operator.run(2)
    part = operator.book.decision(operator.key).roles[Role.PREFILL]
    assert part.target.replicas == held > 1
    assert "RestartHold" in {veto.guard for veto in part.vetoes}
