"""One JSON object a line, whoever logs."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from headrace.observability.logging import configure


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_our_records_and_those_of_libraries_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    structlog.get_logger("headrace.test").info("pass done", key="default/chat")
    logging.getLogger("some.library").warning("careful: %s", "x")
    ours, theirs = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["key"], ours["level"], ours["logger"]) == ("pass done", "default/chat", "info",
                                                                         "headrace.test")  # fmt: skip
    assert (theirs["event"], theirs["level"]) == ("careful: x", "warning")
    assert ours["timestamp"].endswith("Z")


def test_an_error_carries_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info")
    try:
        int("boom")
    except ValueError:
        structlog.get_logger("headrace.test").exception("failed")
    assert "ValueError: invalid literal" in json.loads(capsys.readouterr().err)["exception"]


def test_records_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    configure("warning")
    structlog.get_logger("headrace.test").info("quiet")
    assert capsys.readouterr().err == ""
