"""The checks of `headrace doctor`: from what the cluster answered to a finding with its mend. No I/O here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from headrace.api import crdgen
from headrace.api.base import API_VERSION
from headrace.catalog.accelerators import ACCELERATORS, Accelerator, UnknownAccelerator, lookup
from headrace.cli.permissions import Permission
from headrace.kube.interface import Manifest

APPLY_CRD = "kubectl apply --server-side -k crds"
APPLY_OPERATOR = "kubectl apply --server-side -k charts/operator"


class Level(StrEnum):
    """How bad a finding is. FAIL: an InferenceService would not be served or not be scaled."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; the mend is empty where nothing is to be done."""

    level: Level
    check: str
    message: str
    mend: str = ""


def check_crd(live: Manifest | None) -> Finding:
    """Is the CRD there, established, and the one of this version?"""
    name = "CRD"
    if live is None:
        return Finding(Level.FAIL, name, "inferenceservices.headrace.dev is not installed", APPLY_CRD)
    established = any(
        c["type"] == "Established" and c["status"] == "True" for c in (live.get("status") or {}).get("conditions") or ()
    )
    if not established:
        return Finding(Level.FAIL, name, "the API server has not established it", "kubectl describe crd " + _name(live))
    wanted = crdgen.crd()["spec"]["versions"][0]
    version = API_VERSION.rpartition("/")[2]
    served = next((v for v in live["spec"]["versions"] if v["name"] == version), None)
    if served is None or not served.get("served"):
        return Finding(Level.FAIL, name, f"version {version} is not served", APPLY_CRD)
    if served.get("schema") != wanted["schema"]:
        return Finding(
            Level.WARN,
            name,
            f"the schema of {version} is of another version of headrace, or edited",
            APPLY_CRD,
        )
    return Finding(Level.OK, name, f"{API_VERSION} is served with this version's schema")


def check_operator(deployment: Manifest | None, lease: Manifest | None, now: float) -> Finding:
    """Does somebody lead, and has renewed in time?"""
    name = "operator"
    spec = (lease or {}).get("spec") or {}
    holder, renewed = spec.get("holderIdentity"), spec.get("renewTime")
    if holder and renewed:
        age_s = now - datetime.fromisoformat(renewed).timestamp()
        if age_s <= spec.get("leaseDurationSeconds", 15):
            return Finding(Level.OK, name, f"{holder} leads and renewed its Lease {max(0.0, age_s):.0f} s ago")
    if deployment is None:
        return Finding(Level.FAIL, name, "nobody leads and there is no Deployment headrace-operator", APPLY_OPERATOR)
    ready = (deployment.get("status") or {}).get("readyReplicas", 0)
    message = f"nobody leads (last holder: {holder or 'none'}); {ready} operator pods are ready"
    namespace = deployment["metadata"]["namespace"]
    return Finding(Level.FAIL, name, message, f"kubectl -n {namespace} logs deployment/headrace-operator")


def check_permissions(allowed: Mapping[Permission, bool], who: str) -> Finding:
    """May the operator do all that it needs?"""
    missing = [str(permission) for permission, yes in allowed.items() if not yes]
    if not missing:
        return Finding(Level.OK, "permissions", f"{who} may do all {len(allowed)} things that it needs")
    shown = ", ".join(missing[:6]) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
    return Finding(Level.FAIL, "permissions", f"{who} may not: {shown}", APPLY_OPERATOR)


def check_accelerators(nodes: Sequence[Manifest], services: Sequence[Manifest]) -> list[Finding]:
    """Is there a node for every accelerator in use; and without any service, for which of the catalogue?"""
    used = sorted({str((service.get("spec") or {}).get("accelerator", "")) for service in services} - {""})
    if used:
        return [_accelerator(nodes, name) for name in used]
    present = [entry.name for entry in ACCELERATORS.values() if _fitting(nodes, entry)]
    if present:
        return [Finding(Level.OK, "accelerators", f"nodes offer: {', '.join(sorted(present))}")]
    return [Finding(Level.FAIL, "accelerators", "no node is ready", "kubectl get nodes")]


def _accelerator(nodes: Sequence[Manifest], name: str) -> Finding:
    check = f"accelerator {name}"
    try:
        entry = lookup(name)
    except UnknownAccelerator as error:
        return Finding(Level.FAIL, check, str(error), "set spec.accelerator to a catalogue entry")
    fitting = _fitting(nodes, entry)
    if fitting:
        total = sum(_amount(node, entry.resource_name) for node in fitting) if entry.resource_name else None
        what = f"{total} of {entry.resource_name} on {len(fitting)} nodes" if total is not None else "plain CPU nodes"
        return Finding(Level.OK, check, what)
    selector = ",".join(f"{key}={value}" for key, value in entry.node_selector.items())
    wanted = " with ".join(filter(None, (selector, entry.resource_name))) or "any"
    mend = "add such nodes, install the device plugin and feature discovery, or set another spec.accelerator"
    return Finding(Level.FAIL, check, f"no ready node fits (wanted: {wanted})", mend)


def _fitting(nodes: Iterable[Manifest], entry: Accelerator) -> list[Manifest]:
    return [
        node
        for node in nodes
        if is_ready(node)
        and not (node.get("spec") or {}).get("unschedulable")
        and entry.node_selector.items() <= (node["metadata"].get("labels") or {}).items()
        and (entry.resource_name is None or _amount(node, entry.resource_name) > 0)
    ]


def _amount(node: Manifest, resource: str | None) -> int:
    return int(((node.get("status") or {}).get("allocatable") or {}).get(resource, 0))


def check_prometheus(url: str, answer: Mapping[str, Any] | None, problem: str, services: int) -> Finding:
    """Does Prometheus answer, and does it scrape engines? `answer`: the response to a query for their `up`."""
    if not url:
        message = "no URL is set: signals come from the engines alone"
        return Finding(Level.WARN, "Prometheus", message, "set HEADRACE_PROMETHEUS_URL on the operator")
    if answer is None:
        return Finding(
            Level.WARN, "Prometheus", f"{url} does not answer: {problem}", "correct the URL, or open the way to it"
        )
    series = (answer.get("data") or {}).get("result") or ()
    up = sum(float(entry["value"][1]) == 1 for entry in series)
    if services and not up:
        message = f"{url} answers and scrapes no engine ({len(series)} targets, none up)"
        return Finding(Level.WARN, "Prometheus", message, "scrape the pods labelled headrace.dev/role (runbook)")
    return Finding(Level.OK, "Prometheus", f"{url} answers; {up} engines and gateways are scraped")


def check_service(service: Manifest) -> Finding:
    """What the service's own conditions say."""
    name = f"service {service['metadata'].get('namespace', 'default')}/{_name(service)}"
    conditions = {c["type"]: c for c in (service.get("status") or {}).get("conditions") or ()}
    if not conditions:
        return Finding(Level.FAIL, name, "has no status: no operator has seen it", "see the check `operator`")
    stalled, ready = conditions.get("Stalled", {}), conditions.get("Ready", {})
    if stalled.get("status") == "True":
        return Finding(Level.FAIL, name, f"{stalled['reason']}: {stalled['message']}", "docs/runbook.md")
    if ready.get("status") != "True":
        return Finding(Level.WARN, name, f"{ready.get('reason')}: {ready.get('message')}", "docs/runbook.md")
    signals = conditions.get("SignalsHealthy", {})
    if signals.get("status") == "False":
        return Finding(Level.WARN, name, f"{signals['reason']}: {signals['message']}", "docs/runbook.md")
    return Finding(Level.OK, name, str(ready.get("message") or "Ready"))


def is_ready(node: Manifest) -> bool:
    """Whether a node is Ready."""
    return any(
        c["type"] == "Ready" and c["status"] == "True" for c in (node.get("status") or {}).get("conditions") or ()
    )


def _name(manifest: Manifest) -> str:
    return str(manifest["metadata"]["name"])
