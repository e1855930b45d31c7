"""Pods of one engine are one replica: who stands for it, when it is ready, and what is wrong with it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.reconcile.grouping import replicas
from headrace.reconcile.pods import PodView, view

LWS = "leaderworkerset.sigs.k8s.io"


def pod(
    name: str, group: int | None = None, index: int = 0, *, size: int = 2, ready: bool = True, **more: Any
) -> PodView:
    """A decode pod as the API server shows it, of a LeaderWorkerSet where a group is given."""
    labels = {"headrace.dev/role": more.get("role", "decode"), "headrace.dev/state": more.get("state", "serving")}
    if group is not None:
        labels |= {f"{LWS}/name": "chat-decode", f"{LWS}/group-index": str(group), f"{LWS}/worker-index": str(index)}
    meta: dict[str, Any] = {
        "name": name,
        "labels": labels,
        "annotations": {f"{LWS}/size": str(size)} if group is not None else {},
        "creationTimestamp": more.get("created", "2026-01-01T00:00:00Z"),
    }
    if more.get("deleted"):
        meta["deletionTimestamp"] = "2026-01-01T01:00:00Z"
    since = more.get("ready_at", "2026-01-01T00:01:00Z")
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": since}
    status = {"phase": "Running", "podIP": f"ip-{name}", "conditions": [condition]}
    return view({"metadata": meta, "spec": {"nodeName": "n"}, "status": status})


def test_pods_without_a_group_are_replicas_each() -> None:
    alone = [pod("a"), pod("b", ready=False)]
    assert replicas(alone) == alone


def test_a_leader_stands_for_its_workers_whatever_their_order() -> None:
    leader, worker = pod("d-0", 0, 0), pod("d-0-1", 0, 1, ready_at="2026-01-01T00:03:00Z")
    for members in ([leader, worker], [worker, leader]):
        (one,) = replicas(members)
        assert (one.name, one.ip, one.ready) == ("d-0", "ip-d-0", True)
        assert one.ready_at == worker.ready_at, "the last one to be ready decides"


NOT_READY = {
    "a worker is not ready": [pod("d-0", 0, 0), pod("d-0-1", 0, 1, ready=False)],
    "a worker is not there yet": [pod("d-0", 0, 0)],
    "the leader is not there": [pod("d-0-1", 0, 1)],
    "one of three is missing": [pod("d-0", 0, 0, size=3), pod("d-0-2", 0, 2, size=3)],
}


@pytest.mark.parametrize("case", NOT_READY)
def test_a_group_is_ready_only_when_all_of_it_is(case: str) -> None:
    (one,) = replicas(NOT_READY[case])
    assert (one.ready, one.ready_at) == (False, None)


def test_a_replica_without_its_leader_has_no_address_to_ask() -> None:
    (one,) = replicas([pod("d-0-1", 0, 1)])
    assert one.ip == ""


def test_its_start_begins_with_its_first_pod() -> None:
    (one,) = replicas([pod("d-0", 0, 0, created="2026-01-01T00:00:30Z"), pod("d-0-1", 0, 1)])
    assert one.created_at == pod("x").created_at


@pytest.mark.parametrize(("change", "field"), [({"deleted": True}, "terminating"), ({"state": "draining"}, "draining")])
def test_one_pod_that_leaves_takes_the_replica_with_it(change: dict[str, Any], field: str) -> None:
    (one,) = replicas([pod("d-0", 0, 0), pod("d-0-1", 0, 1, **change)])
    assert getattr(one, field)


def test_equal_group_numbers_of_two_roles_are_two_replicas() -> None:
    found = replicas([pod("p-0", 0, 0, role="prefill", size=1), pod("d-0", 0, 0, size=1)])
    assert [one.name for one in found] == ["p-0", "d-0"]


@given(st.lists(st.integers(0, 4), max_size=12), st.integers(0, 4))
def test_there_are_as_many_replicas_as_groups_and_lone_pods(groups: list[int], alone: int) -> None:
    members = [pod(f"g{group}-{i}", group, i) for i, group in enumerate(groups)]
    found = replicas([*members, *(pod(f"alone{i}") for i in range(alone))])
    assert len(found) == len(set(groups)) + alone
    assert len({one.name for one in found}) == len(found)
