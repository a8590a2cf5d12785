"""Faults in ``jaxreg.study.reports``."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "study/reports/units.py",
        "return -change if self.lower_is_better else change",
        "return change",
        "a larger error is better",
    ),
    Mutant(
        "study/reports/units.py",
        "decimals = 3 - exponent if exponent >= 0 else 2 - exponent",
        "decimals = 3 - exponent",
        "a digit too many for small errors",
    ),
    Mutant(
        "study/reports/units.py",
        "return _format(self.scale * value, self.decimals + 1",
        "return _format(self.scale * value, self.decimals",
        "a change without its last digit",
    ),
    Mutant(
        "study/reports/judgments.py",
        "if baseline is None or _is_better(arm, baseline, units):",
        "if baseline is None:",
        "the diagnosis contradicts the verdict",
    ),
    Mutant(
        "study/reports/judgments.py",
        "return any(units.gain(change) > 0 for change in changes)",
        "return all(units.gain(change) > 0 for change in changes)",
        "an arm that is better on test alone is called too much",
    ),
    Mutant(
        "study/reports/judgments.py",
        "if baseline is None or _is_better(arm, baseline, units):",
        "if _is_better(arm, baseline or study.baseline, units):",
        "the baseline has too much regularization",
    ),
    Mutant(
        "study/reports/judgments.py",
        "if not all(map(math.isfinite, difference)):",
        "if all(map(math.isnan, difference)):",
        "an infinite error is compared",
    ),
    Mutant(
        "study/reports/judgments.py",
        "{WORSE: HELPS, BETTER: HURTS,",
        "{WORSE: HURTS, BETTER: HELPS,",
        "a part that helps is said to hurt",
    ),
    Mutant(
        "study/reports/summary.py",
        "if not metric.percent or any(not other.percent for other in others):",
        "if not metric.percent:",
        "errors beside R2 are not printed",
    ),
    Mutant(
        "study/reports/summary.py",
        'if data_set is None or study.sizes is None or study.objective.metric.name != "accuracy":',
        "if data_set is None or study.sizes is None:",
        "a published accuracy beside another metric",
    ),
    Mutant(
        "study/reports/summary.py",
        "settings = (study.epochs, study.sizes[0], strength)",
        "settings = (data_set.epochs, study.sizes[0], strength)",
        "a published score beside other epochs",
    ),
    Mutant(
        "study/reports/summary.py",
        "if len(arm.recipe) > 1 and arm.name != study.chosen",
        "if len(arm.recipe) > 1",
        "the chosen recipe is printed twice",
    ),
    Mutant(
        "study/reports/sentences.py",
        "if study.seeds < LEAST_SEEDS:",
        "if study.seeds < 1:",
        "few seeds are said to show something",
    ),
    Mutant(
        "study/reports/sentences.py",
        'side = "above" if change > 0 else "below"',
        'side = "above" if row.mark == BETTER else "below"',
        "a smaller error is above the baseline",
    ),
    Mutant(
        "study/reports/notes.py",
        "if UNCLEAR in marks:",
        "if marks:",
        "a note on a mark that does not occur",
    ),
    Mutant(
        "study/reports/table.py",
        "width=10_000, height=100",
        "width=10_000",
        "the table is measured for 80 columns on a dumb terminal",
    ),
    Mutant(
        "study/reports/table.py",
        "fitting[0] if fitting else -1",
        "0",
        "a table wider than the terminal",
    ),
    Mutant(
        "study/reports/csv_files.py",
        "start=1",
        "start=0",
        "epochs from 0",
    ),
    Mutant(
        "study/reports/writing.py",
        "if program:",
        "if True:",
        "an empty program is written",
    ),
    Mutant(
        "study/reports/figures.py",
        "if min(finite, default=0) > 0 and max(finite) / min(finite) > 3:",
        "if max(finite) / min(finite) > 3:",
        "a logarithmic axis for a strength of zero",
    ),
    Mutant(
        "study/reports/figures.py",
        "np.where(finite, values, np.inf).min(axis=1)",
        "values.min(axis=1)",
        "a diverged seed breaks the band",
    ),
    Mutant(
        "study/reports/figures.py",
        "return np.where(np.isfinite(scaled), scaled, np.nan)",
        "return scaled",
        "an infinite score on an axis",
    ),
    Mutant(
        "study/reports/svg.py",
        'tag.replace("url(#", f"url(#{prefix}-")',
        "tag",
        "two figures clip each other",
    ),
    Mutant(
        "study/reports/markup.py",
        "return _NEGATIVE.sub(MINUS, escape(text))",
        "return _NEGATIVE.sub(MINUS, text)",
        "a name becomes part of the page",
    ),
    Mutant(
        "study/reports/page.py",
        "if study.sizes is not None:",
        "if study.sizes is None:",
        "rows of a study that does not know them",
    ),
)
