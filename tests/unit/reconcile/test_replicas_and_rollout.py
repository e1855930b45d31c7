"""Whose replicas they are, and when old pools may go."""

from typing import Any

import pytest

from headrace.reconcile.diff import Prune, Ref
from headrace.reconcile.health import PoolFacts
from headrace.reconcile.pods import view
from headrace.reconcile.replicas import Bounds, Scale, adopt, read_scale, release_patch, scale_manifest
from headrace.reconcile.rollout import prune_hold, rolling

NOW = 1_800_000_000.0
BOUNDS = Bounds(1, 8)


def deployment(count: int, owned: bool = True, **notes: str) -> dict[str, Any]:
    annotations = {f"headrace.dev/{key.replace('_', '-')}": value for key, value in notes.items()}
    entry = {"manager": "headrace-autoscaler", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "chat-decode", "namespace": "d", "annotations": annotations,
                     "managedFields": [entry] if owned else []},
        "spec": {"replicas": count},
    }  # fmt: skip


@pytest.mark.parametrize(("live", "floor"), [(4, 4), (99, 8), (0, 1)])
def test_somebodys_number_becomes_a_floor_within_the_bounds(live: int, floor: int) -> None:
    scale = adopt(read_scale(deployment(live, replicas="2")), BOUNDS, NOW, 60)
    assert (scale.active_floor(NOW), scale.active_floor(NOW + 61)) == (floor, 0)


def test_our_own_number_is_nobody_elses() -> None:
    scale = read_scale(deployment(2, replicas="2"))
    assert adopt(scale, BOUNDS, NOW, 60) is scale


def test_a_deployment_that_was_never_scaled_by_us_is_no_foreign_write() -> None:
    assert not read_scale(deployment(3, owned=False)).foreign()


def test_nothing_is_applied_where_everything_is_as_wanted() -> None:
    live = deployment(2, replicas="2")
    assert scale_manifest(live, 2, read_scale(live), NOW) is None


@pytest.mark.parametrize(
    ("live", "replicas"),
    [
        (deployment(2, replicas="2"), 3),
        (deployment(2, owned=False, replicas="2"), 2),
        (deployment(2), 2),
        (deployment(2, replicas="2", replicas_floor="2", replicas_floor_until="2020-01-01T00:00:00Z"), 2),
    ],
)
def test_a_difference_an_owner_lost_or_an_old_floor_is_applied(live: dict[str, Any], replicas: int) -> None:
    made = scale_manifest(live, replicas, read_scale(live), NOW)
    assert made is not None
    assert made["spec"] == {"replicas": replicas}
    assert made["metadata"]["annotations"] == {"headrace.dev/replicas": str(replicas)}


def test_our_word_on_the_replicas_ends_with_the_annotations_and_the_number_stays() -> None:
    live = deployment(2, replicas="2", replicas_floor="2", replicas_floor_until="2020-01-01T00:00:00Z")
    live["metadata"]["annotations"]["example.org/theirs"] = "kept"
    names = ("headrace.dev/replicas", "headrace.dev/replicas-floor", "headrace.dev/replicas-floor-until")
    assert release_patch(live) == {"metadata": {"annotations": dict.fromkeys(names)}}
    assert release_patch(deployment(2)) is None


def test_malformed_annotations_count_as_absent() -> None:
    assert read_scale(deployment(2, replicas="many", replicas_floor="-1", replicas_floor_until="soon")) == Scale(
        2, None, 0, 0.0, True
    )


def pool(ready: bool, **status: Any) -> PoolFacts:
    condition = {"type": "Ready", "status": str(ready)}
    pod = view({"metadata": {"name": "p"}, "status": {"phase": "Running", "conditions": [condition], **status}})
    return PoolFacts("prefill", 1, 1, (pod,))


OLD = [Prune(Ref("apps/v1", "Deployment", "chat-worker"), "u")]


def test_old_pools_serve_until_the_new_ones_do() -> None:
    assert "until prefill are ready" in prune_hold(OLD, [pool(ready=False)], old_ready=1)
    assert prune_hold(OLD, [pool(ready=True)], old_ready=1) == ""


def test_old_pools_that_do_not_serve_go_at_once() -> None:
    assert prune_hold(OLD, [pool(ready=False)], old_ready=0) == ""


def test_old_pools_go_when_the_new_pods_wait_for_their_accelerators() -> None:
    waiting = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no gpu"}
    assert prune_hold(OLD, [pool(ready=False, conditions=[waiting])], old_ready=1) == ""


def test_other_children_are_not_held() -> None:
    service = [Prune(Ref("v1", "Service", "chat-worker"), "u")]
    assert prune_hold(service, [pool(ready=False)], old_ready=1) == ""


@pytest.mark.parametrize(
    ("status", "generation", "expected"),
    [
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3}, 2, False),
        ({"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3}, 2, True),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2}, 2, True),
        ({}, 1, True),
    ],
)
def test_a_rollout_goes_on_until_all_pods_are_of_the_newest_template(
    status: dict[str, int], generation: int, expected: bool
) -> None:
    assert rolling({"metadata": {"generation": generation}, "status": status}) is expected
