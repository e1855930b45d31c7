"""The table of releases: what it may say, and that it says it once."""

from dataclasses import fields

import pytest

from headrace.autoscaler.signals import EngineLoad
from headrace.engines.versions import NEWEST, OLDEST, TABLE, Fate, Version, dead, renamed
from headrace_engine_config.arguments import TABLES

DEFAULTS = {field.name: field.default for field in fields(EngineLoad)}
RELEASES: list[Version] = [(0, 5, patch) for patch in range(OLDEST[2], NEWEST[2] + 1)]
MODES = ("null", "prefill", "decode")


def test_a_signal_of_the_table_is_a_field_of_the_load() -> None:
    assert {row.signal for row in TABLE if row.signal} <= DEFAULTS.keys()


def test_only_a_field_that_may_be_unknown_is_called_dead() -> None:
    """A required count has no way to say "not known": such a row would break every read."""
    assert {DEFAULTS[row.signal] for row in TABLE if row.signal and row.fate is Fate.DEAD} == {None}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("release", RELEASES)
def test_a_figure_is_either_live_or_dead_in_a_release_and_mode(release: Version, mode: str) -> None:
    live = {row.signal for row in TABLE if row.fate is Fate.LIVE and row.holds(release, mode)}
    assert not live & dead(release, mode)


@pytest.mark.parametrize("release", RELEASES)
def test_a_signal_has_one_name_in_a_release(release: Version) -> None:
    rows = [row for row in TABLE if row.fate in {Fate.LIVE, Fate.RENAMED} and row.holds(release, "prefill")]
    assert len({row.signal for row in rows}) == len(rows)
    assert set(renamed(release)) <= {row.signal for row in rows}


def test_the_release_that_the_engine_image_runs_is_in_the_table() -> None:
    shipped = [tuple(map(int, name.split("."))) for name in TABLES]
    assert all(OLDEST <= release <= NEWEST for release in shipped)
