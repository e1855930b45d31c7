"""kopf's part: watches, and nothing else. Every event is handed to a sink and forgotten.

Only `on.event` handlers are registered: they write no annotation and set no finalizer. kopf runs in a thread and an
event loop of its own, since on its way out it cancels every task that it finds in its loop.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

import kopf

from headrace.kube.interface import Kind, Manifest
from headrace.kube.kinds import CHILD_KINDS, INFERENCE_SERVICE, LEASE, POD
from headrace.loops.keys import SERVICE_LABEL
from headrace.settings import Settings

# kopf 1.45's own watches end after 70 s without an event or bookmark; these two are the second net (silent streams were
# its most reported fault). Server before client, so that a healthy stream ends by the server's word.
SERVER_TIMEOUT_S, CLIENT_TIMEOUT_S = 240, 300.0
# Objects of one kind handled at one time. A worker lingers for idle_timeout after its event and counts until then: with
# kopf's 5 s, a list of 500 pods would take 35 s to come through.
WORKERS, WORKER_IDLE_S = 64, 0.1
# Waits between kopf's tries on one API call; the last repeats nothing: then the watch itself starts anew.
ERROR_BACKOFFS_S = (1, 2, 4, 8)
# kopf names its watches' tasks so. When one fails (its CRD was removed, its permission withdrawn), kopf logs that and
# goes on without it, so that the process would be blind in one eye; hence they are looked at this often.
WATCH_TASK = "watcher for "
WATCH_CHECK_S = 1.0
# From the first watch to the last a healthy start takes a second; one that failed within it was never seen.
WATCHES_DUE_S = 15.0


class EventSink(Protocol):
    """Where events go. Called in the sink's own event loop, in the order of each watch."""

    def service_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """An InferenceService was seen."""
        ...

    def child_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """An object with our service label was seen."""
        ...

    def pod_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """A pod with our service label was seen."""
        ...

    def lease_event(self, manifest: Manifest, *, deleted: bool) -> None:
        """Our own Lease was seen: the heartbeat of the watches."""
        ...


def build_registry(sink: EventSink, loop: asyncio.AbstractEventLoop) -> kopf.OperatorRegistry:
    """One handler for each kind, which passes the event to the sink in `loop`."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(login)
    _watch(registry, INFERENCE_SERVICE, sink.service_event, loop)
    for kind in CHILD_KINDS:
        _watch(registry, kind, sink.child_event, loop)
    _watch(registry, POD, sink.pod_event, loop)
    _watch(registry, LEASE, sink.lease_event, loop)
    return registry


def build_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf as an informer: no peering, no scanning, no Events, selectors on the server's side."""
    result = kopf.OperatorSettings()
    result.peering.standalone = True
    result.scanning.disabled = True
    result.posting.enabled = False
    result.watching.server_timeout = SERVER_TIMEOUT_S
    result.watching.client_timeout = CLIENT_TIMEOUT_S
    result.queueing.worker_limit = WORKERS
    result.queueing.idle_timeout = WORKER_IDLE_S
    result.networking.error_backoffs = ERROR_BACKOFFS_S
    for kind in (*CHILD_KINDS, POD):
        result.watching.label_selectors[selector(kind)] = SERVICE_LABEL
    # Our Lease alone: without this every kubelet's renewal would wake us, and RBAC could not name the one object.
    result.watching.field_selectors[selector(LEASE)] = f"metadata.name={settings.lease_name}"
    return result


def selector(kind: Kind) -> tuple[str, str, str]:
    """kopf's name for a kind: group, version, plural."""
    return kind.group, kind.version, kind.plural


def login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """The same order as headrace.kube.client.connect: $KUBECONFIG, the pod's service account, ~/.kube/config."""
    if os.environ.get("KUBECONFIG"):
        return kopf.login_with_kubeconfig(settings=settings)
    in_pod = kopf.login_with_service_account(settings=settings)
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if in_pod is not None and host:
        # By address, as our own client goes: kopf's host name needs the cluster's DNS to be up before us.
        return replace(in_pod, server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}")
    return in_pod or kopf.login_with_kubeconfig(settings=settings)


class WatchThread:
    """kopf in its own thread. `start` once; `stop` asks it to end; `failure` is set when it ends by itself."""

    def __init__(self, sink: EventSink, settings: Settings, on_end: Callable[[BaseException | None], None]) -> None:
        """`on_end`: called in the loop that started the thread, when kopf has ended, with what ended it."""
        self._sink = sink
        self._settings = settings
        self._on_end = on_end
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to watch. Events arrive in the calling task's event loop."""
        loop = asyncio.get_running_loop()
        registry = build_registry(self._sink, loop)
        self._thread = threading.Thread(target=self._run, args=(registry, loop), name="kopf", daemon=True)
        self._thread.start()

    async def stop(self, timeout_s: float) -> None:
        """End the watches and wait for the thread, at most for the timeout."""
        self._stop.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self, registry: kopf.OperatorRegistry, loop: asyncio.AbstractEventLoop) -> None:
        def end(failure: BaseException | None) -> None:
            _hand_over(loop, partial(self._on_end, failure))

        try:
            asyncio.run(self._operate(registry, end))
        except BaseException as error:  # whatever ends the watches must end the process
            end(error)

    async def _operate(self, registry: kopf.OperatorRegistry, end: Callable[[BaseException | None], None]) -> None:
        namespaces = {*self._settings.namespaces, self._settings.operator_namespace}
        kinds = len(CHILD_KINDS) + 3  # and InferenceServices, pods, Leases
        expected = kinds * (len(namespaces) if self._settings.namespaces else 1)
        # Before kopf runs, as it ends every task that is younger than itself.
        guard = asyncio.create_task(_until_a_watch_ends(expected), name="watch-guard")
        operator = asyncio.create_task(
            kopf.operator(
                registry=registry,
                settings=build_settings(self._settings),
                standalone=True,
                clusterwide=not self._settings.namespaces,
                namespaces=sorted(namespaces) if self._settings.namespaces else (),
                stop_flag=self._stop,
            )
        )
        done, _ = await asyncio.wait({guard, operator}, return_when=asyncio.FIRST_COMPLETED)
        # Told at once: with a watch gone, kopf may take its time to end the others.
        end(next(iter(done)).exception())
        self._stop.set()
        guard.cancel()
        await asyncio.gather(guard, operator, return_exceptions=True)


class WatchEnded(Exception):  # noqa: N818  an outcome, not a fault
    """One of kopf's watches is over."""


async def _until_a_watch_ends(expected: int) -> None:
    """Raises WatchEnded when one of kopf's watches in this event loop has failed, or fewer than expected appear."""
    watches: set[asyncio.Task[Any]] = set()
    loop = asyncio.get_running_loop()
    due: float | None = None
    while due is None or loop.time() < due or len(watches) >= expected:
        watches |= {task for task in asyncio.all_tasks() if task.get_name().startswith(WATCH_TASK)}
        if watches and due is None:
            due = loop.time() + WATCHES_DUE_S
        for task in watches:
            if task.done() and not task.cancelled():
                raise WatchEnded(f"{task.get_name()}: {task.exception()!r}")
        await asyncio.sleep(WATCH_CHECK_S)
    alive = sorted(task.get_name().removeprefix(WATCH_TASK) for task in watches)
    raise WatchEnded(f"{expected} watches were to run, there are only those for {', '.join(alive)}")


def _watch(
    registry: kopf.OperatorRegistry,
    kind: Kind,
    deliver: Callable[..., None],
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def on_event(event: Mapping[str, Any], **_: Any) -> None:
        manifest = {"apiVersion": kind.api_version, "kind": kind.kind, **event["object"]}
        _hand_over(loop, partial(deliver, manifest, deleted=event["type"] == "DELETED"))

    on_event.__name__ = f"on_{kind.plural}"
    kopf.on.event(*selector(kind), registry=registry)(on_event)


def _hand_over(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: the process is ending
        loop.call_soon_threadsafe(call)
