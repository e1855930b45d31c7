from pathlib import Path

from headrace_fakes.doc_decision import documented_decision

from headrace.autoscaler.explain import explain

DOCUMENT = Path(__file__).parents[3] / "docs" / "autoscaling.md"


def test_the_documented_decision_is_the_one_that_the_plan_makes() -> None:
    """To mend: run tests/fakes/headrace_fakes/doc_decision.py and put its text and numbers into the document."""
    assert explain(documented_decision()) in DOCUMENT.read_text()
