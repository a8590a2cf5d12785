"""Faults in the reading of histories and in ``jaxreg diagnose``."""

from tests.mutants.row import Mutant

_READING = ("tests/diagnosis/test_reading.py",)

MUTANTS = (
    Mutant(
        "diagnosis/_cells.py",
        "np.ma.MaskedArray(values, mask=missing,",
        "np.ma.MaskedArray(values, mask=False,",
        "an empty cell is a divergence",
        _READING,
    ),
    Mutant(
        "diagnosis/_cells.py",
        'return "." if part_thousands and has_points else ","',
        'return ","',
        "a comma between thousands is a decimal one",
        _READING,
    ),
    Mutant(
        "diagnosis/_names.py",
        'return Name(part, kind, extras, "epoch" in rest, "step" in rest)',
        'return Name(part, kind, extras, "step" in rest, "epoch" in rest)',
        "the loss of a step instead of the mean of the epoch",
        _READING,
    ),
    Mutant(
        "diagnosis/_columns.py",
        "return [c for c in known if c.measured > _SUMMARY or most <= _SUMMARY]",
        "return [*known]",
        "the loss of a single summary instead of the curve",
        _READING,
    ),
    Mutant(
        "diagnosis/_points.py",
        "while groups and groups[-1][0] >= label:",
        "while False:",
        "epochs before a resumption that came back to less",
        _READING,
    ),
    Mutant(
        "diagnosis/_points.py",
        "return sum(steps) < 0",
        "return False",
        "the newest epoch is the first",
        _READING,
    ),
    Mutant(
        "diagnosis/_points.py",
        "number >= min(best, _FEW)",
        "number >= 1",
        "steps within one epoch are one point",
        _READING,
    ),
    Mutant(
        "diagnosis/_points.py",
        "starts = np.concatenate([[0], ends[:-1] + 1])",
        "starts = np.concatenate([[0], ends[:-1]])",
        "a step counts for two evaluations",
        _READING,
    ),
    Mutant(
        "diagnosis/_points.py",
        "replaced += len(groups.pop()[1])",
        "groups.pop()",
        "what was replaced is kept silent",
        _READING,
    ),
    Mutant(
        "diagnosis/_tables.py",
        "math.nan if is_missing(cell) else cell",
        "cell",
        "a divergence in a row of its own is a gap",
        _READING,
    ),
    Mutant(
        "diagnosis/_curves.py",
        "if is_there.all() or not goes_on",
        "if True or not goes_on",
        "the mean jumps where a seed ends",
        _READING,
    ),
    Mutant(
        "diagnosis/_curves.py",
        "is_nan[found.broke_at :] = False",
        "pass",
        "a seed that diverged is forgotten",
        _READING,
    ),
    Mutant(
        "diagnosis/_curves.py",
        "return mask | is_nan if found.at.size else mask",
        "return mask | is_nan",
        "a seed that was never finite is forgotten",
        ("tests/diagnosis/test_curves.py",),
    ),
    Mutant(
        "diagnosis/verdicts.py",
        "for other in (baseline, None):",
        "for other in (baseline,):",
        "an arm that pays is not judged alone",
    ),
    Mutant(
        "cli/diagnose.py",
        "sign = -1 if row",
        "sign = 1 if row",
        "a larger error is a better score",
    ),
)
