"""Stores follow events, and lists clear their ghosts without undoing newer events."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.kube.interface import Manifest
from headrace.loops.keys import Key
from headrace.loops.stores import ObjectStore, PodStore

CHAT, MAIL = Key("default", "chat"), Key("default", "mail")


def pod(name: str, service: str = "chat", version: int = 1) -> Manifest:
    labels = {"headrace.dev/service": service} if service else {}
    metadata = {"namespace": "default", "name": name, "labels": labels, "resourceVersion": str(version)}
    return {"kind": "Pod", "metadata": {**metadata, "managedFields": [{"manager": "kubelet"}]}}


def names(store: PodStore, service: Key) -> list[str]:
    return [item["metadata"]["name"] for item in store.of(service)]


def test_pods_are_found_by_the_service_in_their_label() -> None:
    store = PodStore()
    for item in (pod("b"), pod("a"), pod("m", "mail"), pod("stray", "")):
        store.upsert(item)
    assert (names(store, CHAT), names(store, MAIL)) == (["a", "b"], ["m"])


def test_a_pod_whose_label_moves_changes_its_service() -> None:
    store = PodStore()
    store.upsert(pod("a"))
    store.upsert(pod("a", "mail"))
    assert (names(store, CHAT), names(store, MAIL)) == ([], ["a"])


def test_a_list_removes_what_a_missed_deletion_left() -> None:
    store = PodStore()
    store.upsert(pod("ghost"))
    store.replace([pod("a")], store.mark())
    assert names(store, CHAT) == ["a"]


def test_a_list_does_not_undo_events_that_came_while_it_travelled() -> None:
    store = PodStore()
    store.upsert(pod("deleted"))
    store.upsert(pod("changed", version=1))
    mark = store.mark()
    store.remove(pod("deleted"))
    store.upsert(pod("changed", version=3))
    store.upsert(pod("added"))
    store.replace([pod("deleted"), pod("changed", version=2)], mark)
    assert names(store, CHAT) == ["added", "changed"]
    assert store.of(CHAT)[1]["metadata"]["resourceVersion"] == "3"


def test_managed_fields_are_not_kept() -> None:
    store = PodStore()
    store.upsert(pod("a"))
    assert "managedFields" not in store.of(CHAT)[0]["metadata"]


def test_removing_what_was_never_seen_is_no_error() -> None:
    store = PodStore()
    store.remove(pod("a"))
    assert len(store) == 0


steps = st.lists(st.tuples(st.sampled_from(["add", "delete", "list"]), st.sampled_from("abcd"), st.booleans()))


@given(steps)
def test_a_store_that_sees_every_event_is_right_after_any_lists(steps: list[tuple[str, str, bool]]) -> None:
    server: dict[str, Manifest] = {}
    store: ObjectStore = PodStore()
    pending: tuple[list[Manifest], int] | None = None
    for number, (step, name, arrives) in enumerate(steps):
        if step == "add":
            server[name] = pod(name, version=number + 1)
            store.upsert(server[name])
        elif step == "delete" and name in server:
            store.remove(server.pop(name))
        elif step == "list":
            pending = pending or (list(server.values()), store.mark())
            if arrives:
                store.replace(*pending)
                pending = None
    assert store.keys() == tuple(Key("default", name) for name in sorted(server))
    for key in store.keys():  # noqa: SIM118  a store is no mapping
        found = store.get(key)
        assert found is not None
        assert found["metadata"]["resourceVersion"] == server[key.name]["metadata"]["resourceVersion"]
