"""Patches and field ownership. Lists are atomic here; the real server merges some of them by key."""

from collections.abc import Mapping
from typing import Any

Path = tuple[str, ...]
Object = dict[str, Any]

# Never owned by anybody: identity, and what the server itself keeps.
UNOWNED = {
    ("apiVersion",),
    ("kind",),
    *(
        ("metadata", name)
        for name in (
            "name", "generateName", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp",
            "deletionTimestamp", "managedFields",
        )
    ),
}  # fmt: skip


def leaves(value: Any, at: Path = ()) -> dict[Path, Any]:
    """Every leaf under the value by its path."""
    if isinstance(value, dict) and value:
        return {path: leaf for name, item in value.items() for path, leaf in leaves(item, (*at, name)).items()}
    return {} if not at or at in UNOWNED else {at: value}


def assign(target: Object, path: Path, value: Any) -> None:
    for name in path[:-1]:
        inner = target.get(name)
        target[name] = inner if isinstance(inner, dict) else {}
        target = target[name]
    target[path[-1]] = value


def discard(target: Object, path: Path) -> None:
    """Remove the leaf and the parents that it leaves empty."""
    if len(path) > 1:
        inner = target.get(path[0])
        if isinstance(inner, dict):
            discard(inner, path[1:])
            if not inner:
                del target[path[0]]
    else:
        target.pop(path[0], None)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


class Ownership:
    """Who owns which leaf of one object: (manager, operation, subresource) -> paths."""

    def __init__(self, owners: Mapping[tuple[str, str, str], frozenset[Path]] | None = None) -> None:
        self.owners = dict(owners or {})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ownership) and self.owners == other.owners

    __hash__ = None  # type: ignore[assignment]

    def apply(
        self, live: Object, applied: Object, owner: tuple[str, str, str], *, force: bool
    ) -> tuple[Object, "Ownership", list[str]]:
        """Server-side apply onto a deep copy `live`: the object, the new ownership, and "manager: path" conflicts."""
        wanted, current = leaves(applied), leaves(live)
        result = Ownership(self.owners)
        conflicts: list[str] = []
        for other, paths in self.owners.items():
            taken = {path for path in paths & wanted.keys() if other != owner and current.get(path) != wanted[path]}
            conflicts += [f"{other[0]}: .{'.'.join(path)}" for path in sorted(taken)]
            result.owners[other] = paths - taken
        if conflicts and not force:
            return live, self, conflicts
        result.owners[owner] = frozenset(wanted)
        owned = frozenset().union(*result.owners.values())
        for path in self.owners.get(owner, frozenset()) - owned:
            discard(live, path)
        for path, value in wanted.items():
            assign(live, path, value)
        return live, result.tidied(), []

    def update(self, old: Object, new: Object, owner: tuple[str, str, str]) -> "Ownership":
        """A create, update or patch: the leaves that it changed belong to its manager alone."""
        before, after = leaves(old), leaves(new)
        gone = before.keys() - after.keys()
        changed = {path for path, value in after.items() if path not in before or before[path] != value}
        result = Ownership({who: paths - gone - changed for who, paths in self.owners.items()})
        result.owners[owner] = result.owners.get(owner, frozenset()) | changed
        return result.tidied()

    def tidied(self) -> "Ownership":
        return Ownership({who: paths for who, paths in self.owners.items() if paths})

    def managed_fields(self, api_version: str) -> list[Object]:
        """The metadata.managedFields form."""
        entries = []
        for (manager, operation, subresource), paths in sorted(self.owners.items()):
            tree: Object = {}
            for path in sorted(paths):
                assign(tree, tuple(f"f:{name}" for name in path), {})
            entry = {"manager": manager, "operation": operation, "apiVersion": api_version, "fieldsType": "FieldsV1"}
            entries.append({**entry, "fieldsV1": tree, **({"subresource": subresource} if subresource else {})})
        return entries
