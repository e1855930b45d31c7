"""One connection to the cluster of the user's kubeconfig, for commands that look and end."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import typer

from headrace.kube.interface import Kube, KubeError

T = TypeVar("T")

# Someone waits in front of the screen: a cluster that does not answer within this time is reported as such.
DEADLINE_S = 5.0
EXIT_FAILED = 1


@asynccontextmanager
async def kube(impersonate: str = "") -> AsyncIterator[Kube]:
    """The API server of $KUBECONFIG, of the pod, or of ~/.kube/config. Raises KubeError."""
    from headrace.kube.client import KubeClient, connect  # noqa: PLC0415  the client library takes a second to import
    from headrace.observability.metrics import Metrics  # noqa: PLC0415
    from headrace.settings import Settings  # noqa: PLC0415

    settings = Settings(request_timeout_s=DEADLINE_S, request_deadline_s=DEADLINE_S)
    async with connect(settings.max_requests) as api:
        if impersonate:
            api.set_default_header("Impersonate-User", impersonate)
        yield KubeClient.create_for(api, settings, Metrics(), random.Random())  # noqa: S311  jitter


def run(work: Callable[[Kube], Awaitable[T]]) -> T:
    """Do the work with a connection; a cluster that can't be asked ends the command with one sentence."""

    async def connected() -> T:
        async with kube() as client:
            return await work(client)

    try:
        return asyncio.run(connected())
    except KubeError as error:
        typer.echo(f"headrace: the cluster cannot be asked: {error}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
