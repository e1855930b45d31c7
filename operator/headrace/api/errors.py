"""What is wrong with a spec, in sentences that name the field and the mend."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `spec.prefill.replicas.max: 1 is below min 2; set max to 2 or more, or lower min`."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


class SpecError(ValueError):
    """An object that cannot be served as written. Nothing of it is used; what runs keeps running."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def from_validation_error(error: ValidationError, model: type[BaseModel], root: str) -> SpecError:
    """Turn pydantic's report on `model`, which stands under `root` ("spec"), into sentences."""
    return SpecError(
        Problem(_path(root, details["loc"]), _message(details, model)) for details in error.errors(include_url=False)
    )


def _path(root: str, location: Iterable[int | str]) -> str:
    path = root
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path


# By pydantic's kind of error: what to say after the path, from what was given and pydantic's own figures.
_SENTENCES = {
    "value_error": "{error}",
    "enum": "{given} is not known; set one of {expected}",
    "greater_than_equal": "{given} is too small; set {ge} or more",
    "less_than_equal": "{given} is too great; set {le} or less",
    "string_pattern_mismatch": "{given} does not fit; set what matches {pattern}",
    "string_too_long": "is too long; set at most {max_length} characters",
    "too_long": "has too many entries; set at most {max_length}",
}


def _message(details: ErrorDetails, model: type[BaseModel]) -> str:
    kind = details["type"]
    if kind == "missing":
        return f"is required; set it{_example(details['loc'])}"
    if kind == "extra_forbidden":
        return _unknown_field(details, model)
    sentence = _SENTENCES.get(kind, "{given} cannot be used: {reason}; set it as docs/api.md says")
    reason = details["msg"][:1].lower() + details["msg"][1:].rstrip(".")
    return sentence.format(given=_shown(details["input"]), reason=reason, **details.get("ctx", {}))


def _example(location: tuple[int | str, ...]) -> str:
    examples = {
        "model": ', for example {source: "hf://Qwen/Qwen3-8B"}',
        "source": ", for example hf://Qwen/Qwen3-8B",
        "name": ", for example chat",
        "accelerator": ", for example nvidia-h100 or cpu",
    }
    return examples.get(str(location[-1]), "")


def _unknown_field(details: ErrorDetails, model: type[BaseModel]) -> str:
    name = str(details["loc"][-1])
    known = _fields_at(model, details["loc"][:-1])
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    if close:
        return f"is not a field; set {close[0]} instead"
    return f"is not a field; remove it (fields here: {', '.join(known)})" if known else "is not a field; remove it"


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    """The field names of the model that stands at a location below `model`; none where it is a map or a list."""
    for part in location:
        if isinstance(part, int):
            continue
        field = next((field for name, field in model.model_fields.items() if (field.alias or name) == part), None)
        inner = _inner_model(field.annotation) if field else None
        if inner is None:
            return []
        model = inner
    return [field.alias or name for name, field in model.model_fields.items()]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type):
        return annotation if issubclass(annotation, BaseModel) else None
    arguments = getattr(annotation, "__args__", ())
    return next((inner for argument in arguments if (inner := _inner_model(argument)) is not None), None)


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    limit = 80  # longer values would bury the sentence in a condition message
    return text if len(text) <= limit else text[:limit] + "..."
