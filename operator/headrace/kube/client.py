"""The API server through `kubernetes.aio`: one pool, timeouts, a bound on requests, mapped errors, retries."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import aiohttp
import orjson
import tenacity
from kubernetes.aio import client as k8s
from kubernetes.aio import config as k8s_config

from headrace.kube.interface import (
    Conflict,
    Forbidden,
    Invalid,
    Kind,
    KubeError,
    Manifest,
    NotFound,
    Propagation,
    Retryable,
    Throttled,
    Unavailable,
)
from headrace.kube.kinds import lookup
from headrace.observability.metrics import Metrics
from headrace.settings import Settings

T = TypeVar("T")

PAGE = 500  # objects per LIST page: kubectl's own, a few megabytes of pods
APPLY = "application/apply-patch+yaml"  # JSON is YAML
MERGE = "application/merge-patch+json"
JSON = "application/json"
# First wait and longest wait between two tries of one request, in seconds; the draw between them is uniform, so that
# many passes that met the same outage don't come back together.
RETRY_MIN_S, RETRY_MAX_S = 0.1, 5.0


class WriteGate(Protocol):
    """Says before each write whether it may be sent."""

    def check(self) -> float:
        """Seconds that the write may take at most. NotLeader: it must not be sent."""
        ...


class OpenGate:
    """For writes that need no leadership: the Lease itself."""

    def check(self) -> float:
        """Never refuses."""
        return float("inf")


@asynccontextmanager
async def connect(max_connections: int) -> AsyncIterator[k8s.ApiClient]:
    """A client for $KUBECONFIG where it is set, else for the cluster of the pod, else for ~/.kube/config."""
    configuration = k8s.Configuration(connection_pool_maxsize=max_connections)
    configuration.retries = None  # none of its own (0 means for ever): here errors are understood
    try:
        path = os.environ.get("KUBECONFIG")
        if not path and "KUBERNETES_SERVICE_HOST" in os.environ:
            k8s_config.load_incluster_config(client_configuration=configuration)
        else:
            await k8s_config.load_kube_config(config_file=path or None, client_configuration=configuration)
    except k8s_config.ConfigException as error:
        raise Unavailable(f"no way to an API server: {error}; set KUBECONFIG or run in a pod") from error
    async with k8s.ApiClient(configuration) as api:
        yield api


@dataclass(frozen=True)
class KubeClient:
    """Implements headrace.kube.interface.Kube. `once()` and `gated()` give variants on the same connections."""

    api: k8s.ApiClient
    slots: asyncio.Semaphore
    metrics: Metrics
    rng: random.Random  # jitter only
    timeout_s: float
    deadline_s: float  # for a call with its retries; 0: one try
    gate: WriteGate

    @classmethod
    def create_for(cls, api: k8s.ApiClient, settings: Settings, metrics: Metrics, rng: random.Random) -> "KubeClient":
        """A client with the settings' limits and an open gate."""
        return cls(
            api=api,
            slots=asyncio.Semaphore(settings.max_requests),
            metrics=metrics,
            rng=rng,
            timeout_s=settings.request_timeout_s,
            deadline_s=settings.request_deadline_s,
            gate=OpenGate(),
        )

    def gated(self, gate: WriteGate) -> "KubeClient":
        """Every write of the variant asks the gate first."""
        return replace(self, gate=gate)

    def once(self) -> "KubeClient":
        """Without retries, for a caller that has its own."""
        return replace(self, deadline_s=0.0)

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """See Kube."""
        try:
            return await self._retried(lambda: self._send("get", "GET", kind, kind.path(namespace, name)))
        except NotFound:
            return None

    async def create(self, manifest: Manifest) -> Manifest:
        """See Kube."""
        kind = lookup(manifest)
        path = kind.path(manifest["metadata"].get("namespace"))
        return await self._retried(lambda: self._send("create", "POST", kind, path, body=manifest))

    async def apply(self, manifest: Manifest, manager: str, *, force: bool = True) -> Manifest:
        """See Kube."""
        return await self._apply("apply", manifest, manager, force=force, subresource=None)

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """See Kube."""
        return await self._apply("apply_status", manifest, manager, force=True, subresource="status")

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Manifest) -> Manifest:
        """See Kube."""
        path = kind.path(namespace, name)
        return await self._retried(lambda: self._send("patch", "PATCH", kind, path, body=patch, content_type=MERGE))

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
    ) -> bool:
        """See Kube."""
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            options["preconditions"] = {"uid": uid}
        path = kind.path(namespace, name)
        try:
            await self._retried(lambda: self._send("delete", "DELETE", kind, path, body=options))
        except NotFound:
            return False
        return True

    async def _apply(
        self, verb: str, manifest: Manifest, manager: str, *, force: bool, subresource: str | None
    ) -> Manifest:
        kind = lookup(manifest)
        path = kind.path(manifest["metadata"].get("namespace"), manifest["metadata"]["name"], subresource)
        query = {"fieldManager": manager, "force": "true" if force else "false"}
        return await self._retried(
            lambda: self._send(verb, "PATCH", kind, path, query=query, body=manifest, content_type=APPLY)
        )

    async def _list_pages(self, kind: Kind, namespace: str | None, labels: Mapping[str, str]) -> list[Manifest]:
        query = {"limit": str(PAGE)}
        if labels:
            query["labelSelector"] = ",".join(f"{name}={value}".rstrip("=") for name, value in sorted(labels.items()))
        items: list[Manifest] = []
        while True:
            page = await self._send("list", "GET", kind, kind.path(namespace), query=query)
            # Items of a list come without their type.
            items += [{"apiVersion": kind.api_version, "kind": kind.kind, **item} for item in page["items"]]
            token = page.get("metadata", {}).get("continue")
            if not token:
                return items
            query = {**query, "continue": token}

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(Retryable),
            stop=tenacity.stop_before_delay(self.deadline_s) if self.deadline_s else tenacity.stop_after_attempt(1),
            wait=self._wait,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return await call()
        raise AssertionError("tenacity re-raises the last error")

    def _wait(self, state: tenacity.RetryCallState) -> float:
        ceiling = min(RETRY_MAX_S, RETRY_MIN_S * 2**state.attempt_number)  # 0.2, 0.4, 0.8, ... 5 s
        jitter = self.rng.uniform(RETRY_MIN_S, ceiling)
        error = state.outcome.exception() if state.outcome else None
        advice = error.retry_after_s if isinstance(error, Throttled) else None
        return (advice or 0.0) + jitter

    async def _send(
        self,
        verb: str,
        method: str,
        kind: Kind,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content_type: str = JSON,
    ) -> Manifest:
        """One request. Raises the KubeError tree."""
        request = f"{method} {path}"
        async with self.slots:
            # After the wait for a slot and as late as can be: a process that was stopped must find out here.
            left_s = self.gate.check() if method != "GET" else float("inf")
            timeout = aiohttp.ClientTimeout(total=min(self.timeout_s, left_s))
            arguments = await self.api.param_serialize(
                method=method,
                resource_path=path,
                query_params=list((query or {}).items()),
                header_params={"Accept": JSON, "Content-Type": content_type},
                body=body,
                auth_settings=["BearerToken"],
            )
            try:
                response = await self.api.call_api(*arguments, _request_timeout=timeout)
                raw = await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.metrics.api_requests.labels(verb, kind.plural, "error").inc()
                raise Unavailable(str(error) or type(error).__name__, request=request) from error
        self.metrics.api_requests.labels(verb, kind.plural, str(response.status)).inc()
        return decode(response.status, response.headers, raw, request)

    # Last in the class: the name hides the builtin from annotations below it.
    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        """See Kube. Read in pages; a page token that expires starts the list anew."""
        return await self._retried(lambda: self._list_pages(kind, namespace, labels or {}))


def decode(status: int, headers: Mapping[str, str], raw: bytes, request: str) -> Manifest:
    """The object in an answer, or the error that it stands for."""
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = {"message": raw[:200].decode(errors="replace")}  # a proxy's page, not the API server
        if status < 400:
            raise Unavailable(f"answer is not JSON: {body['message']}", request=request) from None
    if status < 400:
        return dict(body)
    message = body.get("message") or f"HTTP {status}"
    if status == 429:
        advice = headers.get("Retry-After", "")
        raise Throttled(message, request=request, retry_after_s=float(advice) if advice.isdigit() else None)
    raise error_class(status)(message, request=request)


def error_class(status: int) -> type[KubeError]:
    """The member of the error tree for an HTTP status of 400 and above, 429 excepted."""
    known: dict[int, type[KubeError]] = {
        401: Forbidden,
        403: Forbidden,
        404: NotFound,
        408: Unavailable,
        409: Conflict,
        410: Unavailable,  # the page token of a LIST has expired: the same list, begun again, works
    }
    return known.get(status, Unavailable if status >= 500 else Invalid)
