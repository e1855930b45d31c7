"""When the process should be restarted, and when it is ready."""

import pytest

from headrace.observability.health import Health

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("heartbeat_ago", "renewal_ago", "live"),
    [
        pytest.param(1.0, 1.0, True, id="both fresh"),
        pytest.param(300.0, 1.0, False, id="the lease moves on and the watch does not show it"),
        pytest.param(300.0, 300.0, True, id="the API server is away: a restart would not help"),
        pytest.param(None, 1.0, True, id="the watch has just begun"),
        pytest.param(1.0, None, True, id="the lease was not read yet"),
    ],
)
def test_a_dead_watch_fails_liveness_and_a_dead_api_server_does_not(
    heartbeat_ago: float | None, renewal_ago: float | None, live: bool
) -> None:
    health = Health(
        watch_stale_s=60.0,
        heartbeat_at=None if heartbeat_ago is None else NOW - heartbeat_ago,
        renewal_seen_at=None if renewal_ago is None else NOW - renewal_ago,
    )
    assert (health.live(NOW, {}) == []) is live


def test_a_loop_that_stopped_ticking_fails_liveness_by_name() -> None:
    health = Health(watch_stale_s=60.0, tick_stale_s={"autoscale": 60.0, "resync": 930.0})
    assert health.live(NOW, {"autoscale": NOW - 61.0, "resync": NOW - 61.0}) == [
        "autoscale: last tick 61 s ago, limit 60 s"
    ]


def test_a_follower_whose_loops_never_ticked_is_live() -> None:
    assert Health(watch_stale_s=60.0, tick_stale_s={"autoscale": 60.0}).live(NOW, {}) == []


def test_readiness_names_what_is_missing() -> None:
    health = Health(watch_stale_s=60.0)
    health.waiting_for = "the CustomResourceDefinition"
    assert health.ready() == ["waiting for the CustomResourceDefinition"]
    health.synced = True
    assert health.ready() == []
