"""`headrace explain`: a status in plain words."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headrace.cli.explain import as_data, describe, explain
from headrace.kube.interface import Manifest

NOW = 1_790_000_012.0
PART = {
    "current": 1,
    "target": 2,
    "needs": [
        {"constraint": "DecodeKV", "replicas": 0.4, "detail": "3000 of 8192 tokens"},
        {"constraint": "DecodeStep", "replicas": 1.7, "detail": "batch 14 of 8"},
    ],
    "binding": "DecodeStep",
    "reason": "ScaleUp",
    "message": "batch 14 is more than one engine steps in time",
    "vetoes": [{"guard": "MaxStarting", "message": "one engine starts already"}],
    "whatIf": [{"replicas": 2, "ttftAttainment": 0.97, "tpotSeconds": 0.12, "kvShare": 0.2, "accelerators": 2}],
}


def manifest(**status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "chat", "namespace": "default"}, "status": status}


def full() -> dict[str, Any]:
    change = {
        "at": "2026-09-21T14:12:00Z",
        "role": "decode",
        "fromReplicas": 1,
        "toReplicas": 2,
        "reason": "ScaleUp",
        "binding": "DecodeStep",
        "message": "grew",
    }
    time = {"lastTransitionTime": "2026-09-21T14:00:00Z"}
    return manifest(
        conditions=[
            {"type": "Ready", "status": "True", "reason": "Available", "message": "all serve", **time},
            {"type": "Stalled", "status": "False", "reason": "NotStalled", "message": "hidden", **time},
            {"type": "SignalsHealthy", "status": "False", "reason": "Stale", "message": "old figures", **time},
        ],
        decode={"desired": 2, "ready": 1, "starting": 1},
        decision={"at": "2026-09-21T14:13:20Z", "decode": PART},
        recentDecisions=[change],
    )


def test_the_decision_is_told_with_needs_guards_and_what_ifs() -> None:
    text = describe(full(), NOW)
    assert "default/chat: decided 12 s ago" in text
    assert "decode: 2 wanted; 1 serve, 1 start, 0 drain. ScaleUp: more replicas are needed." in text
    assert text.index("DecodeStep (step time") < text.index("DecodeKV (room for KV tokens)"), "the largest need first"
    assert " *   1.70 for DecodeStep" in text
    assert "guard MaxStarting: one engine starts already" in text
    assert "with 2 (chosen): 97.0% within TTFT, 120.0 ms a token, KV 20% full, 2 accelerators" in text
    assert "2026-09-21T14:12:00Z decode 1 -> 2 ScaleUp (DecodeStep): grew" in text


def test_conditions_out_of_order_are_shown_and_the_others_left_out() -> None:
    text = describe(full(), NOW)
    assert "Ready=True (Available): all serve" in text
    assert "SignalsHealthy=False (Stale): old figures" in text
    assert "hidden" not in text


def test_a_service_without_a_decision_says_why_that_may_be() -> None:
    assert "No decision yet" in describe(manifest(), NOW)


def test_words_of_a_newer_version_do_not_stop_the_explanation() -> None:
    part = {**PART, "reason": "Teleported", "binding": "Magic", "needs": [{"constraint": "Magic", "replicas": 1.0}]}
    text = describe(manifest(decision={"at": "2026-09-21T14:13:20Z", "decode": part}), NOW)
    assert "Teleported: a reason of another version of Headrace" in text
    assert "Magic (a constraint of another version of Headrace)" in text


def test_json_is_the_status_s_own() -> None:
    data = json.loads(as_data(full()))
    assert data["service"] == "default/chat"
    assert data["decision"]["decode"]["needs"][1]["replicas"] == 1.7
    assert data["recentDecisions"][0]["toReplicas"] == 2


class OneService:
    """A cluster with the service team/chat."""

    async def get(self, _kind: object, namespace: str, name: str) -> Manifest | None:
        return {"metadata": {"name": name, "namespace": namespace}} if (namespace, name) == ("team", "chat") else None


def _ask(work: Callable[[OneService], Awaitable[bool]]) -> bool:
    async def ask() -> bool:
        return await work(OneService())

    return asyncio.run(ask())


@pytest.mark.parametrize(("service", "namespace"), [("chat", "team"), ("team/chat", "default")])
def test_a_service_is_named_with_its_namespace_apart_or_in_front(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], service: str, namespace: str
) -> None:
    monkeypatch.setattr("headrace.cli.connection.run", _ask)
    explain(service, namespace)
    assert "team/chat: no decision" in capsys.readouterr().out
