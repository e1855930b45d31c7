"""The HTTP side: discovery, CRUD, patches, watches, faults."""

import asyncio
import copy
import json
from dataclasses import dataclass, field
from typing import Any, Self

import jsonpatch
import yaml
from aiohttp import web

from headrace.kube.interface import Kind
from headrace.kube.kinds import ALL_KINDS
from headrace_fakes.apiserver.controllers import DeploymentController
from headrace_fakes.apiserver.fields import Object, Ownership, merge
from headrace_fakes.apiserver.selectors import matches
from headrace_fakes.apiserver.store import WITH_STATUS, ApiError, Change, Store, StoreKey

VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
BOOKMARK_S = 1.0


@dataclass
class Fault:
    """Answer `times` matching requests with a status."""

    status: int
    times: int = 1
    method: str = ""  # empty: any
    contains: str = ""  # part of the path
    headers: dict[str, str] = field(default_factory=dict)


class FakeApiServer:
    """`async with FakeApiServer() as server:` serves on server.url. `writes` lists every request that wrote."""

    def __init__(self, ready_after_s: float = 0.0) -> None:
        self.store = Store()
        self.deployments = DeploymentController(self.store, ready_after_s)
        self.kinds = list(ALL_KINDS)  # take one out: its CRD is not installed
        self.faults: list[Fault] = []
        self.latency_s = 0.0
        self.writes: list[tuple[str, str, str]] = []  # method, path, manager
        self.port = 0
        self._watches: set[asyncio.Task[Any]] = set()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def kubeconfig(self) -> str:
        """YAML that points at this server."""
        return yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "current-context": "fake",
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "fake", "user": {"token": "fake"}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "fake"}}],
        })  # fmt: skip

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self.deployments.stop()

    async def start(self) -> None:
        """Also after `stop`, on the same port and with the same objects: a restart."""
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.drop_watches()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def drop_watches(self) -> None:
        """Break every watch stream in the middle."""
        for task in self._watches:
            task.cancel()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self.latency_s)
        try:
            self._fail_on_purpose(request)
            if (
                request.path in {"/api", "/apis", "/version"}
                or request.path.count("/") + request.path.startswith("/api/") == 3
            ):
                return web.json_response(self._discovery(request.path))
            kind, namespace, name, subresource = self._route(request.path)
            if request.method == "GET" and name is None:
                if request.query.get("watch") in {"true", "1"}:
                    return await self._watch(request, kind, namespace)
                return web.json_response(self._list(request, kind, namespace))
            return await self._object(request, kind, (kind.plural, namespace, name or ""), subresource)
        except ApiError as error:
            status = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": str(error),
                      "reason": error.reason, "code": error.status}  # fmt: skip
            return web.json_response(status, status=error.status, headers=getattr(error, "headers", {}))

    def _fail_on_purpose(self, request: web.Request) -> None:
        for fault in self.faults:
            if fault.times > 0 and fault.method in {"", request.method} and fault.contains in request.path:
                fault.times -= 1
                error = ApiError(fault.status, "Injected", f"injected {fault.status}")
                error.headers = fault.headers  # type: ignore[attr-defined]
                raise error

    def _discovery(self, path: str) -> Object:
        if path == "/version":
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        groups = sorted({kind.api_version for kind in self.kinds if kind.group})
        if path == "/apis":
            listed = []
            for group_version in groups:
                version = {"groupVersion": group_version, "version": group_version.split("/")[1]}
                listed.append({"name": group_version.split("/")[0], "versions": [version], "preferredVersion": version})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
        group_version = path.removeprefix("/apis/").removeprefix("/api/")
        resources: list[Object] = []
        for kind in self.kinds:
            if kind.api_version == group_version:
                entry: Object = {"name": kind.plural, "singularName": kind.kind.lower(), "kind": kind.kind,
                         "namespaced": kind.namespaced, "verbs": VERBS}  # fmt: skip
                resources.append(entry)
                if kind.plural in WITH_STATUS:
                    resources.append({**entry, "name": f"{kind.plural}/status", "verbs": ["get", "patch", "update"]})
        if not resources:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return {"kind": "APIResourceList", "groupVersion": group_version, "resources": resources}

    def _route(self, path: str) -> tuple[Kind, str | None, str | None, str | None]:
        parts = path.strip("/").split("/")
        api_version, rest = ("/".join(parts[1:3]), parts[3:]) if parts[0] == "apis" else (parts[1], parts[2:])
        namespace = None
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        for kind in self.kinds:
            if (kind.api_version, kind.plural) == (api_version, rest[0]):
                return kind, namespace, *([*rest[1:], None, None][:2])  # type: ignore[return-value]
        raise ApiError(404, "NotFound", "the server could not find the requested resource")

    def _list(self, request: web.Request, kind: Kind, namespace: str | None) -> Object:
        selected = [obj for obj in self.store.of(kind.plural, namespace) if matches(obj, request.query)]
        version, _, start = request.query.get("continue", f"{self.store.version}:0").partition(":")
        if int(version) < self.store.compacted:
            raise ApiError(410, "Expired", "The provided continue parameter is too old")
        end = int(start) + int(request.query.get("limit") or len(selected) + 1)
        metadata = {"resourceVersion": version, **({"continue": f"{version}:{end}"} if end < len(selected) else {})}
        items = [
            {n: v for n, v in obj.items() if n not in {"apiVersion", "kind"}} for obj in selected[int(start) : end]
        ]
        return {"kind": f"{kind.kind}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.create_task(self._stream(request, response, kind, namespace))
        self._watches.add(task)
        try:
            await task
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watches.discard(task)
        return response

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, kind: Kind, namespace: str | None
    ) -> None:
        async def send(type_: str, obj: Object) -> None:
            await response.write(json.dumps({"type": type_, "object": obj}).encode() + b"\n")

        seen = int(request.query.get("resourceVersion") or self.store.version)
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query.get("timeoutSeconds") or 1e9)
        while loop.time() < end:
            if seen < self.store.compacted:
                await send("ERROR", {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"})
                return
            for change in [change for change in self.store.history if change.version > seen]:
                if change.key[0] == kind.plural and namespace in {None, change.key[1]}:
                    type_ = event_type(change, request)
                    if type_ is not None:
                        await send(type_, change.last)
                seen = change.version
            try:
                async with asyncio.timeout(min(BOOKMARK_S, max(0.01, end - loop.time()))):
                    await self.store.newer_than(seen)
            except TimeoutError:
                if request.query.get("allowWatchBookmarks"):
                    metadata = {"resourceVersion": str(seen)}
                    await send("BOOKMARK", {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata})

    async def _object(self, request: web.Request, kind: Kind, key: StoreKey, subresource: str | None) -> web.Response:
        if request.method == "GET":
            return web.json_response(self.store.get(key))
        raw = await request.text()
        try:
            body = yaml.safe_load(raw) if "yaml" in request.content_type else json.loads(raw or "{}")
        except ValueError as error:
            raise ApiError(400, "BadRequest", f"not JSON: {error}") from None
        manager = request.query.get("fieldManager") or request.headers.get("User-Agent", "unknown").split("/")[0]
        self.writes.append((request.method, request.path, manager))
        owner = (manager, "Apply" if "apply" in request.content_type else "Update", subresource or "")
        if request.method == "POST":
            return web.json_response(self.store.create(kind, key[1], body, owner), status=201)
        if request.method == "DELETE":
            return web.json_response(self.store.delete(key, body))
        if "apply" in request.content_type:
            return self._apply(request, kind, key, body, owner)
        live = self.store.get(key)
        new = body if request.method == "PUT" else patched(live, body, request.content_type)
        ownership = self.store.ownership[key].update(live, new, owner)
        return web.json_response(self.store.replace(key, new, ownership, status=subresource == "status"))

    def _apply(
        self, request: web.Request, kind: Kind, key: StoreKey, body: Object, owner: tuple[str, str, str]
    ) -> web.Response:
        if "fieldManager" not in request.query:
            raise ApiError(422, "Invalid", "PatchOptions is invalid: fieldManager: Required value")
        if body.get("metadata", {}).get("managedFields"):
            raise ApiError(400, "BadRequest", "metadata.managedFields must be nil")
        created = key not in self.store.objects
        if created and owner[2]:
            raise ApiError(404, "NotFound", f'{kind.plural} "{key[2]}" not found')
        live = {"metadata": {}} if created else self.store.get(key)
        known = Ownership() if created else self.store.ownership[key]
        new, ownership, conflicts = known.apply(
            copy.deepcopy(live), body, owner, force=request.query.get("force") == "true"
        )
        if conflicts:
            raise ApiError(409, "Conflict", f"Apply failed with conflicts: {'; '.join(conflicts)}")
        if created:
            new["metadata"]["name"] = key[2]
            return web.json_response(self.store.create(kind, key[1], new, owner), status=201)
        version = body.get("metadata", {}).get("resourceVersion")
        new["metadata"] |= {"resourceVersion": version} if version else {}
        return web.json_response(self.store.replace(key, new, ownership, status=owner[2] == "status"))


def typeless(obj: Object) -> Object:
    """Items of a list come without apiVersion and kind."""
    return {name: value for name, value in obj.items() if name not in {"apiVersion", "kind"}}


def patched(live: Object, body: Any, content_type: str) -> Object:
    if content_type != "application/json-patch+json":
        return dict(merge(live, body))
    try:
        return dict(jsonpatch.apply_patch(live, body))
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise ApiError(422, "Invalid", f"the server rejected our request: {error}") from None


def event_type(change: Change, request: web.Request) -> str | None:
    """What the change is to a watch with selectors: entering is ADDED, leaving is DELETED."""
    was = change.old is not None and matches(change.old, request.query)
    now = change.new is not None and matches(change.new, request.query)
    return {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}.get((was, now))
