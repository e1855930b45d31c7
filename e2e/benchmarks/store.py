"""Finished rows and load scales on disk, so that an interrupted run goes on where it stopped."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from e2e.benchmarks.work import Scale

Row = dict[str, Any]


class Store:
    """`rows.jsonl` and `scales.json` of one output directory. A last line that was cut off is run again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.rows_path = directory / "rows.jsonl"
        self.scales_path = directory / "scales.json"
        self.traces_path = directory / "traces.json"  # digest of each trace that rows and scales belong to
        self.rows: dict[str, Row] = {row["key"]: row for row in _lines(self.rows_path)}
        self.scales: dict[str, Scale | None] = {
            key: Scale(**value) if value else None for key, value in _mapping(self.scales_path).items()
        }

    def add(self, row: Row) -> None:
        """Keep a row, at once on disk."""
        self.rows[row["key"]] = row
        with self.rows_path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def add_scale(self, key: str, found: Scale | None) -> None:
        """Keep a scene's load scale; None is kept too: the search for it is the dearest."""
        self.scales[key] = found
        plain = {k: asdict(v) if v else None for k, v in self.scales.items()}
        self.scales_path.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")

    def forget(self, policies: set[str]) -> None:
        """Drop the rows of these policies, so that they are run again after their code changed."""
        self._keep({key: row for key, row in self.rows.items() if row["policy"] not in policies})

    def match(self, digests: Mapping[str, str]) -> None:
        """Drop what belongs to another file of the same name: `digests` are those of the traces to be run, by name."""
        known: dict[str, str] = dict(_mapping(self.traces_path))
        other = {trace for trace, digest in digests.items() if known.get(trace, digest) != digest}
        if other:
            self._keep({key: row for key, row in self.rows.items() if row["trace"] not in other})
            self.scales = {key: at for key, at in self.scales.items() if key.rpartition("+")[0] not in other}
        self.traces_path.write_text(json.dumps({**known, **digests}, indent=1) + "\n", encoding="utf-8")

    def _keep(self, rows: dict[str, Row]) -> None:
        self.rows = rows
        self.rows_path.write_text("".join(json.dumps(row) + "\n" for row in rows.values()), encoding="utf-8")


def _lines(path: Path) -> list[Row]:
    found = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return found


def _mapping(path: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found
