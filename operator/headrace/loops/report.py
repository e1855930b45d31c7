"""Writes the status of a service, whole and only when it says something new, and tells the news as Events."""

from typing import Any

from pydantic import ValidationError

from headrace.api.base import API_VERSION, KIND
from headrace.api.status import InferenceServiceStatus
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Kube, Manifest
from headrace.reconcile.transitions import News, news

STATUS_MANAGER = "headrace-status"


class StatusWriter:
    """The only writer of the status."""

    def __init__(self, kube: Kube, recorder: EventRecorder) -> None:
        self._kube = kube
        self._recorder = recorder

    async def write(self, manifest: Manifest, before: InferenceServiceStatus, after: InferenceServiceStatus) -> bool:
        """Apply `after` for the live object `manifest` unless it is `before` itself. Whether something was written."""
        if after is before:
            return False
        meta = manifest["metadata"]
        body: dict[str, Any] = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "status": after.to_wire(),
        }
        await self._kube.apply_status(body, STATUS_MANAGER)
        for item in news(before, after):
            await self.tell(manifest, item)
        return True

    async def tell(self, manifest: Manifest, item: News) -> None:
        """One Event about the service."""
        type_ = "Warning" if item.warning else "Normal"
        await self._recorder.emit(manifest, item.reason, item.message, type_=type_)  # type: ignore[arg-type]


def status_of(manifest: Manifest) -> InferenceServiceStatus:
    """The status as written before; one that can't be read (another writer, another version) counts as none."""
    try:
        return InferenceServiceStatus.parse(manifest)
    except ValidationError:
        return InferenceServiceStatus()
