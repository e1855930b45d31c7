"""The hooks: they fit the installed SGLang, and they turn what it reports into the ledger's terms."""

import ast
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from headrace_engine import plugin, queue_order
from headrace_engine.drain import DrainSwitch
from headrace_engine.ledger import RequestLedger
from headrace_engine_config.arguments import TABLES

# The parameters that the hooks count on, of the methods that they are put around.
HOOKED = {
    plugin.MANAGER: {
        "_send_one_request": ["self", "tokenized_obj"],
        "_send_batch_request": ["self", "tokenized_objs"],
        "collect_metrics": ["self", "state", "recv_obj", "i"],
        "is_ready": ["self"],
        "sigterm_watchdog": ["self"],
    },
    queue_order.STATS: {"__getstate__": ["self"]},
    queue_order.POLICY: {"calc_priority": ["self", "waiting_queue"]},
    queue_order.PREALLOC: {"pop_preallocated": ["self"]},
}


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> RequestLedger:
    fresh = RequestLedger("worker", 0.0)
    monkeypatch.setattr(plugin, "LEDGER", fresh)
    return fresh


def _manager(status: str = "Up") -> Any:
    return SimpleNamespace(server_status=SimpleNamespace(name=status))


def _request(rid: str, prompt_tokens: int) -> Any:
    return SimpleNamespace(rid=rid, input_ids=[0] * prompt_tokens, time_stats=SimpleNamespace())


def _batch(
    rid: str, completion: list[int] | None, cached: list[int] | None, *, reason: str | None = None, stats: Any = None
) -> Any:
    return SimpleNamespace(
        rids=["other", rid],
        completion_tokens=completion,
        cached_tokens=cached,
        finished_reasons=[None, reason and {"type": reason}],
        time_stats=stats and [None, SimpleNamespace(**stats)],
    )


def _state(*, finished: bool, stream: bool = True, first_token_time: float = 0.0) -> Any:
    stats = SimpleNamespace(first_token_time=first_token_time)
    return SimpleNamespace(finished=finished, obj=SimpleNamespace(stream=stream), time_stats=stats)


def test_the_hooked_methods_are_in_the_installed_sglang() -> None:
    """Read, not imported: the module takes half a minute on a cold machine."""
    assert version("sglang") in TABLES
    package = find_spec("sglang")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0])
    for target, hooked in HOOKED.items():
        module, _, name = target.rpartition(".")
        tree = ast.parse(folder.joinpath(*module.split(".")[1:]).with_suffix(".py").read_text())
        owner = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
        methods = (n for n in owner.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        found = {n.name: [argument.arg for argument in n.args.args] for n in methods}
        assert {method: found.get(method, [])[: len(hooked[method])] for method in hooked} == hooked


def test_outside_of_headraces_engine_nothing_is_hooked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plugin.ROLE_VARIABLE, raising=False)
    plugin.register()
    assert not plugin.HOOKED


def test_a_request_is_queued_until_its_first_token_and_finished_with_its_length(ledger: RequestLedger) -> None:
    plugin._note_one(_manager(), _request("a", 300))
    assert ledger.queued_tokens == 300
    plugin._note_progress(None, _manager(), _state(finished=False), _batch("a", [9, 1], [9, 256]), 1)
    assert ledger.queued_tokens == 0
    ended = _batch("a", [9, 20], [9, 256], reason="stop")
    plugin._note_progress(None, _manager(), _state(finished=True), ended, 1)
    state = ledger.snapshot(0, ready=True, draining=False)
    (row,) = state["finished"]
    assert (row["class"], row["prompt_tokens"], row["output_tokens"]) == (2, 300, 20)
    assert state["totals"]["cached_tokens"] == 256


def test_an_aborted_request_leaves_the_queue_and_no_length(ledger: RequestLedger) -> None:
    plugin._note_one(_manager(), _request("a", 300))
    cut = _batch("a", [9, 3], [9, 0], reason="abort")
    plugin._note_progress(None, _manager(), _state(finished=True), cut, 1)
    state = ledger.snapshot(0, ready=True, draining=False)
    assert (ledger.queued_tokens, state["finished"], state["totals"]["arrivals"]) == (0, [], 1)


# streamed, SGLang's first_token_time, the scheduler's stamps -> seconds before now that the first token was there
FIRST_TOKENS: dict[str, tuple[bool, float, dict[str, float] | None, float | None]] = {
    "streamed: as it was sent": (True, 97.0, {"prefill_finished_time": 90.0, "forward_entry_time": 89.0}, 3.0),
    "not streamed: the end of its prefill": (False, 99.9, {"prefill_finished_time": 95.0, "forward_entry_time": 94}, 5),
    "not streamed, decode: its entry": (False, 99.9, {"prefill_finished_time": 0.0, "forward_entry_time": 92.0}, 8.0),
    "not streamed, no stamps": (False, 99.9, None, None),
    "not streamed, stamps not set": (False, 99.9, {"prefill_finished_time": 0.0, "forward_entry_time": 0.0}, None),
}


@pytest.mark.parametrize("case", FIRST_TOKENS)
def test_the_first_tokens_time_is_the_one_that_sglang_knows_best(
    monkeypatch: pytest.MonkeyPatch, ledger: RequestLedger, case: str
) -> None:
    stream, sent_at, stats, ago_s = FIRST_TOKENS[case]
    clock = SimpleNamespace(time=lambda: 1000.0, perf_counter=lambda: 0.0, monotonic=lambda: 0.0)
    monkeypatch.setattr(plugin, "time", clock)
    plugin._note_one(_manager(), _request("a", 300))
    clock.time, clock.perf_counter = lambda: 1100.0, lambda: 100.0
    ended = _batch("a", [9, 50], [9, 0], reason="length", stats=stats)
    plugin._note_progress(None, _manager(), _state(finished=True, stream=stream, first_token_time=sent_at), ended, 1)
    (row,) = ledger.snapshot(1100.0, ready=True, draining=False)["finished"]
    if ago_s is None:
        assert (row["ttft_s"], row["tpot_s"]) == (None, None)
    else:
        assert row["ttft_s"] == pytest.approx(100.0 - ago_s)
        assert row["tpot_s"] == pytest.approx(ago_s / 49, abs=1e-6)


def test_a_batch_is_each_of_its_requests(ledger: RequestLedger) -> None:
    plugin._note_batch(_manager(), [_request("a", 10), _request("b", 20)])
    assert ledger.queued_tokens == 30


def test_an_output_without_counts_is_no_progress(ledger: RequestLedger) -> None:
    plugin._note_one(_manager(), _request("a", 10))
    plugin._note_progress(None, _manager(), _state(finished=False), _batch("a", None, None), 1)
    assert ledger.queued_tokens == 10


def test_a_request_given_as_embeddings_counts_without_tokens(ledger: RequestLedger) -> None:
    plugin._note_one(_manager(), SimpleNamespace(rid="a", input_ids=None))
    assert ledger.snapshot(0, ready=True, draining=False)["totals"] == {
        "arrivals": 1, "prompt_tokens": 0, "cached_tokens": 0, "finished": 0, "output_tokens": 0
    }  # fmt: skip


@pytest.mark.parametrize(("status", "rid"), [("Starting", "warm-up"), ("Up", "HEALTH_CHECK_1")])
def test_warm_ups_and_health_checks_are_nobodys_demand(ledger: RequestLedger, status: str, rid: str) -> None:
    plugin._note_one(_manager(status), _request(rid, 10))
    assert ledger.snapshot(0, ready=True, draining=False)["totals"]["arrivals"] == 0


@pytest.mark.parametrize(
    ("ready", "draining", "says"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_readiness_is_sglangs_unless_the_engine_drains(
    monkeypatch: pytest.MonkeyPatch, ready: bool, draining: bool, says: bool
) -> None:
    monkeypatch.setattr(plugin, "DRAIN", DrainSwitch(on=draining))
    assert plugin._ready_unless_draining(ready, _manager()) is says
