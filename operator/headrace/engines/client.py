"""Reads engines and gateways over HTTP: bounded in number and in time, each pod by itself."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from headrace.autoscaler.signals import EngineLoad, EngineState, GatewaySample
from headrace.clock import Clock
from headrace.engines.parse import MalformedError, parse_exposition, parse_loads, parse_state, parse_workers

ENGINE_PORT = 30000
GATEWAY_PORT = 8080
GATEWAY_METRICS_PORT = 29000
# An engine answers from memory within milliseconds; one that needs longer is starved, and waiting for it would make
# the samples of all others old.
TIMEOUT_S = 2.0
MAX_CONCURRENT = 256  # sockets: 2,000 engines at 50 ms each within half a second, well below the limit of open files
# All engines of a tick together. When a whole network is silent every read takes its full time, and a tick must not.
BUDGET_S = 4.0
MAX_ANSWER_BYTES = 8 << 20  # a full /headrace/state has some 100 KB; more is not an engine

_LOADS = "/v1/loads?include=core,memory,disagg,queues&format=json"
_QUEUED, _INFLIGHT = "smg_admission_queue_depth", "smg_admission_inflight"


class UnreadableError(Exception):
    """A pod that could not be read, and why in a few words."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read from one engine. `load` None: nothing usable; `error` says why."""

    at: float
    load: EngineLoad | None = None
    state: EngineState | None = None
    error: str = ""


class EngineClient:
    """One HTTP session for all pods. Reads never raise: what can't be read comes back as missing, with the reason."""

    def __init__(self, clock: Clock, *, timeout_s: float = TIMEOUT_S, budget_s: float = BUDGET_S) -> None:
        self._clock = clock
        self._budget_s = budget_s
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._slots = asyncio.Semaphore(MAX_CONCURRENT)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the session; the client can't be used any more."""
        if self._session is not None:
            await self._session.close()

    async def engines(self, addresses: Mapping[str, str]) -> dict[str, Reading]:
        """One reading for each pod of `addresses` (name -> "host:port")."""
        tasks = {name: asyncio.create_task(self.engine(address)) for name, address in addresses.items()}
        if not tasks:
            return {}
        try:
            await asyncio.wait(tasks.values(), timeout=self._budget_s)
            late = Reading(self._clock.now(), error=f"not reached within {self._budget_s:g} s")
            return {name: task.result() if task.done() else late for name, task in tasks.items()}
        finally:
            for task in tasks.values():
                task.cancel()

    async def engine(self, address: str) -> Reading:
        """Read one engine. A stock engine has no /headrace/state: its load alone counts."""
        load, state = await asyncio.gather(
            self._read(f"http://{address}{_LOADS}", parse_loads),
            self._read(f"http://{address}/headrace/state", parse_state),
        )
        now = self._clock.now()
        if isinstance(load, str):
            return Reading(now, error=load)
        return Reading(now, load, None if isinstance(state, str) else state, state if isinstance(state, str) else "")

    async def workers(self, address: str) -> frozenset[str] | None:
        """The hosts that a gateway ("host:port") sends to, or None if it can't be asked."""
        found = await self._read(f"http://{address}/workers", parse_workers)
        return None if isinstance(found, str) else found

    async def gateway(self, addresses: Mapping[str, str]) -> GatewaySample | None:
        """What all gateways together hold (name -> "host:metrics port"). None unless every one of them answered."""
        answers = await asyncio.gather(*(self._metrics(address) for address in addresses.values()))
        known = [answer for answer in answers if answer is not None and _INFLIGHT in answer]
        if not known or len(known) < len(answers):
            return None
        return GatewaySample(
            sampled_at=self._clock.now(),
            # smg 1.13 shows the queue's depth from the first request on that had to wait: until then there is none.
            queued_requests=sum(int(answer.get(_QUEUED, 0)) for answer in known),
            inflight_requests=sum(int(answer[_INFLIGHT]) for answer in known),
        )

    async def _metrics(self, address: str) -> dict[str, float] | None:
        try:
            body = await self._get(f"http://{address}/metrics")
            return parse_exposition(body.decode(errors="replace"), (_QUEUED, _INFLIGHT))
        except (UnreadableError, MalformedError):
            return None

    async def _read(self, url: str, parse: Any) -> Any:
        """The parsed answer, or a sentence that says why there is none."""
        try:
            return parse(orjson.loads(await self._get(url)))
        except (UnreadableError, MalformedError) as error:
            return str(error)
        except orjson.JSONDecodeError:
            return "the answer is not JSON"

    async def _get(self, url: str) -> bytes:
        session = self._open()
        try:
            async with self._slots, session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise UnreadableError(f"HTTP {response.status}")
                body = await response.content.read(MAX_ANSWER_BYTES)
                while not response.content.at_eof():
                    body += await response.content.read(MAX_ANSWER_BYTES)
                    if len(body) > MAX_ANSWER_BYTES:
                        raise UnreadableError(f"the answer has more than {MAX_ANSWER_BYTES} bytes")
                return body
        except TimeoutError:
            raise UnreadableError(f"no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise UnreadableError(str(error) or type(error).__name__) from None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, trust_env=False)
        return self._session
