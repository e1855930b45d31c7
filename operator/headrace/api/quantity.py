"""Durations and quantities as Kubernetes users write them: "2s", "50ms", "1m30s"; "500m", "16Gi"."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from headrace.api.base import CEL_KEY, cel

# The API server checks these by CEL and not by `pattern`: the user then reads a sentence and not an expression.
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
QUANTITY_PATTERN = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?$"

# Nobody writes a longer one; the API server bounds the cost of its rules by it.
_MAX_LENGTH = 24

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MULTIPLIERS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def parse_duration(text: str) -> float:
    """Seconds of a Go-like duration: "1m30s" is 90.0, "50ms" is 0.05. Raises ValueError on anything else."""
    if len(text) > _MAX_LENGTH or not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError(f'"{text}" is not a duration; set one such as "2s", "50ms" or "1m30s"')
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def parse_quantity(text: str) -> float:
    """The plain number behind a quantity: "500m" is 0.5, "1Ki" is 1024.0. Raises ValueError on anything else."""
    if len(text) > _MAX_LENGTH or not re.fullmatch(QUANTITY_PATTERN, text):
        raise ValueError(f'"{text}" is not a quantity; set one such as "2", "500m" or "16Gi"')
    number, suffix = re.fullmatch(r"([0-9.]+)(.*)", text).groups()  # type: ignore[union-attr]  # the pattern matched
    if suffix[:1] in {"e", "E"} and suffix[1:].isdigit():
        return float(Decimal(number).scaleb(int(suffix[1:])))
    return float(Decimal(number) * _MULTIPLIERS[suffix])


def _check_duration(text: str) -> str:
    if parse_duration(text) <= 0:
        raise ValueError(f'"{text}" is not above zero; set one such as "2s" or "50ms"')
    return text


def _check_quantity(text: str) -> str:
    parse_quantity(text)
    return text


def _quantity_text(value: Any) -> Any:
    """YAML turns `cpu: 2` into an integer, and Kubernetes takes it; a float is refused there, so here too."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float):
        raise ValueError(f'{value} is a floating-point number; set it in quotes: "{value}"')  # noqa: TRY004  # pydantic
    return value


Duration = Annotated[
    str,
    AfterValidator(_check_duration),
    WithJsonSchema(
        {
            "type": "string",
            "maxLength": _MAX_LENGTH,
            CEL_KEY: [
                cel(
                    f"self.matches(r'{DURATION_PATTERN}') && duration(self) > duration('0s')",
                    'must be a duration above zero; set one such as "2s", "50ms" or "1m30s"',
                )
            ],
        }
    ),
]
Quantity = Annotated[
    str,
    BeforeValidator(_quantity_text),
    AfterValidator(_check_quantity),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "maxLength": _MAX_LENGTH,
            CEL_KEY: [
                cel(
                    f"type(self) == int ? self >= 0 : self.matches(r'{QUANTITY_PATTERN}')",
                    'must be a quantity; set one such as "2", "500m" or "16Gi"',
                )
            ],
        }
    ),
]
