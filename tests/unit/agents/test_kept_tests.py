"""Sealed tests that stay when a criterion changes, and single tests of a file."""

from __future__ import annotations

import pytest

from phoenix.agents.kept_tests import NOTHING, Former, keep
from phoenix.agents.test_source import name_of, plain_tests, without_tests
from phoenix.domain.evidence import Sealed, SealedFile, SealedTest
from phoenix.domain.spec import Criterion, Requirement, Spec

FOLDER = "tests/acceptance"
ONE = f"{FOLDER}/test_acceptance_one.py"
TWO = f"{FOLDER}/test_acceptance_two.py"
SOURCE = '''"""About both."""
import pytest

# Kept as it is.
VALUES = [1,2]


@pytest.mark.parametrize("n", VALUES)
def test_first(n):
    assert n


class TestSecond:
    def test_only(self):
        assert True


class TestMixed:
    def setup_method(self):
        self.n = 1

    def test_a(self):
        assert self.n

    def test_b(self):
        assert self.n  # why
'''
DIGEST = "sha256:" + "0" * 64


def spec(**texts: str) -> Spec:
    """Return a spec with criteria by id."""
    criteria = [Criterion(id=i, text=t) for i, t in texts.items()]
    return Spec(
        title="t",
        summary="s",
        requirements=[Requirement(id="R1", text="r", criteria=criteria)],
        request=DIGEST,
    )


def former(files: dict[str, str], tests: dict[str, str], red: frozenset[str], was: Spec) -> Former:
    """Return sealed tests: by file its text, and by test id its criterion."""
    sealed = Sealed(
        contract=DIGEST,
        base="0" * 40,
        files=[SealedFile(path=p, content=c, sha256="0" * 64) for p, c in files.items()],
        tests=[SealedTest(id=i, criterion=c, red=i in red) for i, c in tests.items()],
    )
    return Former(sealed, {c.id: c for c in was.criteria()})


def test_a_test_is_taken_out_with_its_decorators() -> None:
    """The rest stays to the letter: comments, layout, other tests."""
    left = without_tests(SOURCE, ["test_first"])
    assert "parametrize" not in left
    assert "test_first" not in left
    assert "# Kept as it is.\nVALUES = [1,2]\n" in left
    assert left.endswith(SOURCE[SOURCE.index("class TestSecond") :])


def test_a_class_goes_with_its_last_test() -> None:
    """One that holds more keeps the rest."""
    left = without_tests(SOURCE, ["TestSecond::test_only", "TestMixed::test_a"])
    assert "TestSecond" not in left
    assert "setup_method" in left
    assert "test_a" not in left
    assert "assert self.n  # why" in left
    compile(left, "left", "exec")


def test_tests_are_compared_apart_from_what_was_taken_out_before() -> None:
    """A file without another criterion's tests says the same, however they went."""
    before = plain_tests(SOURCE, ["test_first", "TestMixed::test_a"])
    after = plain_tests(without_tests(SOURCE, ["test_first"]), ["TestMixed::test_a"])
    assert before == after
    assert plain_tests(SOURCE, []) != before
    assert plain_tests(SOURCE.replace("[1,2]", "[1, 2]"), []) == plain_tests(SOURCE, [])
    assert plain_tests(SOURCE.replace("[1,2]", "[1,3]"), []) != plain_tests(SOURCE, [])


@pytest.mark.parametrize("text", ["def (", "\0"])
def test_what_is_not_python_stays(text: str) -> None:
    """Nothing can be taken out of it."""
    assert without_tests(text, ["test_first"]) == text
    assert plain_tests(text, []) == text


def test_names_of_tests() -> None:
    """Without file and parameters."""
    assert name_of(f"{ONE}::TestX::test_y[1-2]") == "TestX::test_y"


def test_tests_of_unchanged_criteria_are_kept() -> None:
    """Files without any are gone; those of a changed criterion are taken out of shared files."""
    was = spec(C1="one", C2="two", C3="three")
    tests = {
        f"{ONE}::test_first": "C1",
        f"{ONE}::TestMixed::test_a": "C2",
        f"{ONE}::TestMixed::test_b": "C3",
        f"{ONE}::TestSecond::test_only": "C1",
        f"{TWO}::test_more": "C2",
    }
    red = frozenset([f"{ONE}::test_first"])
    sealed = former({ONE: SOURCE, TWO: "def test_more():\n    assert 0\n"}, tests, red, was)
    kept = keep(sealed, spec(C1="one", C2="other", C3="three", C4="new"), FOLDER)
    assert list(kept.files) == [ONE]
    assert "test_a" not in kept.files[ONE]
    assert "test_b" in kept.files[ONE]
    assert (kept.criteria, kept.holding) == ({"C1", "C3"}, ["C3"])


def test_a_file_that_a_kept_one_imports_is_kept() -> None:
    """Without its own tests of what has changed."""
    was = spec(C1="one", C2="two")
    files = {
        ONE: f"from test_acceptance_two import x\n{SOURCE}",
        TWO: "x = 1\n\n\ndef test_more():\n    pass\n",
    }
    tests = {f"{ONE}::test_first": "C1", f"{TWO}::test_more": "C2"}
    kept = keep(former(files, tests, frozenset(), was), spec(C1="one", C2="other"), FOLDER)
    assert kept.files[TWO].strip() == "x = 1"


def test_nothing_is_kept_of_nothing_or_of_another_folder() -> None:
    """The author then writes all of them."""
    was = spec(C1="one")
    assert keep(None, was, FOLDER) == NOTHING
    assert keep(former({ONE: SOURCE}, {f"{ONE}::test_first": "C1"}, frozenset(), was), was, "x") == NOTHING
