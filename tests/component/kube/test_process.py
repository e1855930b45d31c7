"""The real process, with the real loops, on the fake API server: signals are the only way in."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from headrace_fakes.apiserver import FakeApiServer

from headrace.kube.client import KubeClient
from headrace.kube.kinds import LEASE

RUN = """
from headrace.main import main
from headrace.settings import Settings
raise SystemExit(main(Settings.from_env()))
"""
ENVIRON = {
    "HEADRACE_LEASE_DURATION_S": "3",
    "HEADRACE_LEASE_RENEW_DEADLINE_S": "2",
    "HEADRACE_LEASE_RETRY_S": "0.3",
    "HEADRACE_LISTEN_HOST": "127.0.0.1",
    "HEADRACE_LISTEN_PORT": "0",
    "HEADRACE_AUTOSCALE_INTERVAL_S": "0.2",
}


@asynccontextmanager
async def process(name: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environ = {**os.environ, **ENVIRON, "HEADRACE_IDENTITY": name}
    running = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, env=environ, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGCONT)
            running.kill()
            await running.wait()


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  the state is another process's
            await asyncio.sleep(0.05)


def holder(server: FakeApiServer) -> str:
    for lease in server.store.of("leases"):
        return str(lease["spec"].get("holderIdentity", ""))
    return ""


def service(name: str) -> dict[str, Any]:
    spec = {
        "model": {"source": "hf://Qwen/Qwen3-8B"},
        "accelerator": "nvidia-h100",
        "topology": "Aggregated",
        "slo": {"ttft": "2s", "tpot": "50ms"},
        "worker": {"replicas": {"min": 1, "max": 2}},
    }
    metadata = {"namespace": "default", "name": name}
    return {"apiVersion": "headrace.dev/v1alpha1", "kind": "InferenceService", "metadata": metadata, "spec": spec}


async def test_sigterm_gives_the_lease_back_and_ends_with_success(server: FakeApiServer, kube: KubeClient) -> None:
    async with process("one") as one:
        await until(lambda: holder(server) == "one")
        one.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(one.wait(), 30) == 0
        lease = await kube.get(LEASE, "headrace-system", "headrace-operator")
        assert lease is not None
        assert lease["spec"]["holderIdentity"] == ""


async def test_a_leader_stopped_beyond_its_lease_and_continued_writes_nothing_and_ends(
    server: FakeApiServer, kube: KubeClient
) -> None:
    async with process("one") as one:
        await until(lambda: holder(server) == "one")
        one.send_signal(signal.SIGSTOP)
        await asyncio.sleep(4.0)
        await kube.create(service("chat"))  # work for whoever may write
        before = len(server.writes)
        one.send_signal(signal.SIGCONT)
        assert await asyncio.wait_for(one.wait(), 30) == 1
        assert server.writes[before:] == []


async def test_the_second_process_takes_over_from_a_killed_one_and_does_its_work(
    server: FakeApiServer, kube: KubeClient
) -> None:
    async with process("one") as one:
        await until(lambda: holder(server) == "one")
        await kube.create(service("chat"))
        await until(lambda: ("deployments", "default", "chat-worker") in server.store.objects)
        async with process("two"):
            one.kill()
            await kube.create(service("mail"))
            await until(lambda: holder(server) == "two")
            await until(lambda: ("deployments", "default", "mail-worker") in server.store.objects)


async def test_a_settled_service_costs_no_write(server: FakeApiServer, kube: KubeClient) -> None:
    def own() -> int:
        return sum("/leases/" not in path for _, path, _ in server.writes)

    await kube.create(service("chat"))
    async with process("one"):
        await until(lambda: ("deployments", "default", "chat-gateway") in server.store.objects)
        for _ in range(20):
            before = own()
            await asyncio.sleep(1.5)
            if own() == before:
                break
        await asyncio.sleep(5.0)
        assert server.writes[-1][1].endswith("/leases/headrace-operator")
        assert own() == before
