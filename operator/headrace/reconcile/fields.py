"""Whether a live object still carries what we would apply: values, and whose fields they are.

Server-side apply is idempotent but not free: it costs the API server an admission pass and us a round trip for every
child at every pass. This comparison finds out from the object alone whether an apply would change anything.
It walks three trees at once: the manifest, the live object, and the `fieldsV1` tree of our own field manager.
"""

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

Manifest = dict[str, Any]

# Set by the API server from the request path: no manager owns them.
_UNMANAGED = {"apiVersion", "kind", "metadata.name", "metadata.namespace"}
# Fields of these names hold quantities, which the API server rewrites ("1000m" is read back as "1").
_QUANTITY_PARENTS = {"limits", "requests", "sizeLimit", "capacity", "hard"}
_QUANTITY = re.compile(r"^([+-]?[0-9.]+)(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTORS = {
    "": Decimal(1),
    **{unit: Decimal(10) ** power for unit, power in (("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9))},
    **{unit: Decimal(10) ** power for unit, power in (("T", 12), ("P", 15), ("E", 18))},
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
}
_ABSENT = object()


def drift(manifest: Manifest, live: Manifest, manager: str) -> str | None:
    """The first difference that an apply of `manifest` by `manager` would mend, as a path with its cause; None: none.

    A field counts as drifted when its live value differs, when our manager does not own it (any more), or when we own
    it and the manifest no longer has it. Fields that the server defaulted, or that others set, are theirs.
    """
    owned = owned_fields(live, manager)
    if owned is None:
        return f"nothing is owned by {manager}"
    return next(_drift(manifest, live, owned, ""), None)


def owned_fields(live: Manifest, manager: str) -> dict[str, Any] | None:
    """The `fieldsV1` tree that `manager` owns by apply on the main resource, or None."""
    for entry in live.get("metadata", {}).get("managedFields") or ():
        if entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource"):
            fields = entry.get("fieldsV1")
            return fields if isinstance(fields, dict) else {}
    return None


def _drift(want: Any, live: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    if want is None:  # an explicit null asks for nothing
        return
    granular = any(key != "." for key in owned)
    if isinstance(want, dict) and granular:
        yield from _drift_map(want, live, owned, path)
    elif isinstance(want, list) and granular:
        yield from _drift_list(want, live, owned, path)
    elif not _same(want, live, path):
        yield f"{path} differs"


def _drift_map(want: dict[str, Any], live: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    live = live if isinstance(live, dict) else {}
    for key, value in want.items():
        inner = f"{path}.{key}".lstrip(".")
        if inner in _UNMANAGED or value is None:
            continue
        mine = owned.get(f"f:{key}")
        if mine is None:
            if path == "" and key == "metadata":  # owned only through its labels, annotations and owners
                mine = {}
                if not (value.keys() - {"name", "namespace"}):
                    continue
            else:
                yield f"{inner} is not ours"
                continue
        yield from _drift(value, live.get(key, _ABSENT), mine, inner)
    for key in owned:
        if key.startswith("f:") and want.get(key[2:]) is None:
            yield f"{path}.{key[2:]} is no longer wanted".lstrip(".")


def _drift_list(want: list[Any], live: Any, owned: Mapping[str, Any], path: str) -> Iterator[str]:
    """Associative lists and sets, whose items are owned one by one under `k:{...}` or `v:...`."""
    live = live if isinstance(live, list) else []
    unclaimed = {key: node for key, node in owned.items() if key[:2] in {"k:", "v:"}}
    for item in want:
        key = next((key for key in unclaimed if _is_item(item, key)), None)
        if key is None:
            yield f"{path}[{_label(item)}] is not ours"
            continue
        node = unclaimed.pop(key)
        found = next((other for other in live if _is_item(other, key)), _ABSENT)
        if key.startswith("v:"):
            if found is _ABSENT:
                yield f"{path}[{_label(item)}] is gone"
        else:
            yield from _drift(item, found, node, f"{path}[{_label(item)}]")
    for key in unclaimed:
        yield f"{path}[{key[2:]}] is no longer wanted"


def _is_item(item: Any, key: str) -> bool:
    """Whether a list item is the one that a fieldsV1 key means. A key field that the item leaves out is defaulted."""
    wanted = json.loads(key[2:])
    if key.startswith("v:"):
        return bool(item == wanted)
    return isinstance(item, dict) and all(item.get(name, value) == value for name, value in wanted.items())


def _label(item: Any) -> str:
    if isinstance(item, dict):
        return str(item.get("name") or item.get("uid") or item.get("port") or item.get("containerPort") or "...")
    return str(item)


def _same(want: Any, live: Any, path: str) -> bool:
    """Whether a live value we own whole equals the wanted one, but for what the server defaulted inside."""
    if want is None:
        return True
    if live is _ABSENT or live is None:
        # We own the field, so nobody took it away: the server leaves zero values out when it writes an object.
        return want in ({}, [], "", 0, False)
    if isinstance(want, dict):
        return isinstance(live, dict) and all(
            _same(value, live.get(key, _ABSENT), f"{path}.{key}") for key, value in want.items()
        )
    if isinstance(want, list):
        return (
            isinstance(live, list)
            and len(want) == len(live)
            and all(_same(a, b, path) for a, b in zip(want, live, strict=True))
        )
    return bool(want == live) or _same_quantity(want, live, path)


def _same_quantity(want: Any, live: Any, path: str) -> bool:
    if not _QUANTITY_PARENTS.intersection(path.split(".")):
        return False
    a, b = quantity(want), quantity(live)
    return a is not None and a == b


def quantity(value: Any) -> Decimal | None:
    """The number that a Kubernetes quantity means ("1Gi" is 1073741824), or None if it is none."""
    match = _QUANTITY.match(str(value))
    if not match:
        return None
    try:
        return Decimal(match[1]) * _FACTORS[match[2] or ""]
    except ArithmeticError:
        return None
