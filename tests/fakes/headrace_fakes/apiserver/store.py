"""Objects with versions, history, ownership and garbage collection."""

import asyncio
import copy
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.kube.interface import Kind
from headrace_fakes.apiserver.fields import Object, Ownership

StoreKey = tuple[str, str | None, str]  # plural, namespace, name
WITH_STATUS = {"inferenceservices", "deployments", "pods", "poddisruptionbudgets", "nodes", "services"}


class ApiError(Exception):
    """An answer other than success."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


@dataclass(frozen=True)
class Change:
    """One step of history: old None for an addition, new None for a deletion (`last` is then what was deleted)."""

    version: int
    key: StoreKey
    old: Object | None
    new: Object | None
    last: Object


class Store:
    """All writes go through `commit` and `remove`, which wake the watchers."""

    def __init__(self) -> None:
        self.version = 100
        self.compacted = 0  # versions up to here are gone from history
        self.history: list[Change] = []
        self.objects: dict[StoreKey, Object] = {}
        self.ownership: dict[StoreKey, Ownership] = {}
        self.changed = asyncio.Condition()
        self.hooks: list[Callable[[Change], None]] = []

    def get(self, key: StoreKey) -> Object:
        if key not in self.objects:
            raise ApiError(404, "NotFound", f'{key[0]} "{key[2]}" not found')
        return copy.deepcopy(self.objects[key])

    def of(self, plural: str, namespace: str | None = None) -> Iterator[Object]:
        for key in sorted(self.objects, key=str):
            if key[0] == plural and namespace in {None, key[1]}:
                yield self.objects[key]

    def create(self, kind: Kind, namespace: str | None, obj: Object, owner: tuple[str, str, str]) -> Object:
        obj = copy.deepcopy(obj)
        metadata = obj.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + uuid.uuid4().hex[:5]
        if not metadata.get("name"):
            raise ApiError(422, "Invalid", f"{kind.kind} is invalid: metadata.name: Required value")
        if metadata.get("resourceVersion"):
            raise ApiError(400, "BadRequest", "resourceVersion should not be set on objects to be created")
        key = (kind.plural, namespace, metadata["name"])
        if key in self.objects:
            raise ApiError(409, "AlreadyExists", f'{kind.plural} "{key[2]}" already exists')
        if kind.plural in WITH_STATUS and kind.plural != "nodes":
            obj.pop("status", None)
        obj |= {"apiVersion": kind.api_version, "kind": kind.kind}
        metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": stamp(), "generation": 1}
        if namespace:
            metadata["namespace"] = namespace
        return self.commit(key, obj, Ownership().update({}, obj, owner))

    def replace(self, key: StoreKey, new: Object, ownership: Ownership, *, status: bool) -> Object:
        """A write to the object, or to its status alone. Keeps what the server owns; a no-op keeps the version."""
        old = self.objects[key]
        if status:
            kept = {name: value for name, value in old.items() if name != "status"}
            new = copy.deepcopy(kept) | ({"status": new["status"]} if "status" in new else {})
        elif key[0] in WITH_STATUS:
            new.pop("status", None)
            new |= {"status": old["status"]} if "status" in old else {}
        server_side = ("name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp",
                       "resourceVersion", "managedFields")  # fmt: skip
        metadata = new.setdefault("metadata", {})
        sent = metadata.get("resourceVersion")
        if sent and sent != old["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", f'Operation cannot be fulfilled on {key[0]} "{key[2]}": modified')
        for name in server_side:
            metadata.pop(name, None)
        new["metadata"] = {**metadata, **{n: old["metadata"][n] for n in server_side if n in old["metadata"]}}
        new |= {"apiVersion": old["apiVersion"], "kind": old["kind"]}
        if new == old and ownership == self.ownership[key]:
            return copy.deepcopy(old)
        if wish(new) != wish(old):
            new["metadata"]["generation"] += 1
        return self.commit(key, new, ownership)

    def commit(self, key: StoreKey, obj: Object, ownership: Ownership) -> Object:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        obj["metadata"]["managedFields"] = ownership.managed_fields(obj["apiVersion"])
        old = self.objects.get(key)
        self.objects[key], self.ownership[key] = obj, ownership
        self._note(Change(self.version, key, old, obj, obj))
        if obj["metadata"].get("deletionTimestamp") and not obj["metadata"].get("finalizers"):
            self._remove(key)
        return copy.deepcopy(obj)

    def delete(self, key: StoreKey, options: Object) -> Object:
        """With finalizers only marked. Dependents go too, unless orphaned."""
        live = self.get(key)
        uid = (options.get("preconditions") or {}).get("uid")
        if uid and uid != live["metadata"]["uid"]:
            raise ApiError(409, "Conflict", f"Precondition failed: UID {uid} is not {live['metadata']['uid']}")
        foreground = options.get("propagationPolicy") == "Foreground"
        if live["metadata"].get("finalizers") or foreground:
            if not live["metadata"].get("deletionTimestamp"):
                live["metadata"] |= {"deletionTimestamp": stamp()}
                if foreground:
                    live["metadata"]["finalizers"] = [*live["metadata"].get("finalizers", []), "foregroundDeletion"]
                self.commit(key, live, self.ownership[key])
            if foreground:
                self._collect(live["metadata"]["uid"])
                live = self.get(key)
                live["metadata"]["finalizers"] = [
                    f for f in live["metadata"]["finalizers"] if f != "foregroundDeletion"
                ]
                self.commit(key, live, self.ownership[key])
            return live
        self._remove(key, orphan=options.get("propagationPolicy") == "Orphan")
        return live

    def compact(self) -> None:
        """Forget history: a watch from an older version gets 410."""
        self.compacted = self.version
        self.history.clear()

    def _remove(self, key: StoreKey, *, orphan: bool = False) -> None:
        last = self.objects.pop(key)
        del self.ownership[key]
        self.version += 1
        gone = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        self._note(Change(self.version, key, last, None, gone))
        if not orphan:
            self._collect(last["metadata"]["uid"])

    def _collect(self, uid: str) -> None:
        for key, obj in list(self.objects.items()):
            owners = [owner["uid"] for owner in obj["metadata"].get("ownerReferences", [])]
            if owners == [uid] and key in self.objects:
                self.delete(key, {})

    def _note(self, change: Change) -> None:
        self.history.append(change)
        for hook in self.hooks:
            hook(change)
        self._waker = asyncio.get_running_loop().create_task(self._wake())

    async def newer_than(self, version: int) -> None:
        """Wait for a write after the version."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.version > version)

    async def _wake(self) -> None:
        async with self.changed:
            self.changed.notify_all()


def wish(obj: Object) -> tuple[object, object]:
    """What the generation counts changes of. A Deployment counts its annotations in."""
    return obj.get("spec"), obj["metadata"].get("annotations") if obj["kind"] == "Deployment" else None


def stamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: TID251  a server has a clock of its own
