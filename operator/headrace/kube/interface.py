"""What Headrace asks of an API server: nine verbs on plain dicts, and one tree of errors.

KubeError
├── NotFound       404, also for a kind that the server doesn't know
├── Conflict       409: another writer was faster, or the name exists
├── Invalid        400, 413, 415, 422: the object itself is wrong; trying again does not help
├── Forbidden      401, 403: a permission is missing
├── NotLeader      our own gate refused the write: the lease is not ours any more
└── Retryable
    ├── Throttled    429, with the server's advice how long to wait
    └── Unavailable  5xx, timeouts, refused or broken connections
"""

# ruff: noqa: N818  these are answers that callers branch on, named as the API server names them
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Manifest = dict[str, Any]
Propagation = Literal["Background", "Foreground", "Orphan"]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of object and where the API server keeps it."""

    api_version: str  # "apps/v1"
    kind: str  # "Deployment"
    plural: str  # "deployments"
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    @property
    def version(self) -> str:
        """The version within the group."""
        return self.api_version.rpartition("/")[2]

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of the collection, the object or its subresource.

        >>> Kind("apps/v1", "Deployment", "deployments").path("default", "chat-prefill", "status")
        '/apis/apps/v1/namespaces/default/deployments/chat-prefill/status'
        """
        root = f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return "/".join(part for part in (f"{root}{scope}", self.plural, name, subresource) if part)


class KubeError(Exception):
    """A request that the API server (or the way to it) refused. `message` is fit for a condition."""

    def __init__(self, message: str, *, request: str = "") -> None:
        super().__init__(f"{request}: {message}" if request else message)
        self.message = message
        self.request = request  # "PATCH /apis/apps/v1/namespaces/default/deployments/chat-prefill"


class NotFound(KubeError):
    """The object, its namespace or its kind does not exist."""


class Conflict(KubeError):
    """Someone else wrote in between, owns the field, or already has the name."""


class Invalid(KubeError):
    """The API server says the object is wrong: its message names the field."""


class Forbidden(KubeError):
    """A permission is missing: the message names verb and resource."""


class NotLeader(KubeError):
    """The write was not sent: this process can't be sure to hold the lease."""


class Retryable(KubeError):
    """The same request may succeed later."""


class Throttled(Retryable):
    """The server asks for patience: `retry_after_s` is its advice, None where it gave none."""

    def __init__(self, message: str, *, request: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, request=request)
        self.retry_after_s = retry_after_s


class Unavailable(Retryable):
    """No answer, or an answer that says the server is unwell."""


class Kube(Protocol):
    """The API server as the loops see it. Every method raises the KubeError tree and nothing else."""

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        """The object, or None where it does not exist."""
        ...

    async def list(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> list[Manifest]:
        """All objects of a namespace (None: of all namespaces) that carry the labels, with apiVersion and kind set.

        An empty value asks for the label alone, whatever its value.
        """
        ...

    async def create(self, manifest: Manifest) -> Manifest:
        """Create the object; Conflict if the name exists."""
        ...

    async def apply(self, manifest: Manifest, manager: str, *, force: bool = True) -> Manifest:
        """Server-side apply: the manager owns exactly the fields in the manifest. Conflict only with force=False."""
        ...

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """Server-side apply of the status subresource; the manifest is identity plus the whole status."""
        ...

    async def merge_patch(self, kind: Kind, namespace: str | None, name: str, patch: Manifest) -> Manifest:
        """JSON merge patch. With metadata.resourceVersion in the patch it is conditional: Conflict on mismatch."""
        ...

    async def delete(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        propagation: Propagation = "Background",
    ) -> bool:
        """Ask for deletion. False: it was gone already. With uid, Conflict where the name now is another object."""
        ...


def kind_of(manifest: Mapping[str, Any]) -> tuple[str, str]:
    """apiVersion and kind of a manifest; Invalid where one is missing."""
    try:
        return manifest["apiVersion"], manifest["kind"]
    except KeyError as missing:
        raise Invalid(f"manifest without {missing.args[0]}") from None
