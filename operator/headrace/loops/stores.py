"""What the watches saw last, in memory: fed by events, replaced by each resync LIST. Touched by one event loop only."""

from collections.abc import Iterable

from headrace.kube.interface import Manifest
from headrace.loops.keys import Key, key_of, owner_key


class ObjectStore:
    """Objects by namespace and name.

    A LIST is older than the events that arrive while it travels. So `replace` takes the mark read before the LIST began
    and leaves alone what an event has touched since, additions and deletions alike.
    """

    def __init__(self) -> None:
        self._objects: dict[Key, Manifest] = {}
        self._touched: dict[Key, int] = {}  # sequence number of the last event on the key, kept for deleted ones too
        self._sequence = 0

    def get(self, key: Key) -> Manifest | None:
        """The object as last seen. Not a copy: read only."""
        return self._objects.get(key)

    def keys(self) -> tuple[Key, ...]:
        """All keys, in order."""
        return tuple(sorted(self._objects))

    def __len__(self) -> int:
        return len(self._objects)

    def mark(self) -> int:
        """To be read before a LIST whose answer goes to `replace`."""
        return self._sequence

    def upsert(self, manifest: Manifest) -> None:
        """An event showed the object."""
        key = key_of(manifest)
        self._touch(key)
        self._put(key, manifest)

    def remove(self, manifest: Manifest) -> None:
        """An event showed that the object is gone."""
        key = key_of(manifest)
        self._touch(key)
        self._drop(key)

    def replace(self, manifests: Iterable[Manifest], mark: int) -> None:
        """A LIST of everything in scope, begun at `mark`. Ghosts of missed deletions go."""
        listed = {key_of(manifest): manifest for manifest in manifests}
        for key in self._objects.keys() - listed.keys():
            if self._touched.get(key, 0) <= mark:
                self._drop(key)
        for key, manifest in listed.items():
            if self._touched.get(key, 0) <= mark:
                self._put(key, manifest)
        self._touched = {key: at for key, at in self._touched.items() if at > mark}

    def _touch(self, key: Key) -> None:
        self._sequence += 1
        self._touched[key] = self._sequence

    def _put(self, key: Key, manifest: Manifest) -> None:
        self._objects[key] = slim(manifest)

    def _drop(self, key: Key) -> None:
        self._objects.pop(key, None)


class ServiceStore(ObjectStore):
    """The InferenceServices."""


class PodStore(ObjectStore):
    """The pods of all services, also found by the service in their label."""

    def __init__(self) -> None:
        super().__init__()
        self._by_service: dict[Key, set[Key]] = {}

    def of(self, service: Key) -> tuple[Manifest, ...]:
        """The service's pods (every role, gateways too) in the order of their names."""
        return tuple(self._objects[key] for key in sorted(self._by_service.get(service, ())))

    def _put(self, key: Key, manifest: Manifest) -> None:
        self._drop(key)  # the label may have changed
        super()._put(key, manifest)
        owner = owner_key(manifest)
        if owner is not None:
            self._by_service.setdefault(owner, set()).add(key)

    def _drop(self, key: Key) -> None:
        old = self._objects.get(key)
        owner = owner_key(old) if old is not None else None
        if owner is not None and owner in self._by_service:
            self._by_service[owner].discard(key)
            if not self._by_service[owner]:
                del self._by_service[owner]
        super()._drop(key)


def slim(manifest: Manifest) -> Manifest:
    """Without managedFields: half of an object's bytes, and nobody reads them from a store."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    return {**manifest, "metadata": metadata}
