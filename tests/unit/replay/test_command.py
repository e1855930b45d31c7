"""`headrace replay`: exit status, sentences and files."""

import json
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from headrace.autoscaler.replay import Tick
from headrace.cli import app

Lines = Callable[[list[Tick]], bytes]


@pytest.fixture
def log(tmp_path: Path, run: list[Tick], as_log: Lines) -> Path:
    path = tmp_path / "decisions-00000001.jsonl"
    path.write_bytes(as_log(run))
    return path


def call(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["replay", *map(str, arguments)])
    return result.exit_code, result.output


def test_a_log_that_is_reproduced_ends_well(log: Path) -> None:
    status, text = call(log)
    assert status == 0
    assert "default/chat: 160 ticks from 1970-01-12" in text
    assert "every decision comes out as recorded" in text


def test_a_folder_is_read_in_the_order_of_its_files(log: Path, run: list[Tick], as_log: Lines) -> None:
    log.write_bytes(as_log(run[:90]))
    (log.parent / "decisions-00000002.jsonl").write_bytes(as_log(run[90:]))
    (log.parent / "notes.txt").write_text("not a log")
    status, text = call(log.parent)
    assert status == 0
    assert "160 ticks" in text


def test_the_first_difference_is_named_and_ends_with_status_1(log: Path) -> None:
    lines = log.read_bytes().splitlines()
    broken = orjson.loads(lines[3])
    broken["decision"]["roles"]["prefill"]["target"]["replicas"] = 5
    log.write_bytes(b"\n".join([*lines[:3], orjson.dumps(broken), *lines[4:]]))
    status, text = call(log)
    assert status == 1
    assert "differs first at 1970-01-12 13:47:00 UTC in roles.prefill.target.replicas: recorded 5, replayed 1" in text


def test_a_change_is_shown_beside_what_was_recorded(log: Path, tmp_path: Path) -> None:
    out, plot = tmp_path / "out.json", tmp_path / "out.png"
    status, text = call(log, "--set", "objective.ttft=500ms", "--json", out, "--plot", plot)
    assert status == 0
    assert "prefill would have been" in text
    assert "An estimate" in text
    found = json.loads(out.read_text())
    assert found["changed"]
    chat = found["services"]["default/chat"]
    assert len(chat["rows"]) == chat["ticks"] == 160
    prefill = chat["roles"]["prefill"]
    asked = [row["prefill"]["recorded"] for row in chat["rows"]]
    assert prefill["recorded"]["replica_hours"] == pytest.approx(sum(asked) * 5.0 / 3600.0)
    assert prefill["replayed"]["replica_hours"] > prefill["recorded"]["replica_hours"]
    assert prefill["recorded"]["most"] == max(asked)
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_part_of_the_log_is_shown_though_all_of_it_is_replayed(log: Path) -> None:
    status, text = call("--from", "file", log, "--start", "1970-01-12T13:50:00Z", "--end", "1000245")
    assert status == 0
    assert "default/chat: 10 ticks from 1970-01-12 13:50:00 UTC to 1970-01-12 13:50:45 UTC" in text
    assert "every decision comes out as recorded" in text


def test_no_file_and_no_prometheus_is_refused() -> None:
    status, text = call()
    assert status == 2
    assert "or --from prometheus" in " ".join(text.replace("│", " ").split())


def test_bounds_are_taken_by_role(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    assert call(log, "--set", "prefill.max=2", "--set", "decode.min=3", "--json", out)[0] == 0
    rows = json.loads(out.read_text())["services"]["default/chat"]["rows"]
    assert max(row["prefill"]["replayed"] for row in rows) == 2
    assert min(row["decode"]["replayed"] for row in rows) == 3


def test_a_bound_above_the_other_is_refused_with_both(log: Path) -> None:
    status, text = call(log, "--set", "decode.min=9")
    assert status == 2
    assert "decode: min 9 is above max 8; change both" in text


def test_a_bound_of_a_role_that_is_not_there_is_refused(log: Path) -> None:
    status, text = call(log, "--set", "worker.max=2")
    assert status == 2
    assert "no service has a pool of role worker" in text


def test_lines_that_cannot_be_read_are_named_and_the_gap_is_counted(log: Path) -> None:
    lines = log.read_bytes().splitlines()
    log.write_bytes(b"\n".join([*lines[:100], lines[100][:50], *lines[101:]]))
    status, text = call(log)
    assert status == 0
    assert f"{log}:101: JSONDecodeError" in text
    assert "59 more lie behind a gap in the log" in text


def test_another_service_is_not_there(log: Path) -> None:
    status, text = call(log, "--service", "default/other")
    assert status == 2
    assert "holds no decision of default/other" in text


def test_a_file_that_is_no_log_is_said_with_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('[1]\n{"service": "a/b"}\n"text"\n')
    status, text = call(path)
    assert status == 2
    assert f"{path}:1: " in text
    assert f"{path}:2: the field 'version' is missing: another version of Headrace wrote it, or it is no" in text


def test_pauses_of_the_operator_are_not_counted_as_replica_hours(
    tmp_path: Path, driven: Callable[..., list[Tick]], as_log: Lines
) -> None:
    path = tmp_path / "decisions-00000001.jsonl"
    run = driven(60)
    path.write_bytes(as_log(run[:10]) + as_log(run[50:]))
    out = tmp_path / "out.json"
    assert call(path, "--json", out)[0] == 0
    prefill = json.loads(out.read_text())["services"]["default/chat"]["roles"]["prefill"]["recorded"]
    asked = [tick.plan.decision.roles for tick in (*run[:10], *run[50:])]
    total = sum(part.target.replicas for roles in asked for role, part in roles.items() if role.value == "prefill")
    assert prefill["replica_hours"] == pytest.approx(total * 5.0 / 3600.0)
