"""Leaving the traffic: a switch that takes readiness away, and an end that waits for running requests, with a bound."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

log = logging.getLogger(__name__)
POLL_S = 0.2  # how soon the end of the last request is noticed; SGLang's own watchdog looks every 5 s
# A gateway learns of a pod's end by a watch and may send for a moment longer; a pod drained beforehand pays this once.
QUIET_S = 3.0
CUT_SHORT = 75  # EX_TEMPFAIL: requests were still running when the time to drain was over


@dataclass
class DrainSwitch:
    """Whether this engine asks for no new requests."""

    on: bool = False


async def wait_until_quiet(
    requests: Callable[[], int], deadline_s: float, clock: Callable[[], float], *, quiet_s: float = QUIET_S
) -> int:
    """Wait until there has been no request for `quiet_s`, at most `deadline_s`; the requests left then."""
    end = clock() + deadline_s
    quiet_since = clock()
    while clock() < end:
        if requests():
            quiet_since = clock()
        elif clock() - quiet_since >= quiet_s:
            return 0
        await asyncio.sleep(POLL_S)
    return requests()


def bounded_sigterm(
    deadline_s: float, clock: Callable[[], float], give_up: Callable[[], None]
) -> Callable[..., Awaitable[None]]:
    """An AROUND hook for TokenizerManager.sigterm_watchdog, whose own drain has no bound and looks every 5 s.

    SGLang ends at once when its status is unhealthy: that is how requests beyond the deadline are given up. It then
    calls `give_up`, which ends the process with a status that tells so: SGLang's own end looks like a good one.
    """

    async def hook(original: Callable[[Any], Awaitable[None]], manager: Any) -> None:
        while not manager.gracefully_exit:  # noqa: ASYNC110 - SGLang sets a flag, no event
            await asyncio.sleep(POLL_S)
        left = await wait_until_quiet(lambda: len(manager.rid_to_state), deadline_s, clock)
        if left:
            log.error("termination deadline of %g s passed with %d requests running; ending now", deadline_s, left)
            manager.server_status = type(manager.server_status).UnHealthy
        try:
            await original(manager)
        finally:
            if left:
                give_up()

    return hook
