"""`headrace simulate run` on traces as people have them: any clock, and files that are not traces."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headrace.cli.simulate import app

GOOD = {"t": [0.0, 1.0, 2.0, 90.0], "input_tokens": [100, 200, 300, 400], "output_tokens": [10, 20, 30, 1]}


def written(folder: Path, **columns: list[object]) -> Path:
    path = folder / "trace.parquet"
    pq.write_table(pa.table({**GOOD, **columns}), path)
    return path


def ran(path: Path, *options: str) -> dict[str, object]:
    import json

    out = path.with_suffix(".json")
    result = CliRunner().invoke(app, ["run", "--trace", str(path), "--json", str(out), *options])
    assert result.exit_code == 0, result.output
    row: dict[str, object] = json.loads(out.read_text())["rows"][0]
    return row


@pytest.mark.parametrize("origin", [0.0, 1.76e9, -50.0])
def test_any_clock_gives_the_same_run(tmp_path: Path, origin: float) -> None:
    row = ran(written(tmp_path, t=[origin + t for t in (0.0, 1.0, 2.0, 90.0)]))
    assert (row["requests"], row["gpu_hours"]) == (4, pytest.approx(2 * 91 / 3600))


def test_minutes_that_are_left_out_are_counted_from_the_traces_begin(tmp_path: Path) -> None:
    row = ran(written(tmp_path, t=[1.76e9 + t for t in (0.0, 1.0, 2.0, 90.0)]), "--start", "1")
    assert row["requests"] == 1


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"t": [2.0, 1.0, 3.0, 4.0]}, "column 't' is not sorted"),
        ({"t": [0.0, None, 3.0, 4.0]}, "'t' has missing values"),
        ({"input_tokens": [100, -1, 3, 4]}, "'input_tokens' has negative values"),
        ({"output_tokens": ["many", "few", "some", "none"]}, "'output_tokens' cannot be read as numbers"),
        ({name: [] for name in GOOD}, "no rows"),
    ],
)
def test_a_file_that_cannot_be_simulated_is_named_with_what_is_wrong(
    tmp_path: Path, columns: dict[str, list[object]], says: str
) -> None:
    result = CliRunner().invoke(app, ["run", "--trace", str(written(tmp_path, **columns))], terminal_width=300)
    assert result.exit_code == 2
    assert says in result.output


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "trace.parquet"
    path.write_bytes(b"x")
    result = CliRunner().invoke(app, ["run", "--trace", str(path)], terminal_width=300)
    assert result.exit_code == 2
    assert "cannot be read as numbers" in result.output
