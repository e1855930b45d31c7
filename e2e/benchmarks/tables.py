"""Markdown tables of the reports."""

from typing import Any


def header(*names: str) -> list[str]:
    """The first two lines of a table."""
    return [line(*names), "|" + "---|" * len(names)]


def line(*values: Any) -> str:
    """One line of a table; a bar inside a value, such as a file's name, is escaped."""
    return "| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |"


def figure(value: float | None, digits: int = 2) -> str:
    """A number such as hours or seconds; `-` where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share as a percentage; `-` where there is none."""
    return "-" if value is None else f"{value:.1%}"
