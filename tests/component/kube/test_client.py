"""Retries, timeouts and the gate, on the fake API server with faults."""

import asyncio
import random
from dataclasses import replace

import pytest
from headrace_fakes.apiserver import FakeApiServer
from headrace_fakes.apiserver.server import Fault

from headrace.kube.client import KubeClient, connect, decode
from headrace.kube.events import EventRecorder
from headrace.kube.interface import Forbidden, Invalid, KubeError, NotLeader, Throttled, Unavailable
from headrace.kube.kinds import CONFIG_MAP, EVENT
from headrace.observability.metrics import Metrics
from headrace.settings import Settings


def config_map(**data: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "d", "name": "one"}, "data": data}


class Gate:
    def __init__(self) -> None:
        self.open = True
        self.asked = 0

    def check(self) -> float:
        self.asked += 1
        if not self.open:
            raise NotLeader("closed")
        return 5.0


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_server_that_is_unwell_for_a_moment_is_asked_again(
    kube: KubeClient, server: FakeApiServer, status: int
) -> None:
    server.faults.append(Fault(status, times=2, method="PATCH"))
    applied = await kube.apply(config_map(a="1"), "headrace-operator")
    assert applied["data"] == {"a": "1"}


async def test_advice_to_wait_is_followed(kube: KubeClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": "1"}))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await kube.list(CONFIG_MAP, "d")
    assert loop.time() - begun >= 1.0


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (401, Forbidden), (422, Invalid), (400, Invalid)])
async def test_a_refusal_is_not_tried_again(
    kube: KubeClient, server: FakeApiServer, status: int, error: type[KubeError]
) -> None:
    server.faults.append(Fault(status, times=1, method="PATCH"))
    with pytest.raises(error, match=f"PATCH .*configmaps/one: injected {status}"):
        await kube.apply(config_map(a="1"), "headrace-operator")


async def test_without_retries_one_failure_is_the_answer(kube: KubeClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(503, times=10_000))
    with pytest.raises(Unavailable):
        await kube.once().get(CONFIG_MAP, "d", "one")
    assert server.faults[0].times == 9_999


async def test_retries_end_before_the_deadline(kube: KubeClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(503, times=10_000))
    with pytest.raises(Unavailable):
        await replace(kube, deadline_s=1.0).get(CONFIG_MAP, "d", "one")
    assert 9_900 < server.faults[0].times < 9_999


async def test_a_server_that_hangs_is_unavailable(server: FakeApiServer) -> None:
    server.latency_s = 5.0
    async with connect(4) as api:
        settings = Settings(request_timeout_s=0.2)
        kube = KubeClient.create_for(api, settings, Metrics(), random.Random(1)).once()  # noqa: S311  jitter
        with pytest.raises(Unavailable):
            await kube.get(CONFIG_MAP, "d", "one")


async def test_a_server_that_is_away_is_unavailable(kube: KubeClient, server: FakeApiServer) -> None:
    await server.stop()
    with pytest.raises(Unavailable):
        await kube.once().get(CONFIG_MAP, "d", "one")


async def test_a_restarted_server_is_found_again(kube: KubeClient, server: FakeApiServer) -> None:
    await kube.apply(config_map(a="1"), "headrace-operator")
    await server.stop()
    listing = asyncio.create_task(kube.list(CONFIG_MAP, "d"))
    await asyncio.sleep(0.3)
    await server.start()
    assert len(await listing) == 1


async def test_every_write_asks_the_gate_and_a_closed_gate_lets_nothing_out(
    kube: KubeClient, server: FakeApiServer
) -> None:
    gate = Gate()
    gated = kube.gated(gate)
    await gated.apply(config_map(a="1"), "headrace-operator")
    gate.open = False
    before = len(server.writes)
    for write in (
        gated.apply(config_map(a="2"), "headrace-operator"),
        gated.apply_status(config_map(), "headrace-status"),
        gated.create(config_map()),
        gated.merge_patch(CONFIG_MAP, "d", "one", {"data": {"a": "2"}}),
        gated.delete(CONFIG_MAP, "d", "one"),
    ):
        with pytest.raises(NotLeader):
            await write
    assert len(server.writes) == before
    assert await gated.get(CONFIG_MAP, "d", "one") is not None  # reading needs no lease


async def test_the_gate_is_asked_again_before_each_retry(kube: KubeClient, server: FakeApiServer) -> None:
    gate = Gate()
    server.faults.append(Fault(503, times=1, method="PATCH"))
    await kube.gated(gate).apply(config_map(a="1"), "headrace-operator")
    assert gate.asked == 2


async def test_a_write_that_waited_for_its_turn_asks_the_gate_afterwards(server: FakeApiServer) -> None:
    gate = Gate()
    async with connect(4) as api:
        settings = Settings(max_requests=1)
        kube = KubeClient.create_for(api, settings, Metrics(), random.Random(1)).gated(gate)  # noqa: S311  jitter
        async with kube.slots:
            write = asyncio.create_task(kube.apply(config_map(a="1"), "headrace-operator"))
            await asyncio.sleep(0.05)
            gate.open = False
        with pytest.raises(NotLeader):
            await write
    assert server.writes == []


async def test_a_long_list_comes_in_pages_and_survives_an_expired_page_token(
    kube: KubeClient, server: FakeApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.kube.client.PAGE", 3)
    for number in range(10):
        await kube.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "d", "name": f"c{number}"}}
        )
    server.faults.append(Fault(410, times=1, method="GET"))
    assert len(await kube.list(CONFIG_MAP, "d")) == 10


def test_advice_that_is_no_number_is_ignored() -> None:
    with pytest.raises(Throttled) as caught:
        decode(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"{}", "GET /")
    assert caught.value.retry_after_s is None


def test_a_page_of_a_proxy_is_no_object() -> None:
    with pytest.raises(Unavailable, match="not JSON"):
        decode(200, {}, b"<html>login</html>", "GET /")


class StoppedClock:
    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def now(self) -> float:
        self.at += 0.001
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(0)


async def test_an_event_is_written_once_until_it_is_old_news(kube: KubeClient) -> None:
    clock = StoppedClock()
    recorder = EventRecorder(kube, clock, "pod-1")
    service = {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService",
               "metadata": {"namespace": "d", "name": "chat", "uid": "u"}}  # fmt: skip
    assert await recorder.emit(service, "ScaledUp", "prefill 1 -> 2")
    assert not await recorder.emit(service, "ScaledUp", "prefill 1 -> 2")
    assert await recorder.emit(service, "ScaledUp", "prefill 2 -> 3", type_="Warning")
    clock.at += 3600
    assert await recorder.emit(service, "ScaledUp", "prefill 1 -> 2")
    events = await kube.list(EVENT, "d")
    assert [event["note"] for event in events] == ["prefill 1 -> 2", "prefill 2 -> 3", "prefill 1 -> 2"]
    assert events[0]["regarding"]["name"] == "chat"


async def test_an_event_that_cannot_be_written_disturbs_nobody(kube: KubeClient, server: FakeApiServer) -> None:
    server.faults.append(Fault(403))
    service = {"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "d", "name": "p", "uid": "u"}}
    assert not await EventRecorder(kube, StoppedClock(), "pod-1").emit(service, "R", "x" * 5000)
