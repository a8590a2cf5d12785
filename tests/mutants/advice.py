"""Faults in ``jaxreg.advice``."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "advice/ranking.py",
        "if value < small:",
        "if value <= small:",
        "the bound itself is small",
    ),
    Mutant(
        "advice/ranking.py",
        "[[row for row in g if row.avoid] or g for g in groups.values()]",
        "[g for g in groups.values()]",
        "advises what it warns of",
    ),
    Mutant(
        "advice/rows.py",
        'technique="clipping", architectures=("rnn",)',
        'technique="clipping", architectures=("cnn",)',
        "a wrong row of the table",
        ("tests/advice/test_ranking.py",),
    ),
    Mutant(
        "advice/starts.py",
        'argument="n_steps"',
        'argument="steps"',
        "names an argument that does not exist",
    ),
    Mutant(
        "advice/starts.py",
        "random_mixup(key, x, labels, alpha={0}",
        "mixup(key, x, labels, alpha={0}",
        "a call that fails",
    ),
    Mutant(
        "advice/works.py",
        "https://arxiv.org/abs/1602.07868",
        "arXiv:1602.07868",
        "a source that nobody can open",
        ("tests/advice/test_starts.py",),
    ),
    Mutant(
        "advice/measuring.py",
        "2, -advice.weight",
        "2, advice.weight",
        "order reversed",
    ),
    Mutant(
        "advice/measuring.py",
        "0 if measured.chosen else 1",
        "1",
        "the choice of validation does not count",
    ),
    Mutant(
        "advice/measuring.py",
        "-abs(measured.difference)",
        "-measured.difference",
        "the smallest gain of an error comes first",
    ),
    Mutant(
        "advice/measuring.py",
        "if measured.is_worse and not advice.avoid:",
        "if measured.is_worse and advice.avoid:",
        "advises what a study found worse",
    ),
    Mutant(
        "advice/arms.py",
        "low=strength, high=strength",
        "low=strength",
        "the published end beside the measured strength",
        ("tests/advice/test_measuring.py",),
    ),
    Mutant(
        "advice/arms.py",
        'start.address.removesuffix(".update") not in code',
        "not code",
        "the code of a technique in place of the arm's own",
        ("tests/advice/test_measuring.py",),
    ),
    Mutant(
        "advice/records.py",
        "self.verdict in (WORSE, DIVERGED)",
        "self.verdict == WORSE",
        "advises what diverged",
        ("tests/advice/test_measuring.py",),
    ),
)
