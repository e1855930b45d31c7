"""The whole shell on the fake API server: kopf's watches, the queue, the election; the leader's work is a recorder."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from headrace_fakes.apiserver import FakeApiServer

from headrace.clock import SystemClock
from headrace.kube.client import KubeClient, connect
from headrace.kube.interface import NotLeader
from headrace.kube.kinds import CONFIG_MAP, DEPLOYMENT, INFERENCE_SERVICE, LEASE, POD
from headrace.loops.keys import Key
from headrace.loops.lease import LeadershipLost
from headrace.loops.supervisor import Loops, Operator, Parts, WatchesEnded
from headrace.observability.metrics import Metrics
from headrace.settings import Settings

CHAT = Key("default", "chat")
LABELS = {"headrace.dev/service": "chat", "headrace.dev/role": "decode"}
# The ratios of the defaults, ten times as fast.
FAST = {
    "lease_duration_s": 1.5,
    "lease_renew_deadline_s": 1.0,
    "lease_retry_s": 0.2,
    "request_timeout_s": 2.0,
    "request_deadline_s": 5.0,
    "listen_host": "127.0.0.1",
    "listen_port": 0,
    "backoff_base_s": 0.05,
}

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


class Recorder:
    """Passes and ticks instead of the real loops. With `write`, each pass writes a ConfigMap as a real one would."""

    def __init__(self) -> None:
        self.passes: list[Key] = []
        self.parts: Parts | None = None
        self.write = False

    def make(self, parts: Parts) -> Loops:
        self.parts = parts
        return Loops(reconcile=self.reconcile, autoscale=asyncio.Event().wait, close=self.close)  # type: ignore[arg-type]

    async def reconcile(self, key: Key) -> float | None:
        self.passes.append(key)
        if self.write and self.parts is not None:
            await self.parts.kube.apply(config_map(key.name), "headrace-operator")
        return None

    async def close(self) -> None:
        pass


class Instance:
    """One running operator."""

    def __init__(self, operator: Operator, recorder: Recorder, task: "asyncio.Task[None]", stop: asyncio.Event) -> None:
        self.operator, self.recorder, self.task, self.stop = operator, recorder, task, stop

    @property
    def leads(self) -> bool:
        return self.operator.metrics.registry.get_sample_value("headrace_leader") == 1.0

    async def end(self) -> None:
        self.stop.set()
        await self.task


@asynccontextmanager
async def started(name: str = "one", *, recorder: Recorder | None = None, **changes: Any) -> AsyncIterator[Instance]:
    settings = Settings.model_validate({**FAST, "identity": name, **changes})
    recorder = recorder or Recorder()
    async with connect(settings.max_requests) as api:
        metrics, rng = Metrics(), random.Random(name)  # noqa: S311  jitter
        kube = KubeClient.create_for(api, settings, metrics, rng)
        operator = Operator(settings, kube, recorder.make, clock=SystemClock(), rng=rng, metrics=metrics)
        stop = asyncio.Event()
        task = asyncio.create_task(operator.run(stop))
        try:
            yield Instance(operator, recorder, task, stop)
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.02)


def service(name: str = "chat", namespace: str = "default") -> dict[str, Any]:
    metadata = {"namespace": namespace, "name": name}
    return {"apiVersion": INFERENCE_SERVICE.api_version, "kind": "InferenceService", "metadata": metadata,
            "spec": {"model": {"source": "hf://a/b"}}}  # fmt: skip


def config_map(service: str = "chat", **data: str) -> dict[str, Any]:
    metadata = {"namespace": "default", "name": f"{service}-engine", "labels": {"headrace.dev/service": service}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {"a": "1"}}


def deployment(replicas: int = 2) -> dict[str, Any]:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "e", "image": "i"}]}}
    return {"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": "default", "name": "chat-decode", "labels": LABELS},
            "spec": {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": template}}  # fmt: skip


def own_writes(server: FakeApiServer) -> list[tuple[str, str, str]]:
    """All writes but the Lease's renewals."""
    return [write for write in server.writes if "/leases" not in write[1]]


async def settled(instance: Instance) -> None:
    """Until no pass has come for half a second."""
    count = -1
    while count != len(instance.recorder.passes):
        count = len(instance.recorder.passes)
        await asyncio.sleep(0.5)


async def test_services_children_and_pods_become_keys_and_nothing_is_written(
    server: FakeApiServer, kube: KubeClient
) -> None:
    await kube.create(service())
    async with started() as one:
        await until(lambda: one.recorder.passes == [CHAT])
        for change in (
            lambda: kube.create(config_map()),
            lambda: kube.apply(deployment(), "someone"),
            lambda: kube.merge_patch(CONFIG_MAP, "default", "chat-engine", {"data": {"a": "edited"}}),
            lambda: kube.delete(CONFIG_MAP, "default", "chat-engine"),
            lambda: kube.merge_patch(INFERENCE_SERVICE, "default", "chat", {"metadata": {"annotations": {"x": "y"}}}),
        ):
            await settled(one)
            before = len(one.recorder.passes)
            await change()
            await until(lambda seen=before: len(one.recorder.passes) > seen)  # type: ignore[misc]
        parts = one.recorder.parts
        assert parts is not None
        await until(lambda: len(parts.pods.of(CHAT)) == 2)
        await kube.delete(DEPLOYMENT, "default", "chat-decode")
        await until(lambda: len(parts.pods.of(CHAT)) == 0)
        await settled(one)
        written = [write for write in own_writes(server) if write[2] not in {"someone", "OpenAPI-Generator"}]
        assert written == []  # kopf wrote no annotation, no finalizer, no Event
        live = await kube.get(INFERENCE_SERVICE, "default", "chat")
        assert live is not None
        assert live["metadata"]["annotations"] == {"x": "y"}
        assert "finalizers" not in live["metadata"]


async def test_a_write_to_the_status_alone_makes_no_pass(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    async with started() as one:
        await until(lambda: one.recorder.passes == [CHAT])
        await settled(one)
        before = len(one.recorder.passes)
        await kube.apply_status(service() | {"status": {"observedGeneration": 1}}, "headrace-status")
        await settled(one)
        assert len(one.recorder.passes) == before


async def test_in_steady_state_only_the_lease_is_written(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    recorder = Recorder()
    recorder.write = True
    async with started(recorder=recorder) as one:
        await until(lambda: len(server.writes) > 2)
        await settled(one)
        before = len(own_writes(server))
        await asyncio.sleep(2)
        assert len(own_writes(server)) == before


async def test_a_deleted_service_is_queued_and_forgotten(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    async with started() as one:
        await until(lambda: one.recorder.passes == [CHAT])
        await settled(one)
        before = len(one.recorder.passes)
        await kube.delete(INFERENCE_SERVICE, "default", "chat")
        await until(lambda: len(one.recorder.passes) > before)
        assert one.recorder.parts is not None
        assert one.recorder.parts.services.keys() == ()


@pytest.mark.parametrize("compacted", [False, True], ids=["dropped", "compacted"])
async def test_changes_made_while_the_watches_were_broken_are_seen(
    server: FakeApiServer, kube: KubeClient, compacted: bool
) -> None:
    await kube.create(service())
    async with started() as one:
        await until(lambda: one.recorder.passes == [CHAT])
        await settled(one)
        server.drop_watches()
        await kube.create(service("mail"))
        if compacted:
            server.store.compact()  # the watch's version is too old now: 410, and a new list
        await until(lambda: Key("default", "mail") in one.recorder.passes)


async def test_a_restart_of_the_api_server_within_the_lease_is_ridden_out(
    server: FakeApiServer, kube: KubeClient
) -> None:
    await kube.create(service())
    # The defaults' lease, so that a loaded machine does not lose it meanwhile.
    async with started(lease_duration_s=15.0, lease_renew_deadline_s=10.0) as one:
        await until(lambda: one.leads)
        await server.stop()
        await asyncio.sleep(0.5)
        await server.start()
        await kube.create(service("mail"))
        await until(lambda: Key("default", "mail") in one.recorder.passes)
        assert one.leads
        assert not one.task.done()


async def test_a_deletion_that_no_watch_showed_is_found_by_the_resync(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    async with started(resync_s=0.5) as one:
        await until(lambda: one.leads)
        parts = one.recorder.parts
        assert parts is not None
        await settled_store(parts)
        ghost = service("ghost")
        parts.services.upsert(ghost)
        await until(lambda: Key("default", "ghost") in one.recorder.passes)
        await settled_store(parts)


async def settled_store(parts: Parts) -> None:
    await until(lambda: parts.services.keys() == (CHAT,))


async def test_of_two_operators_one_acts_and_the_other_takes_over_when_it_stops(
    server: FakeApiServer, kube: KubeClient
) -> None:
    await kube.create(service())
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(started("one"))
        await until(lambda: one.leads)
        two = await stack.enter_async_context(started("two"))
        await until(lambda: two.operator.health.synced)
        await asyncio.sleep(1)
        assert not two.leads
        assert two.recorder.passes == []
        assert two.recorder.parts is not None
        assert two.recorder.parts.services.keys() == (CHAT,)  # a follower knows what there is
        await one.end()
        lease = await kube.get(LEASE, "headrace-system", "headrace-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] in {"", "two"}  # released, not run out
        await until(lambda: two.leads)
        await until(lambda: two.recorder.passes == [CHAT])


async def test_a_leader_without_an_api_server_ends_and_cannot_write(server: FakeApiServer, kube: KubeClient) -> None:
    async with started() as one:
        await until(lambda: one.leads)
        await server.stop()
        with pytest.raises(LeadershipLost):
            await asyncio.wait_for(one.task, 30)
        await server.start()
        assert one.recorder.parts is not None
        with pytest.raises(NotLeader):
            await one.recorder.parts.kube.apply(config_map(), "headrace-operator")


async def test_it_waits_for_its_crd_and_says_so(server: FakeApiServer, kube: KubeClient) -> None:
    server.kinds.remove(INFERENCE_SERVICE)
    async with started() as one:
        await until(lambda: one.operator.port > 0)
        await until(lambda: "CustomResourceDefinition" in one.operator.health.waiting_for)
        status, text = await probe(one, "readyz")
        assert (status, "kubectl apply -k crds" in text) == (503, True)
        assert (await probe(one, "healthz"))[0] == 200
        server.kinds.append(INFERENCE_SERVICE)
        await kube.create(service())
        await until(lambda: one.recorder.passes == [CHAT])
        assert (await probe(one, "readyz"))[0] == 200


@pytest.mark.parametrize("after_s", [0.0, 2.5], ids=["while starting", "later"])
async def test_a_crd_that_is_removed_ends_the_process_and_gives_the_lease_back(
    server: FakeApiServer, kube: KubeClient, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    monkeypatch.setattr("headrace.handlers.WATCHES_DUE_S", 5.0)
    async with started() as one:
        await until(lambda: one.leads)
        await until(lambda: one.operator.health.heartbeat_at is not None)
        await asyncio.sleep(after_s)
        server.kinds.remove(INFERENCE_SERVICE)
        server.drop_watches()
        with pytest.raises(WatchesEnded):
            await asyncio.wait_for(one.task, 30)
        lease = await kube.get(LEASE, "headrace-system", "headrace-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""


async def test_named_namespaces_are_served_alone(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    await kube.create(service(namespace="other"))
    async with started(namespaces=("default",)) as one:
        await until(lambda: one.recorder.passes == [CHAT])
        await kube.create(service("late", namespace="other"))
        await kube.create(service("mail"))
        await until(lambda: Key("default", "mail") in one.recorder.passes)
        assert {key.namespace for key in one.recorder.passes} == {"default"}


async def test_the_probes_and_metrics_tell_of_watch_and_leadership(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    async with started() as one:
        await until(lambda: one.operator.health.heartbeat_at is not None)
        await until(lambda: len(one.recorder.passes) == 1)
        status, text = await probe(one, "metrics")
        assert status == 200
        for line in (
            "headrace_leader 1.0",
            "headrace_watch_age_seconds ",
            'headrace_reconcile_seconds_count{outcome="ok"} ',
        ):
            assert line in text
        assert await probe(one, "healthz") == (200, "ok\n")


async def probe(one: Instance, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{one.operator.port}/{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_a_pod_that_is_relabelled_leaves_its_service(server: FakeApiServer, kube: KubeClient) -> None:
    await kube.create(service())
    await kube.create(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": "p", "labels": LABELS}}
    )
    async with started() as one:
        parts = one.recorder.parts
        assert parts is not None
        await until(lambda: len(parts.pods.of(CHAT)) == 1)
        await until(lambda: one.operator.health.heartbeat_at is not None)
        await kube.merge_patch(POD, "default", "p", {"metadata": {"labels": {"headrace.dev/service": None}}})
        await until(lambda: len(parts.pods.of(CHAT)) == 0)
