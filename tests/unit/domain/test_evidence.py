"""A suite's result tells the outcome of each test, also of one that did not run."""

from __future__ import annotations

from phoenix.domain.evidence import SuiteResult, TestResult


def test_a_test_that_did_not_run_is_missing() -> None:
    """An outcome is the test's own, and `missing` for a test that is not there."""
    suite = SuiteResult(command="pytest", exit_code=1, tests=[TestResult(id="t.py::a", outcome="failed")])
    assert suite.outcome("t.py::a") == "failed"
    assert suite.outcome("t.py::b") == "missing"
