"""Events and lists in: stores are kept current, and the services concerned are queued."""

from collections.abc import Callable, Sequence

from headrace.clock import Clock
from headrace.kube.interface import Kube, Manifest
from headrace.kube.kinds import INFERENCE_SERVICE, POD
from headrace.loops.keys import SERVICE_LABEL, Key, key_of, owner_key
from headrace.loops.stores import PodStore, ServiceStore
from headrace.observability.health import Health


class Intake:
    """The sink of the watches (headrace.handlers.EventSink) and of the resync."""

    def __init__(
        self,
        *,
        services: ServiceStore,
        pods: PodStore,
        enqueue: Callable[[Key], None],
        health: Health,
        clock: Clock,
        namespaces: Sequence[str],
    ) -> None:
        """`namespaces`: those served; empty: all. The watches also see the operator's own."""
        self._services = services
        self._pods = pods
        self._enqueue = enqueue
        self._health = health
        self._clock = clock
        self._namespaces = frozenset(namespaces)

    def service_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """Queue the service unless only its status was written: by us, most of the time."""
        key = key_of(manifest)
        if not self._serves(key):
            return
        before = self._services.get(key)
        if deleted:
            self._services.remove(manifest)
        else:
            self._services.upsert(manifest)
        if deleted or before is None or _wish(before) != _wish(manifest):
            self._enqueue(key)

    def child_event(self, manifest: Manifest, *, deleted: bool) -> None:  # noqa: ARG002  a look at the service tells
        """Queue the service that the child belongs to."""
        self._enqueue_owner(manifest)

    def pod_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """Remember the pod, and queue its service."""
        if deleted:
            self._pods.remove(manifest)
        else:
            self._pods.upsert(manifest)
        self._enqueue_owner(manifest)

    def lease_event(self, manifest: Manifest, *, deleted: bool) -> None:  # noqa: ARG002  any sign of life will do
        """The watches are alive."""
        self._health.heartbeat_at = self._clock.now()

    async def resync(self, kube: Kube) -> None:
        """Replace the stores by what the API server has, and queue every service. Raises KubeError."""
        services_mark, pods_mark = self._services.mark(), self._pods.mark()
        services: list[Manifest] = []
        pods: list[Manifest] = []
        everywhere: list[str | None] = [None]
        for namespace in sorted(self._namespaces) or everywhere:
            services += await kube.list(INFERENCE_SERVICE, namespace)
            pods += await kube.list(POD, namespace, {SERVICE_LABEL: ""})
        known = set(self._services.keys())
        self._services.replace(services, services_mark)
        self._pods.replace(pods, pods_mark)
        for key in known | set(self._services.keys()):
            self._enqueue(key)

    def _enqueue_owner(self, manifest: Manifest) -> None:
        key = owner_key(manifest)
        if key is not None and self._serves(key):
            self._enqueue(key)

    def _serves(self, key: Key) -> bool:
        return not self._namespaces or key.namespace in self._namespaces


def _wish(manifest: Manifest) -> tuple[object, ...]:
    """All of an InferenceService that someone else may change and a pass reads."""
    metadata = manifest["metadata"]
    names = ("uid", "generation", "labels", "annotations", "deletionTimestamp", "finalizers")
    return tuple(metadata.get(name) for name in names)
