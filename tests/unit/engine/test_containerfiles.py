"""The Containerfiles, as far as they can be checked without building them."""

import json
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "engine_image").glob("Containerfile.*"))
ENTRY_POINTS = {"cpu": "headrace-engine", "cuda": "headrace-engine", "operator": "headrace", "gateway": "smg"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, rest), with continued lines joined and comments left out."""
    joined = re.sub(r"\\\n", "", file.read_text())
    lines = [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def _copied(file: Path) -> list[str]:
    copies = [rest.split()[:-1] for name, rest in _instructions(file) if name == "COPY" and "--from=" not in rest]
    return [source for sources in copies for source in sources]


def test_each_image_has_its_file() -> None:
    assert {file.suffix.removeprefix(".") for file in FILES} == ENTRY_POINTS.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.suffix)
class TestFile:
    def test_it_copies_only_what_is_there_and_what_the_context_lets_through(self, file: Path) -> None:
        passes = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
        for source in _copied(file):
            assert (ROOT / source).exists(), source
            assert any(source == allowed or source.startswith(f"{allowed}/") for allowed in passes), source

    def test_it_has_the_metadata_of_every_workspace_member(self, file: Path) -> None:
        """uv refuses a frozen lock whose members are missing."""
        members = {f"{member}/pyproject.toml" for member in PROJECT["tool"]["uv"]["workspace"]["members"]}
        assert members | {"pyproject.toml", "uv.lock"} <= set(_copied(file))

    def test_it_installs_from_the_lock_alone_and_without_the_developers_tools(self, file: Path) -> None:
        runs = [
            rest for name, rest in _instructions(file) if name == "RUN" and re.search(r"\buv (sync|export)\b", rest)
        ]
        assert runs
        assert all("--frozen" in run and "--no-dev" in run for run in runs)

    def test_it_runs_its_entry_point_as_nobody(self, file: Path) -> None:
        last = dict(_instructions(file))  # of equal instructions the last one: the final stage's
        assert last["USER"] == "65532:65532"
        assert json.loads(last["ENTRYPOINT"]) == [ENTRY_POINTS[file.suffix.removeprefix(".")]]

    def test_its_uv_is_the_one_that_the_makefile_installs(self, file: Path) -> None:
        pinned = re.search(r"^version=(\S+)$", (ROOT / "tools/uv").read_text(), re.MULTILINE)
        assert pinned is not None
        assert ("FROM", f"ghcr.io/astral-sh/uv:{pinned[1]} AS uv") in _instructions(file)


def test_the_entry_points_are_commands_of_the_packages() -> None:
    engine = tomllib.loads((ROOT / "engine_image/pyproject.toml").read_text())["project"]
    assert {"headrace-engine", "headrace"} <= engine["scripts"].keys() | PROJECT["project"]["scripts"].keys()
    for extra in ("cpu", "gpu"):
        assert any(requirement.startswith("smg==") for requirement in engine["optional-dependencies"][extra])
