"""Leaving the traffic: how long an end waits, and for whom."""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Any

import pytest

from headrace_engine.drain import POLL_S, QUIET_S, bounded_sigterm, wait_until_quiet


class Status(Enum):
    Up = "up"
    UnHealthy = "unhealthy"


class Manager:
    """What the hook sees of SGLang's tokenizer manager."""

    def __init__(self) -> None:
        self.gracefully_exit = False
        self.rid_to_state: dict[str, object] = {}
        self.server_status = Status.Up
        self.ended_at: float | None = None
        self.given_up = False

    async def original(self, manager: Any) -> None:
        assert manager is self
        self.ended_at = asyncio.get_running_loop().time()


def _clock() -> Callable[[], float]:
    return asyncio.get_running_loop().time


pytestmark = pytest.mark.looptime


async def test_an_idle_engine_waits_only_for_the_last_that_were_sent() -> None:
    start = _clock()()
    assert await wait_until_quiet(lambda: 0, 60, _clock()) == 0
    assert QUIET_S <= _clock()() - start <= QUIET_S + 2 * POLL_S


async def test_a_running_request_is_waited_for() -> None:
    start = _clock()()
    assert await wait_until_quiet(lambda: int(_clock()() - start < 20), 60, _clock()) == 0
    assert 20 + QUIET_S - POLL_S <= _clock()() - start <= 20 + QUIET_S + 2 * POLL_S


async def test_a_late_request_starts_the_quiet_anew() -> None:
    start = _clock()()
    assert await wait_until_quiet(lambda: int(2 <= _clock()() - start < 2.5), 60, _clock()) == 0
    assert 2.5 + QUIET_S - POLL_S <= _clock()() - start <= 2.5 + QUIET_S + 2 * POLL_S


async def test_the_deadline_ends_the_wait_and_says_how_many_are_left() -> None:
    start = _clock()()
    assert await wait_until_quiet(lambda: 3, 10, _clock()) == 3
    assert 10 <= _clock()() - start <= 10 + POLL_S


async def test_no_deadline_at_all_waits_for_nobody() -> None:
    start = _clock()()
    assert await wait_until_quiet(lambda: 3, 0, _clock()) == 3
    assert _clock()() == start


async def _ask_to_end(manager: Manager, deadline_s: float, finish_after_s: float) -> float:
    """SIGTERM after 5 s; one request that runs for `finish_after_s` more. Seconds from the signal to the end."""
    manager.rid_to_state["a"] = object()
    hook = asyncio.create_task(_run_hook(manager, deadline_s))
    await asyncio.sleep(5)
    assert not hook.done()
    manager.gracefully_exit = True
    asked_at = _clock()()
    await asyncio.sleep(finish_after_s)
    manager.rid_to_state.clear()
    await hook
    assert manager.ended_at is not None
    return manager.ended_at - asked_at


async def _run_hook(manager: Manager, deadline_s: float) -> None:
    def give_up() -> None:
        assert manager.ended_at is not None, "SGLang's own end comes first: it releases the GPU's memory"
        manager.given_up = True

    await bounded_sigterm(deadline_s, _clock(), give_up)(manager.original, manager)


async def test_sigterm_lets_a_request_end_and_then_leaves_healthy() -> None:
    manager = Manager()
    assert 8 <= await _ask_to_end(manager, deadline_s=60, finish_after_s=8) <= 8 + QUIET_S + 1
    assert manager.server_status is Status.Up
    assert not manager.given_up


async def test_sigterm_gives_up_requests_beyond_the_deadline(caplog: pytest.LogCaptureFixture) -> None:
    manager = Manager()
    assert 10 <= await _ask_to_end(manager, deadline_s=10, finish_after_s=100) <= 11
    assert manager.server_status is Status.UnHealthy
    assert manager.given_up
    assert "deadline of 10 s passed with 1 requests running" in caplog.text
