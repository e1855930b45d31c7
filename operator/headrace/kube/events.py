"""Kubernetes Events: what a person sees under `kubectl describe`. On transitions only, and the same one not twice."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import structlog

from headrace.clock import Clock
from headrace.kube.interface import Kube, KubeError
from headrace.kube.kinds import EVENT

log = structlog.get_logger(__name__)

CONTROLLER = "headrace.dev/operator"
# The same event about the same object within this time is dropped: it would tell nothing new, and a flapping
# condition would fill etcd (events live there for an hour).
REPEAT_S = 600.0
REMEMBERED = 4096  # events; older ones are forgotten first. About 1 MB.
NOTE_LIMIT = 1024  # bytes, by the API's validation


class EventRecorder:
    """Writes events; a failure to do so is logged and never disturbs the pass that emitted it."""

    def __init__(self, kube: Kube, clock: Clock, instance: str) -> None:
        self._kube = kube
        self._clock = clock
        self._instance = instance
        self._sent: dict[tuple[str, str, str], float] = {}

    async def emit(
        self,
        regarding: Mapping[str, Any],
        reason: str,
        message: str,
        *,
        type_: Literal["Normal", "Warning"] = "Normal",
        action: str = "Reconcile",
    ) -> bool:
        """Record that something happened to the object. False: dropped as a repetition, or not written."""
        metadata = regarding["metadata"]
        now = self._clock.now()
        key = (metadata.get("uid") or f"{metadata.get('namespace')}/{metadata['name']}", reason, message)
        if now - self._sent.get(key, float("-inf")) < REPEAT_S:
            return False
        try:
            note = {"type": type_, "reason": reason, "action": action, "note": cut(message)}
            await self._kube.create({**self._envelope(regarding, now), **note})
        except KubeError as error:
            log.warning("event not written", reason=reason, error=str(error))
            return False
        self._remember(key, now)
        return True

    def _remember(self, key: tuple[str, str, str], now: float) -> None:
        self._sent.pop(key, None)  # to the end of the order
        self._sent[key] = now
        while len(self._sent) > REMEMBERED:
            del self._sent[next(iter(self._sent))]

    def _envelope(self, regarding: Mapping[str, Any], now: float) -> dict[str, Any]:
        metadata = regarding["metadata"]
        reference = {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "namespace": metadata.get("namespace"),
            "name": metadata["name"],
            "uid": metadata.get("uid"),
            "resourceVersion": metadata.get("resourceVersion"),
        }
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.kind,
            # client-go's scheme: unique as long as two events on one object are a nanosecond apart.
            "metadata": {
                "name": f"{metadata['name']}.{int(now * 1e9):x}",
                "namespace": metadata.get("namespace") or "default",
            },
            "eventTime": micro_time(now),
            "regarding": {name: value for name, value in reference.items() if value},
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance[:128],
        }


def cut(message: str) -> str:
    """The message within the API's limit, which counts bytes."""
    return message.encode()[:NOTE_LIMIT].decode(errors="ignore")


def micro_time(at: float) -> str:
    """RFC 3339 with microseconds, as the API's MicroTime wants it. `at`: epoch seconds."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
