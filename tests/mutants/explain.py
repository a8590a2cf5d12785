"""Faults in how ``jaxreg.explain`` tries optimizers."""

from tests.mutants.row import Mutant

CHAINS = ("tests/explain/test_chains.py",)
OPTIMIZERS = ("tests/explain/test_optimizers.py",)

MUTANTS = (
    Mutant(
        "explain/_curves.py",
        "if abs(middle - decay - slope / scales[1]) > EXACT * largest + NOTHING:",
        "if False:",
        "strengths from scales at which the weights are clipped",
        CHAINS,
    ),
    Mutant(
        "explain/_curves.py",
        "threshold = slope * float(np.vdot(w, w).real) / float(np.sum(np.abs(w)))",
        "threshold = slope * float(np.vdot(w, w).real) / w.size",
        "wrong mean of a threshold",
        CHAINS,
    ),
    Mutant(
        "explain/_effects.py",
        "problems.append(NOT_LAST if smaller > 1 else SCALED_AFTER)",
        "problems.append(SCALED_AFTER if smaller > 1 else NOT_LAST)",
        "problems swapped",
        CHAINS,
    ),
    Mutant(
        "explain/_effects.py",
        "in_metric = ends_in_zeros and _is_in_metric(still, busy)",
        "in_metric = False",
        "the metric of an optimizer at rest",
        CHAINS,
    ),
    Mutant(
        "explain/_effects.py",
        "    if busy is None:\n        return Effect(kind, _busy_share(response), _NEAR_ONE)",
        "    if busy is None:\n        return Effect(kind, rest, _OF_WEIGHT)",
        "the decay of a trust ratio at rest",
        CHAINS,
    ),
    Mutant(
        "explain/_effects.py",
        "if np.isclose(2 * busy.decay, rest, rtol=1e-3, atol=0.0):",
        "if np.isclose(busy.decay, rest, rtol=1e-3, atol=0.0):",
        "half of a cautious decay",
        CHAINS,
    ),
    Mutant(
        "explain/_probe.py",
        "> 0.1 * max(abs(few), abs(many))",
        "> 10 * max(abs(few), abs(many))",
        "no penalty is divided by the size of gradients",
        CHAINS,
    ),
    Mutant(
        "explain/_probe.py",
        "if trial.mini_steps > 1 else",
        "if trial.mini_steps > 3 else",
        "accumulation of three is missed",
        CHAINS,
    ),
    Mutant(
        "explain/_trials.py",
        "return _with_counts(self._init(weights), self._counts(step))",
        "return _with_counts(self._first, self._counts(step))",
        "iterates far from the weights",
        CHAINS,
    ),
    Mutant(
        "explain/_trials.py",
        "ends = [(self._phases[name], 0) for name in turning]",
        "ends = [(self._phases[name],) for name in turning]",
        "the return to slow weights for a common step",
        CHAINS,
    ),
    Mutant(
        "explain/_trials.py",
        "if not is_finite(self.move(weights)):",
        "if False:",
        "zero gradients that are divided by their norm",
        CHAINS,
    ),
    Mutant(
        "explain/_clipping.py",
        "np.isclose(both, single / math.sqrt(2), rtol=1e-3)",
        "np.isclose(both, single, rtol=1e-3)",
        "the norm of each leaf for that of all",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_clipping.py",
        "found = low + math.log(change / changes[1], _BASE) / round(power)",
        "found = low + math.log(change / changes[1], _BASE) / (3 * round(power))",
        "a bound that does not fit its power law",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_averages.py",
        "return 1 / inner[0] - 1 if parts[0] > 1 - _EXACT else 1 - inner[0]",
        "return 1 - inner[0]",
        "the bias of an average",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_averages.py",
        "returns and 0.001 < inner < 0.999",
        "returns and inner < 0.999",
        "the iterates of schedule-free steps for slow weights",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_optimizers.py",
        "squares.append(_norm(step.move) ** 2 / count)",
        "squares.append(_norm(step.move) ** 2)",
        "noise of all weights together",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_optimizers.py",
        "if np.ptp(squares) == 0:",
        "if False:",
        "random numbers that move nothing are noise",
        OPTIMIZERS,
    ),
    Mutant(
        "explain/_clipping.py",
        "return bounded and not is_projected(name)",
        "return bounded",
        "a projection is called clipping",
        ("tests/explain/test_explanation.py",),
    ),
    Mutant(
        "explain/_effects.py",
        "for count in range(landing.ndim):",
        "for count in ():",
        "units of a stack are taken together",
        ("tests/explain/test_explanation.py",),
    ),
    Mutant(
        "explain/_averages.py",
        "if trial.mini_steps == 1:",
        "if trial.mini_steps > 1:",
        "averages outside accumulation are not seen",
        ("tests/explain/test_explanation.py",),
    ),
)
