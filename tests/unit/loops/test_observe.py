from typing import Any

import pytest

from headrace.kube.interface import KubeError
from headrace.kube.kinds import CHILD_KINDS
from headrace.loops.keys import Key
from headrace.loops.observe import observe_children


class Refusing:
    """An API server that lists nothing any more."""

    async def list(self, kind: Any, namespace: str, labels: Any) -> list[Any]:
        raise KubeError(f"{kind} can't be listed")


async def test_the_first_error_of_reads_side_by_side_is_raised_as_itself() -> None:
    with pytest.raises(KubeError, match="can't be listed"):
        await observe_children(Refusing(), Key("default", "chat"), [], CHILD_KINDS)  # type: ignore[arg-type]
