"""The status composer: what is said of which facts, and that nothing new means the very same object."""

from dataclasses import replace
from typing import Any

import pytest

from headrace.api.conditions import ConditionType, find_condition
from headrace.api.roles import Role
from headrace.api.status import InferenceServiceStatus
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.decision import (
    Constraint,
    Decision,
    Need,
    Reason,
    RoleDecision,
    RoleTarget,
    SignalHealth,
    Veto,
)
from headrace.reconcile.health import PoolFacts
from headrace.reconcile.pods import PodView, view
from headrace.reconcile.status import Facts, Stall, compose, refuse
from headrace.reconcile.transitions import news

NOW = 1_800_000_000.0
SERVICE = InferenceService.parse(
    {
        "apiVersion": "headrace.dev/v1alpha1",
        "kind": "InferenceService",
        "metadata": {"name": "chat", "namespace": "default", "generation": 3},
        "spec": {"model": {"source": "hf://Qwen/Qwen3-8B"}, "accelerator": "nvidia-h100"},
    }
)


def a_pod(name: str = "w1", ready: bool = True, **status: Any) -> PodView:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return view({"metadata": {"name": name}, "status": {"phase": "Running", "conditions": [condition], **status}})


def decided(replicas: int = 1, at: float = NOW, **changes: Any) -> Decision:
    part = RoleDecision(
        target=RoleTarget(Role.WORKER, replicas), serving=1, starting=0, draining=0,
        needs=(Need(Constraint.DECODE_KV, 0.123456, "detail"),), binding=Constraint.DECODE_KV, reason=Reason.STEADY,
        message="steady",
    )  # fmt: skip
    health = SignalHealth(True, "Fresh", "1 of 1 fresh", 1, 0, 0)
    return Decision("default/chat", at, {Role.WORKER: replace(part, **changes)}, health, {"kv_tokens": at})


def facts(pods: tuple[PodView, ...] = (a_pod(),), **changes: Any) -> Facts:
    gateway = PoolFacts("gateway", 1, 1, (a_pod("g1"),))
    pool = PoolFacts("worker", 1, 1, pods)
    return replace(Facts(SERVICE, {Role.WORKER: pool}, gateway, "http://chat.default.svc", decided()), **changes)


def told(status: InferenceServiceStatus, kind: ConditionType) -> tuple[str, str, str]:
    found = find_condition(status.conditions, kind)
    assert found is not None
    return found.status.value, found.reason, found.message


EMPTY = InferenceServiceStatus()


def first(some: Facts | None = None) -> InferenceServiceStatus:
    return compose(some or facts(), EMPTY, NOW, capacity_due=True)


def test_a_serving_service_is_ready_and_settled() -> None:
    status = first()
    assert told(status, ConditionType.READY)[:2] == ("True", "Available")
    assert told(status, ConditionType.RECONCILING)[0] == "False"
    assert told(status, ConditionType.STALLED)[0] == "False"
    assert status.observed_generation == 3
    assert status.worker is not None
    assert status.worker.summary == "1/1"


def test_time_and_figures_alone_change_nothing() -> None:
    before = first()
    later = facts(decision=decided(at=NOW + 500, needs=(), message="other words"))
    assert compose(later, before, NOW + 500, capacity_due=True) is before


def test_the_status_survives_the_api_server_unchanged() -> None:
    before = InferenceServiceStatus.parse({"status": first().to_wire()})
    assert compose(facts(), before, NOW + 5, capacity_due=True) is before


@pytest.mark.parametrize(
    "change",
    [
        {"decision": decided(replicas=2)},
        {"decision": decided(binding=Constraint.DECODE_STEP)},
        {"decision": decided(reason=Reason.HELD)},
        {"decision": decided(vetoes=(Veto("restart_hold", "x"),))},
        {"decision": replace(decided(), health=SignalHealth(False, "Stale", "x", 0, 1, 0))},
        {"pools": {Role.WORKER: PoolFacts("worker", 1, 2, (a_pod(), a_pod("w2", ready=False)))}},
        {"service": replace(SERVICE, generation=4)},
        {"stall": Stall("APIRejected", "no")},
    ],
)
def test_what_is_news_is_written(change: dict[str, Any]) -> None:
    before = first()
    assert compose(replace(facts(), **change), before, NOW + 5, capacity_due=False) is not before


def test_capacity_is_rounded_and_written_only_when_due() -> None:
    before = first(facts(capacity={"worker": {"kvTokens": {"predicted": 1284.4, "measured": None}}}))
    assert before.capacity is not None
    assert before.capacity["worker"]["kvTokens"].predicted == 1300
    same = facts(capacity={"worker": {"kvTokens": {"predicted": 1304.0, "measured": None}}})
    assert compose(same, before, NOW + 90, capacity_due=True) is before
    other = facts(capacity={"worker": {"kvTokens": {"predicted": 2000.0, "measured": None}}})
    assert compose(other, before, NOW + 5, capacity_due=False) is before
    assert compose(other, before, NOW + 90, capacity_due=True) is not before


def test_transition_times_move_only_when_the_status_flips() -> None:
    before = first()
    broken = facts(pods=(a_pod(ready=False),))
    after = compose(broken, before, NOW + 60, capacity_due=False)
    ready, limited = (find_condition(after.conditions, t) for t in (ConditionType.READY, ConditionType.SCALING_LIMITED))
    assert ready is not None
    assert limited is not None
    assert ready.last_transition_time == "2027-01-15T08:01:00Z"
    assert limited.last_transition_time == "2027-01-15T08:00:00Z"


def test_changes_of_target_are_kept_newest_first_and_bounded() -> None:
    status = first()
    for number in range(2, 15):
        status = compose(facts(decision=decided(replicas=number)), status, NOW + number, capacity_due=False)
    assert [change.to_replicas for change in status.recent_decisions] == list(range(14, 4, -1))


def test_a_restart_keeps_the_last_decision_as_history() -> None:
    before = first()
    after = compose(facts(decision=None), before, NOW + 5, capacity_due=False)
    assert after.decision == before.decision
    assert told(after, ConditionType.SCALING_ACTIVE)[0] == "Unknown"


def test_a_refused_spec_keeps_what_was_known_of_the_pods() -> None:
    before = first()
    after = refuse(before, Stall("InvalidSpec", "spec.x: wrong; mend it"), 4, NOW + 5)
    assert told(after, ConditionType.READY)[:2] == ("False", "InvalidSpec")
    assert told(after, ConditionType.STALLED)[:2] == ("True", "InvalidSpec")
    assert told(after, ConditionType.WORKER_READY)[0] == "True"
    assert after.observed_generation == 4
    assert refuse(after, Stall("InvalidSpec", "spec.x: wrong; mend it"), 4, NOW + 50) is after


@pytest.mark.parametrize(
    ("status", "reason", "words"),
    [
        (
            {"containerStatuses": [{"name": "engine", "image": "x:1", "state": {"waiting": {
                "reason": "ImagePullBackOff", "message": "Back-off pulling image x:1"}}}]},
            "ImagePullFailed", "can't pull image x:1",
        ),
        (
            {"containerStatuses": [{"name": "engine", "state": {"waiting": {
                "reason": "CreateContainerConfigError", "message": 'configmap "chat-worker-engine" not found'}}}]},
            "ConfigMissing", 'configmap "chat-worker-engine" not found',
        ),
        (
            {"containerStatuses": [{"name": "engine", "restartCount": 0, "state": {"terminated": {
                "exitCode": 137, "reason": "OOMKilled"}}}]},
            "EngineCrashed", "exited with code 137: OOMKilled",
        ),
        (
            {"containerStatuses": [{"name": "engine", "restartCount": 4, "state": {"running": {}},
                                    "lastState": {"terminated": {"exitCode": 1, "message": "a\nno config.json\n"}}}]},
            "EngineCrashLoop", "container engine of pod w1 exited with code 1: no config.json",
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                             "message": "0/3 nodes: insufficient nvidia.com/gpu"}]},
            "Unschedulable", "insufficient nvidia.com/gpu",
        ),
    ],
)  # fmt: skip
def test_a_pods_trouble_is_said_in_its_own_words(status: dict[str, Any], reason: str, words: str) -> None:
    found = told(first(facts(pods=(a_pod(ready=False, **status),))), ConditionType.WORKER_READY)
    assert found[:2] == ("False", reason)
    assert words in found[2]


def test_a_pod_that_only_starts_is_no_trouble_and_no_news() -> None:
    status = first(facts(pods=(a_pod(ready=False, containerStatuses=[{"name": "engine", "state": {"running": {}}}]),)))
    assert told(status, ConditionType.WORKER_READY)[1] == "Starting"
    assert news(EMPTY, status) == []


def test_becoming_ready_and_failing_are_news_once() -> None:
    starting = first(facts(pods=(a_pod(ready=False),)))
    ready = compose(facts(), starting, NOW + 5, capacity_due=False)
    assert {item.reason for item in news(starting, ready)} == {"Available"}
    crash: dict[str, Any] = {
        "containerStatuses": [{"name": "engine", "restartCount": 3, "state": {"terminated": {"exitCode": 2}}}]
    }
    broken = compose(facts(pods=(a_pod(ready=False, **crash),)), ready, NOW + 9, capacity_due=False)
    assert {(item.reason, item.warning) for item in news(ready, broken)} == {("EngineCrashLoop", True)}
    assert news(broken, broken) == []
