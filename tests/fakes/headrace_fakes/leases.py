"""The API server reduced to one Lease: versions, conflicts, answers that are late, lost or refused."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from headrace.kube.interface import Conflict, Kind, KubeError, Manifest, NotFound

T = TypeVar("T")


class FakeLeases:
    """One candidate's way to the shared Lease. `delay_s` is waited before, and again after, the server acts."""

    def __init__(self, shared: "SharedLease", disturb: Callable[[], tuple[float, KubeError | None]]) -> None:
        self.shared = shared
        self._arrivals: set[asyncio.Task[Any]] = set()
        self.disturb = disturb  # called for each request: its delay, and the error that hides its answer

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        return await self._request(lambda: copy.deepcopy(self.shared.lease))

    async def create(self, manifest: Manifest) -> Manifest:
        return await self._request(lambda: self.shared.create(manifest))

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Manifest) -> Manifest:
        return await self._request(lambda: self.shared.patch(patch))

    async def _request(self, act: Callable[[], T]) -> T:
        delay_s, error = self.disturb()
        # The server's side goes on when the caller gives up: a request can arrive late, and act.
        arrival = asyncio.create_task(self._arrive(act, delay_s))
        self._arrivals.add(arrival)
        try:
            result = await asyncio.shield(arrival)
        finally:
            if arrival.done():
                self._arrivals.discard(arrival)
        await asyncio.sleep(delay_s)
        if error is not None:
            raise error
        return result

    async def _arrive(self, act: Callable[[], T], delay_s: float) -> T:
        await asyncio.sleep(delay_s)
        return act()

    async def close(self) -> None:
        """End the requests that are still on their way."""
        for arrival in self._arrivals:
            arrival.cancel()
        await asyncio.gather(*self._arrivals, return_exceptions=True)

    def _unused(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("an elector needs get, create and merge_patch only")

    list = apply = apply_status = delete = _unused


class SharedLease:
    """The server's side."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0

    def create(self, manifest: Manifest) -> Manifest:
        if self.lease is not None:
            raise Conflict("already exists")
        return self._store(copy.deepcopy(manifest))

    def patch(self, patch: Manifest) -> Manifest:
        if self.lease is None:
            raise NotFound("no lease")
        if patch["metadata"]["resourceVersion"] != self.lease["metadata"]["resourceVersion"]:
            raise Conflict("modified")
        return self._store({**self.lease, "spec": {**self.lease["spec"], **patch["spec"]}})

    def _store(self, lease: Manifest) -> Manifest:
        self.version += 1
        self.lease = {**lease, "metadata": {**lease["metadata"], "resourceVersion": str(self.version)}}
        return copy.deepcopy(self.lease)

    @property
    def holder(self) -> str:
        return "" if self.lease is None else self.lease["spec"].get("holderIdentity", "")
