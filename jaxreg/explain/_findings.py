"""Finds the known conflicts between regularizers, and practices that have a price."""

from collections.abc import Iterable
from typing import NamedTuple

from jaxreg import masks
from jaxreg.explain import _averages, _conflicts, _effects, _modules, _probe, _stacks, _targets
from jaxreg.explain._invariance import scale_invariant

PROBLEMS = {
    _effects.COUPLED: _conflicts.COUPLED,
    _effects.NOT_LAST: _conflicts.NOT_LAST,
    _effects.SCALED_AFTER: _conflicts.SCALED_AFTER,
    _effects.MINI_STEPS: _conflicts.MINI_STEPS,
}


class Finding(NamedTuple):
    """A known conflict between regularizers, or a practice that has a price.

    Attributes:
      what: The conflict or the practice, in a few words.
      where: Leaves and modules that it concerns.
      why: Reason why it matters.
      source: Publication that shows it.
      fix: Change that avoids it.
    """

    what: str
    where: tuple[str, ...]
    why: str
    source: str
    fix: str


def find(known: _conflicts.Known, where: Iterable[str]) -> list[Finding]:
    """Returns a list with the finding at ``where``; empty if ``where`` is empty."""
    places = tuple(where)
    if not places:
        return []
    return [Finding(known.what, places, known.why, known.source, known.fix)]


def of_chain(found: dict[str, _effects.Found], probed: _probe.Probed | None) -> list[Finding]:
    """Finds conflicts inside an optimizer chain."""
    places = {
        problem: [name for name, f in found.items() if problem in f.problems]
        for problem in PROBLEMS
    }
    if probed is not None and _averages.act_in_mini_steps(probed.trial):
        places[_effects.MINI_STEPS].append("optimizer")
    return [
        finding for problem, known in PROBLEMS.items() for finding in find(known, places[problem])
    ]


def of_penalty(added: dict[str, _effects.Found], probed: _probe.Probed | None) -> list[Finding]:
    """Finds penalties in the loss whose gradients an adaptive optimizer rescales."""
    responses = probed.responses if probed else {}
    rescaled = {name for name, response in responses.items() if response.is_rescaled}
    return find(_conflicts.COUPLED, [n for n, f in added.items() if f.effects and n in rescaled])


def of_tables(found: dict[str, _effects.Found], probed: _probe.Probed | None) -> list[Finding]:
    """Finds embedding tables in which rows of unseen tokens shrink."""
    tables = [
        name
        for name, response in (probed.responses if probed else {}).items()
        if response.forgets
        and name.rpartition("/")[2].startswith("embed")
        and _effects.COUPLED not in found[name].problems
    ]
    return find(_conflicts.UNUSED_ROWS, tables)


def of_stacks(
    model: _modules.Model | None, params: object, *responses: dict[str, _probe.Response]
) -> list[Finding]:
    """Finds stacked kernels that are regularized jointly instead of layer by layer."""
    coupled = {name for found in responses for name, r in found.items() if r.couples}
    if not coupled:
        return []
    stacks = _stacks.stacked_names(params, None if model is None else model.apply)
    return find(_conflicts.STACKED, sorted(coupled & stacks))


def of_noise(model: _modules.Model | None) -> list[Finding]:
    """Finds dropout of elements before a batch norm."""
    shifts = model.shifts if model else ()
    return find(_conflicts.SHIFT, _order(s for s in shifts if not s.skips))


def of_skipping(model: _modules.Model | None) -> list[Finding]:
    """Finds branches skipped at random before a batch norm."""
    shifts = model.shifts if model else ()
    return find(_conflicts.SKIPPED, _order(s for s in shifts if s.skips))


def _order(shifts: Iterable[_modules.Shift]) -> list[str]:
    """Names each noise once, with the first norm behind it and the number of the others."""
    behind: dict[str, list[str]] = {}
    for shift in shifts:
        behind.setdefault(shift.noise, []).append(shift.norm)
    return [
        f"{noise} before {norms[0]}" + ("" if len(norms) == 1 else f" and {len(norms) - 1} more")
        for noise, norms in behind.items()
    ]


def of_decay(model: _modules.Model | None, params: object, decayed: list[str]) -> list[Finding]:
    """Finds decay on biases and on weights whose scale a norm undoes."""
    kernels = _probe.leaf_names(masks.kernels(params))
    weights = _probe.leaf_names(masks.no_bias_or_norm(params))
    # Where there are no kernels, a vector may be the weights of a linear model.
    has_kernels = any(kernels.values())
    inner = [name for name in decayed if kernels[name]]
    outer = [n for n in decayed if not kernels[n] and (has_kernels or not weights[n])]
    invariant = []
    if model is not None and model.apply is not None and inner:
        invariant = scale_invariant(model.apply, model.params, inner)
    return [*find(_conflicts.SCALES, outer), *find(_conflicts.INVARIANT, invariant)]


def of_targets(examined: _targets.Examined) -> list[Finding]:
    """Finds soft targets that the loss smooths once more."""
    soft, alpha = examined.softness, examined.smoothing
    # A comparison with NaN, which stands for what was not measured, is false.
    if not (soft >= _targets.LEAST and alpha >= _targets.LEAST):
        return []
    return find(_conflicts.SOFT_TARGETS, [f"targets soft by {soft:.3g}, alpha {alpha:.3g}"])


def of_what_was_not_seen(model: _modules.Model | None, *, has_optimizer: bool) -> list[Finding]:
    """Tells which parts of an explanation are missing, and what to pass."""
    uncalled = model is not None and model.apply is None
    return [
        *find(_conflicts.UNCALLED, ["model"] if uncalled else []),
        *find(_conflicts.UNTRIED, [] if has_optimizer else ["optimizer"]),
        *find(_conflicts.IDLE, model.idle if model else ()),
    ]
