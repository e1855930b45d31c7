"""Label and field selectors of LIST and WATCH."""

import re
from collections.abc import Mapping
from typing import Any


def matches(obj: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    labels = obj["metadata"].get("labels") or {}
    # Commas within "key in (a,b)" don't separate.
    for term in filter(None, re.split(r",(?![^(]*\))", query.get("labelSelector", ""))):
        if not label_matches(labels, term.strip()):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        path, _, wanted = term.replace("==", "=").partition("=")
        value: Any = obj
        for name in path.split("."):
            value = value.get(name, "") if isinstance(value, Mapping) else ""
        if str(value) != wanted:
            return False
    return True


def label_matches(labels: Mapping[str, str], term: str) -> bool:
    among = re.fullmatch(r"(\S+)\s+(in|notin)\s+\((.*)\)", term)
    if among:
        values = {value.strip() for value in among[3].split(",")}
        return (labels.get(among[1]) in values) == (among[2] == "in")
    if "!=" in term:
        name, _, value = term.partition("!=")
        return labels.get(name) != value
    if "=" in term:
        name, _, value = term.replace("==", "=").partition("=")
        return labels.get(name) == value
    return term[1:] not in labels if term.startswith("!") else term in labels
