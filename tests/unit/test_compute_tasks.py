"""The tasks that come with Coatcheck, called as a child calls them."""

from pathlib import Path
from typing import Any

import pytest
from Bio.Align import PairwiseAligner, substitution_matrices

from compute_service.execution import encode, execute, members
from compute_service.interrupts import Interrupts
from compute_service.outcomes import TaskOutcome
from compute_service.registry import load
from compute_service.sdk import Job
from contracts.bounds import MAX_JSON_BYTES
from contracts.status import ErrorKind, Outcome

FASTA = Path(__file__).parents[2] / "examples" / "haemoglobin_alpha.fasta"
TASKS = load({})


def run(task: str, **params: Any) -> TaskOutcome:
    definition = TASKS.get(task)
    assert definition is not None
    return execute(definition, params, Job(), Interrupts())


def result(task: str, **params: Any) -> Any:
    outcome = run(task, **params)
    assert outcome.outcome is Outcome.SUCCEEDED, outcome.error
    return outcome.result


def haemoglobins() -> dict[str, str]:
    records = FASTA.read_text().split(">")[1:]
    return {record.split()[0]: "".join(record.splitlines()[1:]) for record in records}


def test_every_example_works() -> None:
    """The example of each task, which users see first, succeeds as it stands."""
    for descriptor in TASKS.descriptors():
        if descriptor.name != "wait":
            assert run(descriptor.name, **descriptor.example).outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize(
    ("weight", "height", "index", "category"),
    [
        (50, 170, 17.3, "underweight"),
        (53.47, 170, 18.5, "normal weight"),
        (70, 170, 24.2, "normal weight"),
        (80, 178.9, 25.0, "pre-obesity"),
        (90, 170, 31.1, "obesity class I"),
        (110, 170, 38.1, "obesity class II"),
        (150, 170, 51.9, "obesity class III"),
    ],
)
def test_bmi(weight: float, height: float, index: float, category: str) -> None:
    """Index and category are those of the WHO's table; the category fits the index that is shown."""
    answer = result("bmi", name="Ada", weight_kg=weight, height_cm=height)
    assert answer == {"name": "Ada", "bmi": index, "category": category}


@pytest.mark.parametrize(("operation", "expected"), [("sum", 9), ("mul", 14), ("sub", 5), ("div", 3.5)])
def test_arithmetic(operation: str, expected: float) -> None:
    """The four operations."""
    assert result("arithmetic", operation=operation, value=7, other=2)["result"] == expected


@pytest.mark.parametrize(
    ("operation", "value", "other", "kind", "says"),
    [
        ("div", 7, 0, "ZeroDivisionError", "7 cannot be divided by zero."),
        ("mul", 1e308, 10, "OverflowError", "too large"),
        ("div", 1e308, 1e-10, "OverflowError", "too large"),
        ("sub", -1e308, 1e308, "OverflowError", "too large"),
    ],
)
def test_arithmetic_that_has_no_answer(operation: str, value: float, other: float, kind: str, says: str) -> None:
    """Division by zero and overflow are errors with a sentence, not retried."""
    outcome = run("arithmetic", operation=operation, value=value, other=other)
    assert outcome.error is not None
    assert outcome.error.kind is ErrorKind.TASK_ERROR
    assert outcome.error.type == kind
    assert says in outcome.error.message
    assert not outcome.retriable


def test_wait_waits() -> None:
    """The message comes back, after the time that was asked for."""
    answer = result("wait", message="hello", seconds=0.05)
    assert answer["message"] == "hello"
    assert answer["waited_seconds"] >= 0.05


@pytest.mark.parametrize("mode", ["global", "local"])
def test_alignment_scores_are_biopythons(mode: str) -> None:
    """All pairs of human, mouse and zebrafish haemoglobin alpha score as Biopython called directly."""
    aligner = PairwiseAligner(mode=mode, open_gap_score=-10, extend_gap_score=-0.5)
    aligner.substitution_matrix = substitution_matrices.load("BLOSUM62")
    sequences = haemoglobins()
    answer = result("align_sequences", fasta=FASTA.read_text(), mode=mode)
    assert len(answer["pairs"]) == 3
    for pair in answer["pairs"]:
        assert pair["score"] == aligner.score(sequences[pair["first"]], sequences[pair["second"]])
        assert pair["alignment"]


def test_haemoglobin_identities() -> None:
    """Identities of the shipped sequences are those that UniProt's own alignment of them shows."""
    pairs = result("align_sequences", fasta=FASTA.read_text())["pairs"]
    assert [pair["identities"] for pair in pairs] == [122, 76, 77]
    assert [pair["columns"] for pair in pairs] == [142, 143, 143]
    assert [pair["gaps"] for pair in pairs] == [0, 1, 1]


def test_dna_and_lists() -> None:
    """DNA scores +5 and -4 with IUPAC codes; blanks and lower case are no fault."""
    sequences = [{"name": "a", "letters": "ACGT acgt"}, {"name": "b", "letters": "ACGTACGA"}]
    (pair,) = result("align_sequences", sequences=sequences, scoring="dna")["pairs"]
    assert pair["score"] == 7 * 5 - 4
    assert pair["identity_percent"] == 87.5


def test_nothing_in_common() -> None:
    """A local alignment of sequences that share nothing is empty, with score zero."""
    sequences = [{"name": "a", "letters": "AAAA"}, {"name": "b", "letters": "CCCC"}]
    (pair,) = result("align_sequences", sequences=sequences, scoring="dna", mode="local")["pairs"]
    assert (pair["score"], pair["columns"], pair["alignment"]) == (0, 0, "")


@pytest.mark.parametrize(
    ("params", "pointer", "says"),
    [
        ({}, "/sequences", "either"),
        ({"fasta": ">a\nACG\n>b\nAXJ\n"}, "/fasta", "'b' has 'J' at position 3"),
        ({"fasta": "ACGT"}, "/fasta", "line 1: FASTA text begins"),
        ({"fasta": ">a\nACG\n"}, "/fasta", "1 sequences; 2 to 25"),
        ({"fasta": ">a\nACG\n>\nAC\n"}, "/fasta", "line 3: a name"),
        ({"fasta": ">a\nACG\n>a\nAC\n"}, "/fasta", "two sequences are called 'a'"),
        ({"fasta": ">a\nACG\n>b\n\n"}, "/fasta", "'b' has 0 letters"),
        (
            {"sequences": [{"name": "a", "letters": "ACG"}, {"name": "b", "letters": "A1"}]},
            "/sequences/1/letters",
            "'b' has '1' at position 2",
        ),
        ({"sequences": [{"name": "a", "letters": "ACG"}]}, "/sequences", "at least 2"),
        (
            {"sequences": [{"name": "a", "letters": ""}, {"name": "b", "letters": "A"}]},
            "/sequences/0/letters",
            "at least 1",
        ),
    ],
)
def test_bad_sequences(params: dict[str, Any], pointer: str, says: str) -> None:
    """What cannot be aligned is told with a pointer and a sentence, and never retried."""
    outcome = run("align_sequences", **params)
    assert outcome.error is not None
    assert outcome.error.kind is ErrorKind.INVALID_PARAMS
    assert outcome.error.errors is not None
    assert outcome.error.errors[0]["pointer"] == pointer
    assert says in outcome.error.errors[0]["detail"]
    assert not outcome.retriable


def test_large_results_lose_their_texts_first() -> None:
    """The most and longest-named sequences give a result within its bound, and it says what is missing."""
    sequences = [{"name": f"{number:02}".rjust(64, '"'), "letters": "MVLSPADKTNV" * 60} for number in range(25)]
    outcome = run("align_sequences", sequences=sequences)
    assert outcome.result["truncated"]
    assert len(outcome.result["pairs"]) == 300
    assert outcome.result["pairs"][-1]["alignment"] is None
    assert b'"succeeded"' in encode(members(outcome))[:100]
    assert len(encode(members(outcome))) < MAX_JSON_BYTES
