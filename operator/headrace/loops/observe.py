"""Reads what exists for a service: its children by label, namesakes of its children, and its pods."""

import asyncio
from collections.abc import Iterable

from headrace.kube.interface import Kind, Kube, Manifest
from headrace.kube.kinds import CHILD_KINDS, POD, lookup
from headrace.loops.keys import ROLE_LABEL, SERVICE_LABEL, Key
from headrace.reconcile.diff import Ref


async def observe_children(
    kube: Kube, key: Key, desired: Iterable[Manifest], kinds: Iterable[Kind] = CHILD_KINDS
) -> list[Manifest]:
    """Every live child (by label, whether still wanted or not), and whatever else has the name of a wanted one.

    In steady state these are the LISTs alone; a GET is spent only on a wanted object that the label did not find.
    """
    labels = {SERVICE_LABEL: key.name}
    lists = await _together(kube.list(kind, key.namespace, labels) for kind in kinds)
    found = [child for children in lists for child in children]
    known = {Ref.of(child) for child in found}
    missing = [manifest for manifest in desired if Ref.of(manifest) not in known]
    others = await _together(kube.get(lookup(m), key.namespace, m["metadata"]["name"]) for m in missing)
    return found + [other for other in others if other is not None]


async def list_pods(kube: Kube, key: Key, role: str) -> list[Manifest]:
    """The pods of one role, straight from the API server: what a decision to end one of them rests on."""
    return await kube.list(POD, key.namespace, {SERVICE_LABEL: key.name, ROLE_LABEL: role})


async def _together(calls: Iterable) -> list:  # type: ignore[type-arg]
    """All results in order; the first error ends the others and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call) for call in calls]
    except ExceptionGroup as errors:  # not except*: before Python 3.11.4 what that raises comes wrapped in a group
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
