"""How a circuit breaker's state changes."""

from __future__ import annotations

from phoenix.domain.circuit import Circuit, CircuitRules, abandoned, failed, probed, succeeded

RULES = CircuitRules(failures=3, window_seconds=10, open_seconds=30, longest_open_seconds=100)


def opened(now: float = 0.0) -> Circuit:
    """Return a circuit that has just opened."""
    circuit = Circuit()
    for _ in range(3):
        circuit = failed(circuit, now, RULES, probing=False)
    return circuit


def test_failures_in_a_row_open_it_for_a_time() -> None:
    """Then one probe is due, and no second one beside it."""
    circuit = opened()
    assert circuit.state(29.9) == "open"
    assert circuit.wait_seconds(10) == 20
    assert probed(circuit, 29.9, RULES) == circuit
    probing = probed(circuit, 30, RULES)
    assert probing.state(30) == "half_open"
    assert probed(probing, 31, RULES) == probing
    assert probed(probing, 30 + RULES.probe_seconds, RULES) != probing


def test_rare_failures_do_not_open_it() -> None:
    """Each is further from the one before than the window."""
    circuit = Circuit()
    for number in range(20):
        circuit = failed(circuit, number * 11.0, RULES, probing=False)
    assert circuit.state(220) == "closed"


def test_a_success_between_failures_counts() -> None:
    """Only failures in a row open it."""
    circuit = failed(failed(Circuit(), 0, RULES, probing=False), 1, RULES, probing=False)
    circuit = succeeded(circuit, 2, probing=False)
    assert failed(circuit, 3, RULES, probing=False).state(3) == "closed"


def test_a_probe_decides() -> None:
    """Its success closes the circuit, its failure opens it for twice as long, up to the longest."""
    assert succeeded(probed(opened(), 30, RULES), 31, probing=True) == Circuit()
    circuit, now, waits = opened(), 0.0, []
    for _ in range(4):
        now += circuit.wait_seconds(now)
        circuit = failed(probed(circuit, now, RULES), now, RULES, probing=True)
        waits.append(circuit.wait_seconds(now))
    assert waits == [60, 100, 100, 100]


def test_what_was_under_way_when_it_opened_changes_nothing() -> None:
    """Neither late failures nor late successes say how the provider does now."""
    circuit = opened()
    assert failed(circuit, 5, RULES, probing=False) == circuit
    assert succeeded(circuit, 5, probing=False) == circuit


def test_a_probe_that_was_cut_off_leaves_room_for_another() -> None:
    """A worker that stops has learned nothing."""
    circuit = abandoned(probed(opened(), 30, RULES), 31)
    assert circuit.wait_seconds(31) == 0
    assert circuit.state(31) == "half_open"
