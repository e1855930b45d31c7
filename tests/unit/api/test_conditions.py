from headrace.api.conditions import Condition, ConditionStatus, ConditionType, find_condition, set_condition
from headrace.api.status import InferenceServiceStatus, TargetChange

READY = ConditionType.READY


def ready(
    before: tuple[Condition, ...], status: ConditionStatus | bool | None, now: float, reason: str = "Because"
) -> tuple[Condition, ...]:
    return set_condition(before, READY, status, reason=reason, message="m", observed_generation=1, now=now)


def test_transition_time_moves_only_when_the_status_flips() -> None:
    first = ready((), False, now=0.0)
    other_reason = ready(first, False, now=60.0, reason="Other")
    flipped = ready(other_reason, True, now=120.0)
    assert [c.last_transition_time for c in (*first, *other_reason, *flipped)] == [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:02:00Z",
    ]
    assert other_reason[0].reason == "Other"


def test_unknown_is_not_false() -> None:
    (condition,) = ready((), None, now=0.0)
    assert condition.status is ConditionStatus.UNKNOWN


def test_a_condition_keeps_its_place_and_its_neighbours() -> None:
    conditions = ready((), True, now=0.0)
    conditions = set_condition(
        conditions, ConditionType.STALLED, False, reason="NotStalled", message="", observed_generation=1, now=0.0
    )
    conditions = ready(conditions, False, now=1.0)
    assert [c.type for c in conditions] == ["Ready", "Stalled"]
    assert find_condition(conditions, ConditionType.SCALING_ACTIVE) is None


def test_setting_the_same_again_changes_nothing() -> None:
    conditions = ready((), True, now=0.0)
    assert ready(conditions, True, now=99.0) == conditions


def test_a_message_longer_than_the_schema_allows_is_cut() -> None:
    (condition,) = set_condition(
        (), READY, False, reason="PodFailing", message="x" * 9000, observed_generation=1, now=0.0
    )
    assert len(condition.message) == 4096


def test_a_status_survives_the_way_to_the_api_server_and_back() -> None:
    change = TargetChange(at="2026-01-01T00:00:00Z", role="prefill", from_replicas=1, to_replicas=2, reason="ScaleUp")
    status = InferenceServiceStatus(conditions=ready((), True, now=0.0), recent_decisions=(change,))
    assert InferenceServiceStatus.parse({"status": status.to_wire()}) == status


def test_a_status_of_a_newer_version_is_read() -> None:
    assert InferenceServiceStatus.parse({"status": {"novel": 1}}) == InferenceServiceStatus()
    assert InferenceServiceStatus.parse({}) == InferenceServiceStatus()


def test_an_explanation_that_is_too_long_is_cut_and_not_refused() -> None:
    change = TargetChange(at="t", role="prefill", from_replicas=1, to_replicas=2, reason="ScaleUp", message="x" * 5000)
    assert len(change.message) == 1024
