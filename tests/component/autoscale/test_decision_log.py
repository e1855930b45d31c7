"""What the loop logs while it runs is replayed tick by tick, across a restart of the operator."""

from typing import Any

import orjson
from typer.testing import CliRunner

from headrace.cli import app
from headrace.loops.decision_log import files_of

Operator = Any


async def test_the_loops_decisions_are_reproduced_from_its_log(operator: Operator) -> None:
    await operator.apply()
    await operator.run(6)
    operator.engines.queued_tokens, operator.engines.busy_share = 50_000_000, 0.9
    await operator.run(10)
    grown = await operator.replicas()
    operator.restart()
    operator.engines.queued_tokens = 0
    await operator.run(30)
    operator.log.close()
    assert grown > 1
    (path,) = files_of(operator.log_dir)
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines() if line]
    assert [index for index, line in enumerate(lines) if "memory" in line] == [0, len(lines) - 29]
    result = CliRunner().invoke(app, ["replay", str(operator.log_dir)])
    assert result.exit_code == 0, result.output
    assert f"{len(lines)} ticks" in result.output
    assert "every decision comes out as recorded" in result.output
