"""Pairwise sequence alignment, all against all, with Biopython's aligner."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from compute_service.sdk import InvalidParams, Job, task
from contracts import codec
from contracts.bounds import MAX_JSON_BYTES

if TYPE_CHECKING:
    from Bio.Align import PairwiseAligner

MAX_SEQUENCES = 25
MAX_LETTERS = 10_000
MAX_FASTA_CHARACTERS = 200_000
MAX_NAME = 64
PAIRS_BYTES = MAX_JSON_BYTES - 16 * 1024
"""What all pairs may take in the result; alignment texts are left out above it."""

MATRICES = {"blosum62": "BLOSUM62", "dna": "NUC.4.4"}
"""Scoring → matrix of NCBI. NUC.4.4 scores +5 for a match and -4 for a mismatch, and knows the IUPAC ambiguity codes."""

SequenceName = Annotated[str, Field(min_length=1, max_length=MAX_NAME, pattern=r"^[!-~]+$")]
GapScore = Annotated[float, Field(ge=-1000, le=0)]


class NamedSequence(BaseModel):
    """One sequence."""

    model_config = ConfigDict(extra="forbid")

    name: SequenceName
    letters: Annotated[str, Field(min_length=1, max_length=MAX_LETTERS)]


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The best alignment of two sequences."""

    first: str
    second: str
    score: float
    identities: Annotated[int, Field(description="Columns with the same letter in both.")]
    columns: Annotated[int, Field(description="Columns of the alignment, gaps included.")]
    identity_percent: Annotated[float, Field(description="Identities per hundred columns.")]
    gaps: Annotated[int, Field(description="Columns with a gap in either.")]
    alignment: Annotated[str | None, Field(description="The alignment as text; null if the result would be too large.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Alignments:
    """Every pair, in the order of the sequences."""

    mode: Literal["global", "local"]
    scoring: Literal["blosum62", "dna"]
    open_gap_score: float
    extend_gap_score: float
    sequences: Annotated[dict[str, int], Field(description="The length of each sequence.")]
    pairs: list[Pair]
    truncated: Annotated[bool, Field(description="Whether alignment texts were left out.")]


@task(
    title="Align sequences",
    time_limit=6 * 3600,
    memory_limit_mb=1024,
    example={
        "fasta": ">human\nMVLSPADKTNVKAAWGKVGAHAGEYGAEALERMFLSF\n>mouse\nMVLSGEDKSNIKAAWGKIGGHGAEYGAEALERMFASF\n",
        "mode": "global",
        "scoring": "blosum62",
    },
)
def align_sequences(  # noqa: PLR0913, PLR0917 -- the form a user fills in
    job: Job,
    sequences: Annotated[
        list[NamedSequence] | None,
        Field(min_length=2, max_length=MAX_SEQUENCES, description="Two or more sequences. Give these or FASTA text."),
    ] = None,
    fasta: Annotated[
        str | None,
        Field(max_length=MAX_FASTA_CHARACTERS, description="Two or more sequences as FASTA text."),
    ] = None,
    mode: Annotated[
        Literal["global", "local"],
        Field(description="Global aligns whole sequences (Needleman-Wunsch), local the best part (Smith-Waterman)."),
    ] = "global",
    scoring: Annotated[
        Literal["blosum62", "dna"],
        Field(description="BLOSUM62 for proteins; dna scores +5 for a match, -4 for a mismatch (NUC.4.4)."),
    ] = "blosum62",
    open_gap_score: Annotated[
        GapScore, Field(description="Score of the first position of a gap, at the ends too (EMBOSS: 10 off).")
    ] = -10.0,
    extend_gap_score: Annotated[
        GapScore, Field(description="Score of every further position of a gap (EMBOSS: 0.5 off).")
    ] = -0.5,
) -> Alignments:
    """Aligns every sequence with every other one: scores, identities and the alignment as text."""
    aligner = _aligner(mode, scoring, open_gap_score, extend_gap_score)
    named = _named(sequences, fasta, set(aligner.substitution_matrix.alphabet), scoring)
    couples = list(combinations(named.items(), 2))
    message = f"{len(couples)} pairs"
    pairs = [_align(aligner, first, second) for first, second in job.track(couples, stage="aligning", message=message)]
    pairs, truncated = _within(PAIRS_BYTES, pairs)
    return Alignments(
        mode=mode,
        scoring=scoring,
        open_gap_score=open_gap_score,
        extend_gap_score=extend_gap_score,
        sequences={name: len(letters) for name, letters in named.items()},
        pairs=pairs,
        truncated=truncated,
    )


def _aligner(mode: str, scoring: str, open_gap_score: float, extend_gap_score: float) -> "PairwiseAligner":
    # Biopython and numpy come with the first alignment: a worker that runs none stays 30 MB smaller per slot.
    from Bio.Align import PairwiseAligner, substitution_matrices  # noqa: PLC0415

    aligner = PairwiseAligner()  # type: ignore[no-untyped-call]
    aligner.mode = mode
    aligner.substitution_matrix = substitution_matrices.load(MATRICES[scoring])  # type: ignore[no-untyped-call]
    aligner.open_gap_score = open_gap_score
    aligner.extend_gap_score = extend_gap_score
    return aligner


def _align(aligner: "PairwiseAligner", first: tuple[str, str], second: tuple[str, str]) -> Pair:
    from Bio.Seq import Seq  # noqa: PLC0415 -- see _aligner
    from Bio.SeqRecord import SeqRecord  # noqa: PLC0415

    records = [SeqRecord(Seq(letters), id=name) for name, letters in (first, second)]
    found = aligner.align(*records)  # type: ignore[no-untyped-call]
    if len(first[1]) and not found.score > 0 and aligner.mode == "local":
        return _pair(first[0], second[0], score=0.0)
    best = found[0]
    counts = best.counts()
    return _pair(
        first[0],
        second[0],
        score=float(best.score),
        identities=int(counts.identities),
        gaps=int(counts.gaps),
        columns=int(counts.identities + counts.mismatches + counts.gaps),
        alignment=str(best),
    )


def _pair(  # noqa: PLR0913 -- the numbers of one alignment
    first: str,
    second: str,
    *,
    score: float,
    identities: int = 0,
    gaps: int = 0,
    columns: int = 0,
    alignment: str = "",
) -> Pair:
    return Pair(
        first=first,
        second=second,
        score=score,
        identities=identities,
        columns=columns,
        identity_percent=round(100 * identities / columns, 2) if columns else 0.0,
        gaps=gaps,
        alignment=alignment,
    )


def _members(pair: Pair) -> dict[str, Any]:
    return {name: getattr(pair, name) for name in Pair.__dataclass_fields__}


def _within(size: int, pairs: list[Pair]) -> tuple[list[Pair], bool]:
    """*pairs* with as many alignment texts, from the first on, as fit into *size* bytes of JSON; whether some did not."""
    bare = [Pair(**{**_members(pair), "alignment": None}) for pair in pairs]
    left = size - sum(len(codec.dumps(_members(pair))) for pair in bare)
    kept = []
    for pair, without in zip(pairs, bare, strict=True):
        left -= len(codec.dumps(pair.alignment))
        kept.append(pair if left >= 0 else without)
    return kept, left < 0


def _named(
    sequences: list[NamedSequence] | None, fasta: str | None, alphabet: set[str], scoring: str
) -> dict[str, str]:
    """Name → letters in upper case, checked; raises `InvalidParams` that says which letter of which sequence."""
    if (sequences is None) == (fasta is None):
        raise InvalidParams("give either 'sequences' or 'fasta'", pointer="/sequences")
    if sequences is not None:
        entries = [(f"/sequences/{at}/letters", item.name, item.letters) for at, item in enumerate(sequences)]
    else:
        entries = [("/fasta", name, letters) for name, letters in _records(fasta or "")]
    named: dict[str, str] = {}
    for pointer, name, given in entries:
        letters = "".join(given.split()).upper()
        if name in named:
            raise InvalidParams(f"two sequences are called {name!r}", pointer=pointer)
        if not 1 <= len(letters) <= MAX_LETTERS:
            raise InvalidParams(f"{name!r} has {len(letters)} letters; 1 to {MAX_LETTERS} are allowed", pointer=pointer)
        for position, letter in enumerate(letters, start=1):
            if letter not in alphabet:
                fault = f"{name!r} has {letter!r} at position {position}, which {MATRICES[scoring]} does not score"
                raise InvalidParams(fault, pointer=pointer)
        named[name] = letters
    return named


def _records(fasta: str) -> list[tuple[str, str]]:
    """The records of FASTA text: the first word after ``>`` is the name."""
    records: list[tuple[str, list[str]]] = []
    for number, line in enumerate(fasta.splitlines(), start=1):
        if line.startswith(">"):
            name = (line[1:].split() or [""])[0]
            if not (name and name.isascii() and name.isprintable() and len(name) <= MAX_NAME):
                fault = f"line {number}: a name of 1 to {MAX_NAME} visible ASCII characters has to follow '>'"
                raise InvalidParams(fault, pointer="/fasta")
            records.append((name, []))
        elif line.strip() and not records:
            raise InvalidParams(f"line {number}: FASTA text begins with a line that starts with '>'", pointer="/fasta")
        elif line.strip():
            records[-1][1].append(line)
    if not 2 <= len(records) <= MAX_SEQUENCES:  # noqa: PLR2004 -- a pair
        fault = f"{len(records)} sequences; 2 to {MAX_SEQUENCES} are allowed"
        raise InvalidParams(fault, pointer="/fasta")
    return [(name, "".join(lines)) for name, lines in records]
