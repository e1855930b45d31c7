"""What was learnt about engines outlives the operator, in a ConfigMap that is seldom written and never in the way."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from headrace.api.roles import Role
from headrace.api.v1alpha1 import InferenceService
from headrace.autoscaler.memory import Memory, RoleMemory
from headrace.kube.interface import Manifest, Unavailable
from headrace.kube.kinds import CONFIG_MAP, INFERENCE_SERVICE
from headrace.loops.calibration_store import Learnt, figures, manifest, moved

Operator = Any
NAME = "chat-headrace-state"
STARTS_S = (60.0, 62.0, 90.0)


async def state(operator: Operator) -> Manifest | None:
    found: Manifest | None = await operator.kube.get(CONFIG_MAP, "default", NAME)
    return found


def writes(operator: Operator) -> int:
    return sum(path.endswith(f"/{NAME}") for _, path, _ in operator.server.writes)


async def learn(operator: Operator) -> None:
    """A service whose engines turn out slower than the data sheet says, long enough to be written."""
    await operator.apply()
    operator.engines.busy_share, operator.engines.token_s = 0.5, 60e-6
    await operator.run(40)


def events(logs: list[Any]) -> list[str]:
    return [entry["event"] for entry in logs if "calibration" in entry["event"]]


async def test_nothing_is_written_while_nothing_is_learnt(operator: Operator) -> None:
    await operator.apply()
    await operator.run(60)
    assert await state(operator) is None


async def test_what_was_learnt_is_written_small_owned_and_by_the_autoscaler(operator: Operator) -> None:
    await learn(operator)
    found = await state(operator)
    assert found is not None
    owner = found["metadata"]["ownerReferences"][0]
    service = await operator.kube.get(INFERENCE_SERVICE, "default", "chat")
    assert (owner["kind"], owner["uid"]) == ("InferenceService", service["metadata"]["uid"])
    assert {field["manager"] for field in found["metadata"]["managedFields"]} == {"headrace-autoscaler"}
    assert len(orjson.dumps(found)) < 16 * 1024
    assert orjson.loads(found["data"]["state.json"])["prefill_valid"] is True


async def test_it_is_written_at_most_once_a_minute_and_not_at_all_in_steady_state(operator: Operator) -> None:
    await learn(operator)
    assert 1 <= writes(operator) <= 40 * 5 // 60
    before = writes(operator)
    await operator.run(120)
    assert writes(operator) == before


async def test_a_new_operator_goes_on_with_it(operator: Operator) -> None:
    await learn(operator)
    known = operator.loop._courses[operator.key]
    operator.restart()
    operator.engines.busy_share = 0.0  # nothing can be learnt anew
    await operator.run(3)
    again = operator.loop._courses[operator.key]
    assert again.model.prefill_valid
    assert again.model.steps.prefill_s(1000.0) == pytest.approx(known.model.steps.prefill_s(1000.0), rel=0.05)
    assert operator.book.capacity(operator.key)["prefill"]["prefillTokensPerSecond"]["measured"] is not None
    before = writes(operator)
    await operator.run(30)
    assert writes(operator) == before, "a restart by itself writes nothing"


async def test_passes_neither_prune_it_nor_see_it(operator: Operator) -> None:
    await learn(operator)
    found = await state(operator)
    assert found is not None
    assert "headrace.dev/service" not in found["metadata"]["labels"], "the watches and the LISTs of passes select by it"
    for _ in range(3):
        await operator.reconciler.reconcile(operator.key)
    after = await state(operator)
    assert after is not None
    assert after["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


async def test_nothing_is_written_for_a_service_that_is_gone(operator: Operator) -> None:
    await learn(operator)
    await operator.kube.delete(INFERENCE_SERVICE, "default", "chat")
    before = writes(operator)
    operator.engines.token_s = 200e-6
    await operator.run(30)
    assert writes(operator) == before


def broken(text: str) -> dict[str, str]:
    content = orjson.loads(text)
    return {
        "no JSON": "{",
        "empty": "",
        "another type": "[1, 2]",
        "another version": orjson.dumps(content | {"version": 99}).decode(),
        "a missing field": orjson.dumps({k: v for k, v in content.items() if k != "steps"}).decode(),
        "another engine": orjson.dumps(content | {"basis": "0123456789abcdef"}).decode(),
        "another prior": orjson.dumps(content | {"prior_steps": content["steps"]}).decode(),
        "a negative figure": orjson.dumps(content | {"saturated": -1.0}).decode(),
        "a step time of zero": orjson.dumps(content | {"steps": content["steps"] | {"decode_base_s": 0.0}}).decode(),
        "a wrong number of classes": orjson.dumps(content | {"lengths": content["lengths"] | {"mean": [1.0]}}).decode(),
    }


@pytest.mark.parametrize(
    "case",
    [
        "no JSON", "empty", "another type", "another version", "a missing field", "another engine", "another prior",
        "a negative figure", "a step time of zero", "a wrong number of classes",
    ],
)  # fmt: skip
async def test_content_that_is_wrong_or_old_is_ignored_and_said(operator: Operator, case: str) -> None:
    await learn(operator)
    found = await state(operator)
    assert found is not None
    text = broken(found["data"]["state.json"])[case]
    await operator.kube.merge_patch(CONFIG_MAP, "default", NAME, {"data": {"state.json": text}})
    operator.restart()
    operator.engines.busy_share = 0.0
    with capture_logs() as logs:
        await operator.run(3)
    assert events(logs) == ["saved calibration ignored"]
    course = operator.loop._courses[operator.key]
    assert course.model.steps == course.model.prior_steps
    assert operator.book.decision(operator.key) is not None


async def test_a_namesake_of_somebody_else_is_neither_read_nor_overwritten(operator: Operator) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": "default"},
        "data": {"state.json": "mine"},
    }
    await operator.kube.apply(theirs, "somebody")
    with capture_logs() as logs:
        await learn(operator)
    found = await state(operator)
    assert found is not None
    assert found["data"] == {"state.json": "mine"}
    assert events(logs)[0] == "saved calibration ignored"
    assert "calibration is not saved: somebody else's ConfigMap has its name" in events(logs)
    assert operator.book.decision(operator.key) is not None


async def test_an_api_server_that_refuses_stops_no_decision(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await operator.apply()
    await operator.run(3)
    real = type(operator.kube).get

    async def get(self: Any, kind: Any, namespace: Any, name: str) -> Any:
        if name == NAME:
            raise Unavailable("overloaded")
        return await real(self, kind, namespace, name)

    monkeypatch.setattr(type(operator.kube), "get", get)
    operator.engines.busy_share, operator.engines.token_s = 0.5, 60e-6
    operator.restart()
    with capture_logs() as logs:
        await operator.run(40)
    assert set(events(logs)) == {"saved calibration can't be read", "calibration can't be saved"}
    assert len(events(logs)) <= 1 + 40 * 5 // 60, "one try a minute"
    assert operator.book.decision(operator.key) is not None


async def test_start_up_times_are_kept_and_none_is_counted_twice(operator: Operator) -> None:
    await operator.apply()
    await operator.run(3)
    live = await operator.kube.get(INFERENCE_SERVICE, "default", "chat")
    service = InferenceService.parse(live)
    course = operator.loop._courses[operator.key]
    memory = Memory(roles={Role.PREFILL: RoleMemory(starts_s=STARTS_S), Role.DECODE: RoleMemory()})
    saved = manifest(Learnt(service, course.basis, course.model, memory), operator.clock.at)
    await operator.kube.apply(saved, "headrace-autoscaler")
    for (plural, _, _), pod in operator.server.store.objects.items():
        if plural == "pods":
            pod["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"  # long before it became Ready: a start
    operator.restart()
    await operator.run(3)
    roles = operator.loop._courses[operator.key].memory.roles
    assert roles[Role.PREFILL].starts_s == STARTS_S
    assert operator.loop._courses[operator.key].memory.since > 0.0, "the hold after a restart is not shortened"


async def test_figures_that_move_by_a_twentieth_are_worth_a_write(operator: Operator) -> None:
    await operator.apply()
    await operator.run(3)
    model, memory = operator.loop._courses[operator.key].model, Memory()
    before = figures(model, memory)
    assert not moved(before, figures(replace(model, steps=model.steps.scaled(1.04, 0.97)), memory))
    assert moved(before, figures(replace(model, steps=model.steps.scaled(1.06, 1.0)), memory))
    assert moved(before, figures(replace(model, steps=model.steps.scaled(1.0, 0.9)), memory))
    assert moved(before, figures(replace(model, decode_valid=True), memory))
    assert moved(before, figures(model, Memory(roles={Role.DECODE: RoleMemory(starts_s=(60.0,))})))
