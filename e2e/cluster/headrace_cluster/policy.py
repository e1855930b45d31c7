"""What is applied to every cluster: the policy that lends pods the machine's environment, and rights of components."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace_cluster import images

POLICY = "headrace-environment"
_ADMISSION = "admissionregistration.k8s.io/v1"
RBAC = "rbac.authorization.k8s.io/v1"
_FORMS = (images.PREFIX, f"docker.io/{images.PREFIX}")


def volume_names(folders: Sequence[Path]) -> dict[str, Path]:
    """A volume name per mounted folder."""
    return {f"headrace-env-{number}": folder for number, folder in enumerate(folders)}


def _quoted(text: object) -> str:
    return json.dumps(str(text))  # a JSON string is a CEL string


def _mutation(volumes: Mapping[str, Path]) -> str:
    """The CEL expression that adds the volumes, and mounts to those containers only that use the project's images."""
    sources = ", ".join(
        f"Object.spec.volumes{{name: {_quoted(name)}, "
        f"hostPath: Object.spec.volumes.hostPath{{path: {_quoted(folder)}}}}}"
        for name, folder in volumes.items()
    )

    def containers(kind: str) -> str:
        mounts = ", ".join(
            f"Object.spec.{kind}.volumeMounts{{name: {_quoted(name)}, mountPath: {_quoted(folder)}, readOnly: true}}"
            for name, folder in volumes.items()
        )
        return (
            f"object.spec.{kind}.filter(c, variables.ours.exists(form, c.image.startsWith(form)))"
            f".map(c, Object.spec.{kind}{{name: c.name, volumeMounts: [{mounts}]}})"
        )

    init = f"has(object.spec.initContainers) ? {containers('initContainers')} : []"
    return (
        f"Object{{spec: Object.spec{{volumes: [{sources}], containers: {containers('containers')}, "
        f"initContainers: {init}}}}}"
    )


def _environment_policy(folders: Sequence[Path]) -> dict[str, Any]:
    forms = f"[{', '.join(map(_quoted, _FORMS))}]"
    every = "(object.spec.containers + (has(object.spec.initContainers) ? object.spec.initContainers : []))"
    return {
        "apiVersion": _ADMISSION,
        "kind": "MutatingAdmissionPolicy",
        "metadata": {"name": POLICY},
        "spec": {
            "failurePolicy": "Fail",
            "reinvocationPolicy": "IfNeeded",
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
                ]
            },
            "variables": [{"name": "ours", "expression": forms}],
            "matchConditions": [
                {
                    "name": "uses-a-headrace-image",
                    "expression": f"{every}.exists(c, {forms}.exists(form, c.image.startsWith(form)))",
                }
            ],
            "mutations": [
                {
                    "patchType": "ApplyConfiguration",
                    "applyConfiguration": {"expression": _mutation(volume_names(folders))},
                }
            ],
        },
    }


def _role(name: str, rules: Sequence[Mapping[str, Sequence[str]]]) -> tuple[str, dict[str, Any]]:
    return (
        f"/apis/{RBAC}/clusterroles",
        {"apiVersion": RBAC, "kind": "ClusterRole", "metadata": {"name": name}, "rules": list(rules)},
    )


def user_binding(name: str, role: str, user: str) -> tuple[str, dict[str, Any]]:
    """A ClusterRoleBinding of one user, with its collection's path."""
    return (
        f"/apis/{RBAC}/clusterrolebindings",
        {
            "apiVersion": RBAC,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        },
    )


def manifests(folders: Sequence[Path]) -> list[tuple[str, dict[str, Any]]]:
    """Pairs of an API collection's path and an object to apply there."""
    binding = {
        "apiVersion": _ADMISSION,
        "kind": "MutatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY},
        "spec": {"policyName": POLICY},
    }
    read = ["get", "list", "watch"]
    return [
        (f"/apis/{_ADMISSION}/mutatingadmissionpolicies", _environment_policy(folders)),
        (f"/apis/{_ADMISSION}/mutatingadmissionpolicybindings", binding),
        user_binding("headrace-proxy", "system:node-proxier", "system:kube-proxy"),
        _role(
            "headrace-dns",
            [
                {"apiGroups": [""], "resources": ["services"], "verbs": read},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": read},
            ],
        ),
        user_binding("headrace-dns", "headrace-dns", "headrace-dns"),
        _role("headrace-prometheus", [{"apiGroups": [""], "resources": ["pods"], "verbs": read}]),
        user_binding("headrace-prometheus", "headrace-prometheus", "headrace-prometheus"),
    ]


def probe_pod() -> dict[str, Any]:
    """A pod for a dry run that shows whether the policy is in force."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "headrace-policy-probe", "namespace": "default"},
        "spec": {"containers": [{"name": "probe", "image": f"{images.PREFIX}engine:dev"}]},
    }


def in_force(pod: Mapping[str, Any]) -> bool:
    """Did the policy change this answer to a dry run?"""
    return any(volume["name"].startswith("headrace-env-") for volume in pod["spec"].get("volumes", []))
