"""The two-phase drain: what each pass writes, and that no sequence of passes ever ends a pod with work."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.api.roles import Role
from headrace.autoscaler.decision import RoleTarget
from headrace.autoscaler.signals import EngineLoad, EngineState
from headrace.reconcile.drain import (
    DRAINING_COST,
    LEAVING_COST,
    Pool,
    Step,
    Witness,
    deletion_order,
    idle,
    step,
    with_streams,
)
from headrace.reconcile.pods import PodView
from headrace.reconcile.replicas import Bounds

NOW, DEADLINE_S = 10_000.0, 600.0
IDLE = EngineLoad(0, 0, 0, 1000, 8)
BUSY = replace(IDLE, running_requests=2)
GONE = Witness(released=True, load=IDLE)


def pod(name: str, **changes: object) -> PodView:
    view = PodView(
        name=name, uid=name, role="decode", created_at=0.0, ready=True, ready_at=1.0, phase="Running", scheduled=True,
        terminating=False, draining=False, draining_since=None, deletion_cost=0, revision="r", template_hash="h",
        ip="10.0.0.1", never_served=False, engine_down=False, trouble=None,
    )  # fmt: skip
    return replace(view, **changes)  # type: ignore[arg-type]


def drained(name: str, cost: int = DRAINING_COST, since: float = NOW - 60) -> PodView:
    return pod(name, draining=True, draining_since=since, deletion_cost=cost)


def target(replicas: int, victims: tuple[str, ...] = (), back: tuple[str, ...] = ()) -> RoleTarget:
    return RoleTarget(Role.DECODE, replicas, victims, back)


def run(
    pods: list[PodView],
    wanted: RoleTarget | None,
    witnesses: dict[str, Witness] | None = None,
    pool: Pool | None = None,
    **options: object,
) -> Step:
    alive = [p for p in pods if not p.terminating]
    pool = pool or Pool(len(alive), len(alive), True, Bounds(1, 8))
    return step(pool, pods, wanted, witnesses or {}, now=NOW, deadline_s=DEADLINE_S, **options)  # type: ignore[arg-type]


def test_a_victim_is_first_taken_out_and_replicas_stay() -> None:
    assert run([pod("a"), pod("b")], target(1, ("b",))) == Step(replicas=2, drain=("b",))


def test_an_idle_victim_is_marked_before_replicas_are_lowered() -> None:
    assert run([pod("a"), drained("b")], target(1, ("b",)), {"b": GONE}) == Step(replicas=2, costs={"b": LEAVING_COST})


def test_replicas_are_lowered_when_the_marked_victim_is_still_idle() -> None:
    assert run([pod("a"), drained("b", LEAVING_COST)], target(1, ("b",)), {"b": GONE}) == Step(replicas=1)


@pytest.mark.parametrize(
    ("witness", "why"),
    [
        (Witness(True, BUSY), "it has running requests"),
        (Witness(False, IDLE), "a gateway may still send to it"),
        (Witness(True, None), "a missing sample is not idle"),
        (Witness(True, replace(IDLE, prefill_inflight_requests=1)), "its KV is not pulled yet"),
        (Witness(True, replace(IDLE, decode_transfer_requests=1)), "KV is on its way to it"),
        (Witness(True, replace(IDLE, decode_prealloc_requests=1)), "a request waits for memory"),
        (Witness(True, replace(IDLE, prefill_bootstrap_requests=1)), "a handshake goes on"),
        (Witness(True, replace(IDLE, waiting_requests=1)), "a request waits"),
    ],
)
def test_a_victim_with_work_or_doubt_stays(witness: Witness, why: str) -> None:
    assert run([pod("a"), drained("b")], target(1, ("b",)), {"b": witness}).replicas == 2, why
    marked = run([pod("a"), drained("b", LEAVING_COST)], target(1, ("b",)), {"b": witness})
    assert marked == Step(replicas=2, costs={"b": DRAINING_COST}), f"the mark is taken back: {why}"


def test_a_victim_needed_again_is_taken_back_before_a_pod_is_started() -> None:
    assert run([pod("a"), drained("b")], target(2)) == Step(replicas=2, reactivate=("b",))
    both = run([pod("a"), drained("b"), drained("c", since=NOW - 5)], target(4))
    assert both == Step(replicas=4, reactivate=("c", "b"))


def test_the_plans_choice_is_taken_back_first() -> None:
    step_ = run([pod("a"), drained("b"), drained("c", since=NOW - 5)], target(2, back=("b",)))
    assert step_.reactivate == ("b",)


def test_an_unready_victim_cannot_be_taken_back_so_a_pod_starts() -> None:
    broken = replace(drained("b"), ready=False)
    assert run([pod("a"), broken], target(2)).replicas == 3


def test_a_stale_decision_takes_no_more_than_todays_excess() -> None:
    pods = [pod("a"), pod("b"), drained("c")]
    assert run(pods, target(2, ("a", "b"))).drain == ()
    assert run([pod("a"), pod("b")], target(1, ("a", "b"))).drain == ("a",)


def test_replicas_are_not_lowered_while_a_staying_pod_is_not_ready() -> None:
    starting = pod("a", ready=False)
    held = run([starting, pod("x"), drained("b", LEAVING_COST)], target(2, ("b",)), {"b": GONE})
    assert held.replicas == 3
    assert "not Ready" in held.hold


def test_replicas_are_not_lowered_during_a_rollout_or_on_an_old_view() -> None:
    pods = [pod("a"), drained("b", LEAVING_COST)]
    mixed = [pod("a", template_hash="new"), pods[1]]
    assert run(mixed, target(1), {"b": GONE}).hold == "a rollout is going on"
    unsettled = Pool(2, 2, False, Bounds(1, 8))
    assert run(pods, target(1), {"b": GONE}, unsettled).replicas == 2
    blind = Pool(3, 3, True, Bounds(1, 8))
    assert run(pods, target(1), {"b": GONE}, blind).replicas == 3, "a pod exists that we do not see"


def test_only_the_idle_one_of_two_draining_pods_goes() -> None:
    pods = [pod("a"), drained("b", LEAVING_COST), drained("c")]
    witnesses = {"b": GONE, "c": Witness(True, BUSY)}
    assert run(pods, target(1), witnesses).replicas == 2


def test_replicas_never_go_below_min() -> None:
    pods = [drained("a", LEAVING_COST)]
    assert run(pods, target(0), {"a": GONE}) == Step(replicas=1, reactivate=("a",))


def test_raising_counts_the_draining_pods_on_top() -> None:
    broken = [replace(drained("b"), ready=False)]
    assert run([pod("a"), *broken], target(3), {"b": Witness(True, BUSY)}).replicas == 4


def test_a_floor_set_by_somebody_holds_the_pool_up() -> None:
    assert run([pod("a"), pod("b"), pod("c")], target(1, ("a", "b")), floor=3) == Step(replicas=3)


def test_a_pod_that_vanished_mid_drain_frees_its_place() -> None:
    ending = replace(drained("b"), terminating=True)
    assert run(
        [pod("a"), ending, pod("new", ready=False)], target(1, ("new",)), pool=Pool(2, 2, True, Bounds(1, 8))
    ) == (Step(replicas=2, drain=("new",)))


def test_a_starting_pod_that_never_served_goes_without_a_sample() -> None:
    young = replace(drained("b", LEAVING_COST), ready=False, never_served=True, phase="Pending")
    assert run([pod("a"), young], target(1), {"b": Witness(True, None)}).replicas == 1


def test_replicas_never_created_are_taken_back_at_once() -> None:
    short = Pool(4, 2, True, Bounds(1, 8))  # a quota holds two pods back
    assert run([pod("a"), pod("b")], target(2), pool=short) == Step(replicas=2)


def test_without_a_decision_a_drain_goes_on_and_nothing_else_moves() -> None:
    assert run([pod("a"), pod("b")], None) == Step(replicas=2)
    assert run([pod("a"), drained("b", LEAVING_COST)], None, {"b": GONE}) == Step(replicas=1)


def test_a_pod_labelled_by_hand_gets_its_date_and_cost() -> None:
    by_hand = pod("b", draining=True)
    found = run([pod("a"), by_hand], None, {"b": Witness(True, BUSY)})
    assert found == Step(replicas=2, drain=("b",), costs={"b": DRAINING_COST})


class TestDeadline:
    def test_is_extended_while_nobody_waits_for_the_accelerator(self) -> None:
        late = drained("b", since=NOW - DEADLINE_S - 1)
        assert run([pod("a"), late], target(1), {"b": Witness(True, BUSY)}) == Step(replicas=2)

    def test_ends_the_pod_with_its_loss_recorded_when_somebody_waits(self) -> None:
        late = drained("b", since=NOW - DEADLINE_S - 1)
        found = run([pod("a"), late], target(1), {"b": Witness(True, BUSY)}, wanted_elsewhere=True)
        assert found.costs == {"b": LEAVING_COST}
        assert found.losses[0].requests == 2
        assert "2 requests unfinished" in found.losses[0].message()

    def test_is_not_extended_for_an_engine_that_cannot_be_read(self) -> None:
        late = drained("b", since=NOW - DEADLINE_S - 1)
        found = run([pod("a"), late], target(1), {"b": Witness(True, None)})
        assert found.losses[0].requests is None
        assert "unknown" in found.losses[0].message()

    def test_has_an_end(self) -> None:
        late = drained("b", since=NOW - 3 * DEADLINE_S - 1)
        assert run([pod("a"), late], target(1), {"b": Witness(True, BUSY)}).losses

    def test_loss_is_told_once_and_then_the_pod_goes(self) -> None:
        late = drained("b", LEAVING_COST, since=NOW - 3 * DEADLINE_S - 1)
        assert run([pod("a"), late], target(1), {"b": Witness(True, BUSY)}) == Step(replicas=1)


def test_the_front_of_the_engine_overrules_an_idle_snapshot() -> None:
    front = EngineState(at=0.0, started_at=0.0, queued_tokens=0, running_total=1)
    assert idle(IDLE)
    assert not idle(with_streams(IDLE, front))
    assert not idle(with_streams(IDLE, replace(front, running_total=0, queued_tokens=5)))
    assert with_streams(None, front) is None


# A small cluster that obeys: a ReplicaSet that ends pods in its documented order, engines that finish or get no work.
actions = st.lists(
    st.tuples(
        st.integers(1, 5),  # wanted replicas
        st.lists(st.booleans(), min_size=8, max_size=8),  # which engines are busy
        st.lists(st.booleans(), min_size=8, max_size=8),  # which samples get lost
        st.booleans(),  # whether the gateways answer
        st.integers(0, 12),  # a pod that becomes unready, if there is one of that index
    ),
    min_size=1,
    max_size=25,
)


Tick = tuple[int, list[bool], list[bool], bool, int]


@given(actions)
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_passes_ends_a_pod_with_work_or_goes_below_min(plan: list[Tick]) -> None:
    names = map("p{}".format, count())
    pods = [pod(next(names)), pod(next(names))]
    replicas, now = 2, NOW
    for wanted, busy, lost, gateways, sick in plan:
        now += 5.0
        pods = [replace(p, ready=i != sick) for i, p in enumerate(pods)]
        works = {p.name: busy[i % 8] for i, p in enumerate(pods)}
        witnesses = {
            p.name: Witness(gateways, None if lost[i % 8] else BUSY if works[p.name] else IDLE)
            for i, p in enumerate(pods)
            if p.draining
        }
        victims = tuple(p.name for p in pods if not p.draining)[wanted:]
        pool = Pool(replicas, len(pods), True, Bounds(1, 5))
        found = step(pool, pods, target(wanted, victims), witnesses, now=now, deadline_s=1e9)
        assert 1 <= found.replicas <= 5 + sum(p.draining for p in pods)
        changed = []
        for p in pods:
            if p.name in found.drain:
                p = replace(p, draining=True, draining_since=now, deletion_cost=DRAINING_COST)  # noqa: PLW2901
            if p.name in found.reactivate:
                p = replace(p, draining=False, draining_since=None, deletion_cost=0)  # noqa: PLW2901
            changed.append(replace(p, deletion_cost=found.costs.get(p.name, p.deletion_cost)))
        pods, replicas = sorted(changed, key=deletion_order), found.replicas
        ended, pods = pods[: max(0, len(pods) - replicas)], pods[max(0, len(pods) - replicas) :]
        assert not any(works[p.name] for p in ended), "a pod with work was ended"
        assert all(p.draining for p in ended), "a pod that should stay was ended"
        assert any(not p.draining for p in pods) or replicas > len(pods)
        pods += [pod(next(names)) for _ in range(replicas - len(pods))]


@given(st.integers(1, 5), st.integers(1, 5))
@settings(deadline=None)
def test_a_quiet_pool_reaches_its_target(start: int, wanted: int) -> None:
    names = map("p{}".format, count())
    pods, replicas = [pod(next(names)) for _ in range(start)], start
    for _ in range(6):
        victims = tuple(p.name for p in pods if not p.draining)[wanted:]
        pool = Pool(replicas, len(pods), True, Bounds(1, 5))
        witnesses = {p.name: GONE for p in pods if p.draining}
        found = step(pool, pods, target(wanted, victims), witnesses, now=NOW, deadline_s=DEADLINE_S)
        pods = [
            replace(p, draining=True, draining_since=NOW, deletion_cost=DRAINING_COST) if p.name in found.drain else p
            for p in pods
        ]
        pods = [replace(p, deletion_cost=found.costs.get(p.name, p.deletion_cost)) for p in pods]
        replicas = found.replicas
        pods = sorted(pods, key=deletion_order)[max(0, len(pods) - replicas) :]
        pods += [pod(next(names)) for _ in range(replicas - len(pods))]
    assert (replicas, len(pods), any(p.draining for p in pods)) == (wanted, wanted, False)
