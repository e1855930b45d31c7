"""The stress loads: what a scenario says is what its trace holds."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from e2e.benchmarks.scenario import Flash, Scenario, Sine, Step, read
from e2e.benchmarks.stressors import COMMITTED, UNIT_RPS, arrivals, main, write
from e2e.benchmarks.traces import judged, rows

CHAT = {
    "name": "chat",
    "weight": 1.0,
    "isl": {"mean": 1500, "cv": 1.0, "min": 32, "max": 16000},
    "osl": {"mean": 250, "cv": 0.9, "min": 4, "max": 2000},
}


def scenario(**changes: object) -> Scenario:
    """A quarter of an hour at a level of one, changed."""
    plain = {"name": "plain", "tests": "nothing", "duration_s": 900, "base": 1.0, "classes": [CHAT], "seeds": [1]}
    return Scenario.model_validate(plain | changes)


def written(tmp_path: Path, wanted: Scenario) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(write(wanted, tmp_path)).to_pydict()
    return columns


@pytest.mark.parametrize(
    ("term", "at_s", "worth"),
    [
        (Step(kind="step", start=100, end=200, height=4.0, ramp_s=10), [99, 105, 150, 195, 201], [0, 2, 4, 2, 0]),
        (Step(kind="step", start=100, end=200, height=4.0), [99.0, 101.0, 199.0, 201.0], [0, 4, 4, 0]),
        (Sine(kind="sine", amp=2.0, period_s=40.0, phase_s=10.0), [10, 20, 30, 40], [0, 2, 0, -2]),
        (Flash(kind="flash", start=10, rise_s=10, height=3.0, decay_s=100), [5, 20, 110], [0, 2.7145, 1.1036]),
    ],
)
def test_a_term_adds_to_the_level_what_its_words_say(
    term: Step | Sine | Flash, at_s: list[float], worth: list[float]
) -> None:
    assert term.at(np.asarray(at_s, dtype=float)) == pytest.approx(worth, abs=1e-3)


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_arrivals_keep_their_rate_whatever_their_scatter(cv: float) -> None:
    found = arrivals(scenario(duration_s=3600, cv=cv), np.random.default_rng(7))
    gaps = np.diff(found)
    assert len(found) == pytest.approx(3600 * UNIT_RPS, rel=0.04)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.05)
    assert (gaps >= 0.0).all()


def test_a_level_below_nothing_brings_nobody() -> None:
    ebb = {"kind": "step", "start": 300, "end": 600, "height": -5.0}
    found = arrivals(scenario(terms=[ebb]), np.random.default_rng(7))
    assert not ((found > 301.0) & (found < 599.0)).any()


def test_lengths_have_the_mean_and_drift_that_were_asked_for(tmp_path: Path) -> None:
    drifting = {**CHAT, "scale_out": [[0, 1.0], [450, 1.0], [451, 2.0]]}
    found = written(tmp_path, scenario(classes=[drifting]))
    t, isl, osl = (np.asarray(found[name]) for name in ("t", "input_tokens", "output_tokens"))
    assert isl.mean() == pytest.approx(1500, rel=0.06)
    assert osl[t > 451].mean() / osl[t < 450].mean() == pytest.approx(2.0, rel=0.1)


def test_classes_take_their_share_and_prefixes_are_shared_by_groups(tmp_path: Path) -> None:
    documents = {**CHAT, "name": "documents", "weight": 3.0, "prefix": {"groups": 4, "tokens": 1100, "zipf": 1.0}}
    found = written(tmp_path, scenario(classes=[CHAT, documents]))
    shared = [ids for ids in found["hash_ids"] if ids is not None]
    assert len(shared) / len(found["t"]) == pytest.approx(0.75, abs=0.02)
    assert len({ids[0] for ids in shared if ids}) == 4
    blocks = zip(found["hash_ids"], found["input_tokens"], strict=True)
    assert all(len(ids) == min(2, isl // 512) for ids, isl in blocks if ids is not None)


def test_the_same_scenario_gives_the_same_trace(tmp_path: Path) -> None:
    assert written(tmp_path, scenario()) == written(tmp_path, scenario())


def test_every_committed_stressor_is_a_window_that_the_benchmark_judges(tmp_path: Path) -> None:
    assert main(["--out", str(tmp_path)]) == 0
    files = sorted(tmp_path.glob("*.parquet"))
    assert len(files) == len(read(COMMITTED)) == 6
    for file in files:
        (part,) = judged(file, 3600.0, 1)
        assert len(rows(part)) > 10_000


@pytest.mark.parametrize(
    ("mistake", "named"),
    [
        ({"terms": [{"kind": "cliff", "start": 1}]}, "scenarios.0.terms.0"),
        ({"base": -1.0}, "scenarios.0.base"),
        ({"classes": []}, "scenarios.0.classes"),
        ({"seeds": []}, "scenarios.0.seeds"),
        ({"name": "../elsewhere"}, "scenarios.0.name"),
        ({"terms": [{"kind": "step", "start": 9, "end": 3, "height": 1}]}, "end 3 is not after start 9"),
        ({"classes": [{**CHAT, "osl": {"mean": 9, "cv": 1, "min": 20, "max": 10}}]}, "max 10 is below min 20"),
        ({"classes": [{**CHAT, "weight": [[9, 1], [3, 0]]}]}, "must rise"),
        ({"classes": [{**CHAT, "weight": [[0, 1], [300, 0], [600, 1]]}]}, "at 300 s no class has a weight"),
    ],
)
def test_a_wrong_scenario_is_refused_by_field(
    mistake: dict[str, object], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "wrong.json"
    wrong = scenario().model_dump(mode="json") | mistake
    source.write_text(json.dumps({"scenarios": [wrong]}))
    assert main(["--from", str(source), "--out", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.glob("*.parquet"))


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "twice.json"
    source.write_text(json.dumps({"scenarios": [scenario().model_dump(mode="json")] * 2}))
    assert main(["--from", str(source), "--out", str(tmp_path)]) == 2
    assert "would write one file: plain" in capsys.readouterr().err


def test_what_a_scenario_says_and_nobody_reads_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "typo.json"
    source.write_text(json.dumps({"scenarios": [scenario().model_dump(mode="json") | {"noise_sgima": 0.3}]}))
    assert main(["--from", str(source), "--out", str(tmp_path)]) == 0
    assert "not read: noise_sgima" in capsys.readouterr().out
