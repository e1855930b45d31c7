"""The doctor asks for exactly what the operator's manifests grant."""

from pathlib import Path

import yaml

from headrace.cli.permissions import REQUIRED

RBAC = Path(__file__).parents[3] / "charts/operator/rbac.yaml"
Row = tuple[str, str, str, str, bool]


def granted() -> set[Row]:
    rows: set[Row] = set()
    for document in yaml.safe_load_all(RBAC.read_text()):
        for rule in document.get("rules") or ():
            for group in rule["apiGroups"]:
                for resource in rule["resources"]:
                    for verb in rule["verbs"]:
                        for name in rule.get("resourceNames") or [""]:
                            rows.add((group, resource, verb, name, document["kind"] == "Role"))
    return rows


def test_what_is_checked_is_what_is_granted() -> None:
    checked = {
        (p.group, "/".join(filter(None, (p.resource, p.subresource))), p.verb, p.name, p.in_operator_namespace)
        for p in REQUIRED
    }
    assert checked == granted()


def test_a_review_asks_in_the_operator_s_namespace_only_where_the_grant_is_there() -> None:
    lease = next(p for p in REQUIRED if p.in_operator_namespace)
    attributes = lease.review("headrace-system")["spec"]["resourceAttributes"]
    assert attributes["namespace"] == "headrace-system"
    pods = next(p for p in REQUIRED if p.resource == "pods")
    assert "namespace" not in pods.review("headrace-system")["spec"]["resourceAttributes"]
