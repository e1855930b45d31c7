"""The picture: well-formed, self-contained, one panel a role, thinned, broken at gaps, and refused by its ending."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import typer

from headrace.api.roles import Role
from headrace.autoscaler.decision import Constraint
from headrace.cli.replay.panels import MOST_POINTS, panels
from headrace.cli.replay.plot import check_plot, draw
from headrace.cli.replay.style import COLOURS
from headrace.cli.replay.track import Result, RoleTrack, Track

SVG = "{http://www.w3.org/2000/svg}"


def track(ticks: int = 60, *, gap_at: int | None = None) -> Track:
    """Prefill goes from 1 to 3 at tick 20 as recorded, and to 4 as replayed; a backlog asks for hundreds at tick 30."""
    made = Track()
    line = made.roles[Role.PREFILL] = RoleTrack()
    for i in range(ticks):
        made.at.append(1e6 + 5.0 * i + (600.0 if gap_at is not None and i >= gap_at else 0.0))
        made.arrivals.append(2.0 + i % 7)
        line.recorded.append(1 if i < 20 else 3)
        line.replayed.append(1 if i < 20 else 4)
        line.needs.append({"PrefillRate": 0.5 + i / 20, "PrefillBacklog": 300.0 if i == 30 else 0.0})
        line.binding.append("PrefillBacklog" if i == 30 else "PrefillRate")
        line.message.append("because <tokens> & more")
    return made


def drawn(result: Result, path: Path) -> ET.Element:
    draw(result, path)
    return ET.fromstring(path.read_text())  # noqa: S314  our own


def test_every_constraint_has_a_colour() -> None:
    assert {constraint.value for constraint in Constraint} <= COLOURS.keys()


def test_svg_stands_alone_and_shows_both_targets_the_needs_and_the_arrivals(tmp_path: Path) -> None:
    root = drawn(Result({"default/chat": track()}, changed=True), tmp_path / "x.svg")
    texts = [element.text or "" for element in root.iter(f"{SVG}text")]
    for wanted in ("Arrivals", "Prefill replicas", "recorded", "replayed", "PrefillRate", "PrefillBacklog"):
        assert wanted in texts
    assert any("with a change" in text for text in texts)
    assert not any("href" in name or name == "src" for element in root.iter() for name in element.attrib)
    assert len(list(root.iter(f"{SVG}path"))) == 5


def test_an_approximate_replay_says_so_in_the_picture(tmp_path: Path) -> None:
    root = drawn(Result({"default/chat": track()}, changed=False, agreement={}), tmp_path / "x.svg")
    assert any("APPROXIMATE" in (element.text or "") for element in root.iter(f"{SVG}text"))


def test_what_was_decided_can_be_hovered_over_where_something_changed(tmp_path: Path) -> None:
    root = drawn(Result({"default/chat": track()}, changed=False), tmp_path / "x.svg")
    titles = [element.text or "" for group in root.iter(f"{SVG}g") for element in group.iter(f"{SVG}title")]
    assert len(titles) == 4  # until 20, 20..29, the backlog at 30, from 31
    assert "recorded 3, replayed 4. because <tokens> & more (PrefillRate 2.00, PrefillBacklog 300.00)" in titles[2]


def test_a_need_beyond_all_replicas_does_not_flatten_the_rest() -> None:
    (_, prefill) = panels(Result({"default/chat": track()}, changed=False))
    assert prefill.top == 6.0  # 1.5 x 4


def test_lines_break_at_a_gap_and_long_ones_are_thinned_to_their_peaks() -> None:
    (_, prefill) = panels(Result({"default/chat": track(gap_at=40)}, changed=False))
    assert {len(line.parts) for line in prefill.lines} == {2}
    (arrivals, prefill) = panels(Result({"default/chat": track(20_000)}, changed=False))
    assert max(len(part) for line in (*arrivals.lines, *prefill.lines) for part in line.parts) <= MOST_POINTS + 1
    backlog = next(line for line in prefill.lines if line.label == "PrefillBacklog")
    assert max(value for part in backlog.parts for _, value in part) == 6.0


def test_several_services_are_named_in_their_panels() -> None:
    found = panels(Result({"default/chat": track(), "default/mail": track()}, changed=False))
    assert [panel.title for panel in found][2:] == ["default/mail Arrivals", "default/mail Prefill replicas"]


def test_one_tick_can_be_drawn(tmp_path: Path) -> None:
    drawn(Result({"default/chat": track(1)}, changed=False), tmp_path / "x.svg")


def test_the_page_holds_the_picture(tmp_path: Path) -> None:
    draw(Result({"default/<chat>": track()}, changed=False), tmp_path / "x.html")
    page = (tmp_path / "x.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<title>Replay of default/&lt;chat&gt;</title>" in page
    assert page.count("<svg ") == 1


def test_other_endings_are_refused_before_anything_is_read() -> None:
    with pytest.raises(typer.BadParameter, match=r"has no ending .svg, .html or .png"):
        check_plot(Path("x.pdf"))
