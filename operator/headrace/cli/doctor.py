"""`headrace doctor`: what on this cluster would stop an InferenceService, each with its mend."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from headrace.cli import checks
from headrace.cli.checks import Finding, Level
from headrace.cli.permissions import REQUIRED, Permission
from headrace.kube.interface import Forbidden, Kube, KubeError, Manifest
from headrace.kube.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, INFERENCE_SERVICE, LEASE, NODE

OPERATOR = "headrace-operator"
CRD_NAME = "inferenceservices.headrace.dev"
TARGETS_QUERY = 'up{role=~"prefill|decode|worker|gateway"}'
TIMEOUT_S = 5.0  # for Prometheus: a person waits

Connect = Callable[[str], AbstractAsyncContextManager[Kube]]  # as whom, "" for oneself
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Only services of this namespace.")]
OperatorNamespace = Annotated[str, typer.Option("--operator-namespace", help="Where the operator runs.")]
PrometheusUrl = Annotated[str, typer.Option("--prometheus-url", help="Default: what the operator is told.")]
AsJson = Annotated[bool, typer.Option("--json", help="The findings as JSON.")]


def doctor(
    namespace: Namespace = None,
    operator_namespace: OperatorNamespace = "headrace-system",
    prometheus_url: PrometheusUrl = "",
    as_json: AsJson = False,
) -> None:
    """Find what on this cluster would stop an InferenceService; every finding comes with its mend.

    Exit status 1 if something would stop it.

    Example: headrace doctor --namespace default
    """
    from headrace.cli.connection import kube  # noqa: PLC0415  the client library takes a second to import
    from headrace.clock import SystemClock  # noqa: PLC0415

    async def collect() -> list[Finding]:
        found = examine(kube, namespace, operator_namespace, prometheus_url, SystemClock().now)
        return [finding async for finding in found]

    findings = asyncio.run(collect())
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        show(findings)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(1)


def show(findings: list[Finding]) -> None:
    """One line a finding, and its mend below."""
    colours = {Level.OK: typer.colors.GREEN, Level.WARN: typer.colors.YELLOW, Level.FAIL: typer.colors.RED}
    for finding in findings:
        typer.echo(typer.style(f"{finding.level:<4}", fg=colours[finding.level]), nl=False)
        typer.echo(f" {finding.check}: {finding.message}")
        if finding.mend:
            typer.echo(f"     mend: {finding.mend}")


async def examine(
    connect: Connect, namespace: str | None, operator_namespace: str, prometheus_url: str, now: Callable[[], float]
) -> AsyncIterator[Finding]:
    """All findings. A part of the cluster that can't be read is a finding too, never an error."""
    try:
        async with connect("") as kube:
            crd = await kube.get(CUSTOM_RESOURCE_DEFINITION, None, CRD_NAME)
            yield Finding(Level.OK, "API server", "answers")
            yield checks.check_crd(crd)
            deployment = await kube.get(DEPLOYMENT, operator_namespace, OPERATOR)
            lease = await kube.get(LEASE, operator_namespace, OPERATOR)
            yield checks.check_operator(deployment, lease, now())
            yield await permissions(connect, operator_namespace)
            services = await kube.list(INFERENCE_SERVICE, namespace) if crd else []
            for finding in checks.check_accelerators(await kube.list(NODE), services):
                yield finding
            yield await prometheus(prometheus_url or told_url(deployment), len(services))
            for service in services:
                yield checks.check_service(service)
    except KubeError as error:
        mend = "grant it" if isinstance(error, Forbidden) else "check KUBECONFIG and the way to the API server"
        yield Finding(Level.FAIL, "API server", str(error), mend)


async def permissions(connect: Connect, operator_namespace: str) -> Finding:
    """The operator's permissions: asked as itself in its pod, elsewhere by impersonating its ServiceAccount."""
    account = f"system:serviceaccount:{operator_namespace}:{OPERATOR}"
    itself = "KUBERNETES_SERVICE_HOST" in os.environ and not os.environ.get("KUBECONFIG")
    try:
        async with connect("" if itself else account) as operator:
            answers = await asyncio.gather(*(_allowed(operator, each, operator_namespace) for each in REQUIRED))
    except Forbidden as error:
        mend = f"run it in the operator: kubectl -n {operator_namespace} exec deploy/{OPERATOR} -- headrace doctor"
        return Finding(Level.WARN, "permissions", f"cannot be asked as {account}: {error.message}", mend)
    return checks.check_permissions(dict(zip(REQUIRED, answers, strict=True)), OPERATOR)


async def _allowed(kube: Kube, permission: Permission, operator_namespace: str) -> bool:
    answer = await kube.create(permission.review(operator_namespace))
    return bool((answer.get("status") or {}).get("allowed"))


def told_url(deployment: Manifest | None) -> str:
    """The Prometheus URL that the operator's Deployment sets; empty where it sets none."""
    pod = ((deployment or {}).get("spec") or {}).get("template", {}).get("spec") or {}
    for container in pod.get("containers") or ():
        for variable in container.get("env") or ():
            if variable["name"] == "HEADRACE_PROMETHEUS_URL":
                return str(variable.get("value") or "")
    return ""


async def prometheus(url: str, services: int) -> Finding:
    """Ask Prometheus which engines it scrapes."""
    answer, problem = await _ask(url) if url else (None, "")
    return checks.check_prometheus(url, answer, problem, services)


async def _ask(url: str) -> tuple[dict[str, Any] | None, str]:
    import aiohttp  # noqa: PLC0415  only where there is a Prometheus

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(f"{url.rstrip('/')}/api/v1/query", params={"query": TARGETS_QUERY}) as response,
        ):
            if response.status != 200:
                return None, f"HTTP {response.status}"
            body: dict[str, Any] = await response.json()
            return body, ""
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return None, str(error) or type(error).__name__
