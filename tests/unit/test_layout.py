"""`operator/` is a bare source root: a file in it would shadow the standard library's operator module."""

import operator
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_standard_librarys_operator_module_is_the_one_imported() -> None:
    assert operator.__spec__ is not None
    assert Path(str(operator.__spec__.origin)).name == "operator.py"


@pytest.mark.parametrize("root", ["operator", "engine_image", "e2e/cluster", "e2e/standin"])
def test_a_source_root_holds_packages_and_no_modules(root: str) -> None:
    assert [path.name for path in (ROOT / root).glob("*.py")] == []


def test_no_conftest_lies_where_pytest_would_take_the_source_root_for_a_package() -> None:
    assert [str(path) for path in (ROOT / "operator").rglob("conftest.py")] == []


def test_no_package_in_the_source_root_is_named_like_a_standard_module() -> None:
    packages = {path.name for path in (ROOT / "operator").iterdir() if path.is_dir()}
    assert packages & sys.stdlib_module_names == set()


def test_the_tests_are_no_packages() -> None:
    packages = {path.parent.relative_to(ROOT / "tests").parts for path in (ROOT / "tests").rglob("__init__.py")}
    assert {parts for parts in packages if parts[0] != "fakes"} == set()
