"""Lists the regularizers of each parameter and activation, and the known conflicts."""

import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from jaxreg.explain import _effects, _findings, _modules, _optimizers, _probe, _subjects, _targets
from jaxreg.explain._findings import Finding

__all__ = ["Effect", "Explanation", "Finding", "explain"]

_DECAYS = ("decay", "L2 penalty", "penalty through the optimizer's scaling")
_UNKNOWN = "unknown random numbers"
_WIDTH = 100


class Effect(NamedTuple):
    """A regularizer at one place.

    Attributes:
      place: Leaf of the parameters, path of a module, "model", "optimizer" or "loss".
      regularizer: Name of the regularizer.
      strength: Its strength; NaN if there is no number.
      unit: Unit of the strength, in words.
    """

    place: str
    regularizer: str
    strength: float
    unit: str


class Explanation(NamedTuple):
    """Result of :func:`explain`; ``str()`` formats it as a table.

    Attributes:
      effects: The regularizers by place. With an optimizer there is at least one for every leaf,
        "none" if nothing acts on it.
      conflicts: Findings on what changes the regularization that was asked for.
      notes: Findings on common practice that has a price, and on parts that could not be examined.
      step: Step of the schedules at which the strengths hold.
    """

    effects: tuple[Effect, ...]
    conflicts: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    step: int

    def __str__(self) -> str:
        """Returns a table with one line per effect, followed by the conflicts and the notes."""
        cells = [("where", "regularizer", "strength", "")]
        cells += [(e.place, e.regularizer, _number(e.strength), e.unit) for e in self.effects]
        widths = [max(len(row[column]) for row in cells) for column in range(4)]
        lines = [
            f"{place:{widths[0]}}  {kind:{widths[1]}}  {number:>{widths[2]}}  {unit}".rstrip()
            for place, kind, number, unit in cells
        ]
        if self.step:
            lines.append(f"The strengths hold at step {self.step}.")
        for conflict in self.conflicts:
            lines += ["", *_block("conflict", conflict)]
        if not self.conflicts:
            lines += ["", "No known conflict."]
        for note in self.notes:
            lines += ["", *_block("note", note)]
        return "\n".join(lines)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3g}"


def _block(level: str, finding: Finding) -> list[str]:
    """Returns the lines of a finding."""
    where = textwrap.wrap(
        f"  where: {', '.join(finding.where)}",
        _WIDTH,
        subsequent_indent=" " * 9,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [
        f"{level}: {finding.what}",
        *where,
        f"  why: {finding.why}",
        f"  fix: {finding.fix}",
        f"  see: {finding.source}",
    ]


def explain(
    model: Any,
    optimizer: Any = None,
    params: Any = None,
    *inputs: Any,
    call: Callable[..., Any] | None = None,
    penalty: Callable[[Any], Any] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
) -> Explanation:
    """Lists the regularizers of each parameter and activation, and warns of known conflicts.

    Args:
      model: Linen module; NNX module in training mode; function of the parameters and the inputs;
        or None to examine only the optimizer. A ``TrainState`` or ``nnx.ModelAndOptimizer`` holds
        the other arguments, too: ``explain(state, x)``. A tuple ``(model, optimizer)`` holds both,
        and may go on with the parameters (not for NNX) and the batch.
      optimizer: Optax transformation, or an object that holds one as ``tx``; None to examine only
        the model.
      params: Variables or parameters of a Linen module; parameters of a function; None for an NNX
        module, which holds them.
      *inputs: A batch for the model. Use real values: a norm needs something to normalize. Without
        a batch the model is not called.
      call: Function that calls the model in training: ``call(variables, *inputs)`` for Linen, by
        default with ``train=True`` or ``deterministic=False`` if it has such an argument;
        ``call(model, *inputs)`` for NNX, by default ``model(*inputs)``.
      penalty: Penalty that is added to the loss, a function of the parameters.
      loss: The loss ``(logits, targets)`` of a batch, to measure its label smoothing and to list
        the functions that it calls; it needs ``targets``.
      targets: A batch of targets as they come from the pipeline, mixed if they are mixed there:
        labels, or distributions over classes.

    Returns:
      The effects, one or more for every leaf if there is an optimizer; the conflicts; and the
      notes. The regularizer "unknown random numbers" marks a place where random numbers are drawn
      by code that is neither a module of Flax or jaxreg nor a function of jaxreg.

    Raises:
      TypeError: ``model`` is none of the kinds above, or ``optimizer`` is no Optax transformation
        and holds none.
      ValueError: There are no parameters, or the model or the loss fails on the batch.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg.explain import explain
      >>> params = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}
      >>> found = explain(None, optax.adamw(0.1, weight_decay=0.5), params)
      >>> for effect in found.effects:
      ...     print(effect.place, effect.regularizer, round(effect.strength, 3), effect.unit)
      dense/bias decay 0.05 of the weight per step
      dense/kernel decay 0.05 of the weight per step
      >>> print(found.notes[0].what)
      decay on biases or scales of norms
    """
    subject = _subjects.sort_out(model, optimizer, params, *inputs)
    traced = _subjects.trace(subject, call)
    tree = _subjects.params_of(subject, traced)
    probed = None if subject.optimizer is None else _probe.probe(subject.optimizer, tree)
    found = {} if probed is None else _of_leaves(probed)
    pulled = {} if penalty is None else _probe.probe_penalty(penalty, tree)
    added = {name: _effects.of_penalty(response) for name, response in pulled.items()}
    examined = _targets.examine(loss, targets, _outputs(traced, loss))
    effects = [
        *_leaf_effects(tree, found, added, probed),
        *_optimizer_effects(probed),
        *_model_effects(traced),
        *_loss_effects(examined),
    ]
    decayed = list(dict.fromkeys(e.place for e in effects if e.regularizer in _DECAYS))
    conflicts = [
        *_findings.of_chain(found, probed),
        *_findings.of_penalty(added, probed),
        *_findings.of_tables(found, probed),
        *_findings.of_stacks(traced, tree, probed.responses if probed else {}, pulled),
        *_findings.of_noise(traced),
    ]
    notes = [
        *_findings.of_skipping(traced),
        *_findings.of_decay(traced, tree, decayed),
        *_findings.of_targets(examined),
        *_findings.of_what_was_not_seen(traced, has_optimizer=subject.optimizer is not None),
    ]
    step = 0 if probed is None else probed.step
    return Explanation(tuple(effects), tuple(conflicts), tuple(notes), step)


def _of_leaves(probed: _probe.Probed) -> dict[str, _effects.Found]:
    if not probed.responses:
        raise ValueError("`params` must hold floating-point arrays, got none; pass the parameters.")
    return {name: _effects.of_leaf(r, probed) for name, r in probed.responses.items()}


def _outputs(traced: _modules.Model | None, loss: Callable[..., Any] | None) -> Any:
    """Returns the shape of the model's output, which a loss takes; None if it is not known."""
    if loss is None or traced is None or traced.apply is None:
        return None
    shapes = jax.tree.leaves(jax.eval_shape(traced.apply, traced.params))
    return shapes[0] if len(shapes) == 1 else None


def _leaf_effects(
    params: Any,
    found: dict[str, _effects.Found],
    added: dict[str, _effects.Found],
    probed: _probe.Probed | None,
) -> list[Effect]:
    """Returns the effects on every leaf, in the order of the tree."""
    effects = []
    for name in _probe.leaf_names(params):
        both = [f for f in (added.get(name), found.get(name)) if f is not None]
        own = [Effect(name, *effect) for f in both for effect in f.effects]
        # Without an optimizer nobody knows what else acts on the leaf.
        nothing = [] if probed is None else [Effect(name, "none", float("nan"), "")]
        effects += own or nothing
    return effects


def _optimizer_effects(probed: _probe.Probed | None) -> list[Effect]:
    found = [] if probed is None else _optimizers.of_trial(probed.trial)
    return [Effect("optimizer", *each) for each in found]


def _model_effects(traced: _modules.Model | None) -> list[Effect]:
    """Returns the modules, the pure functions, and places of random numbers not known."""
    if traced is None:
        return []
    return [
        *(Effect(u.place, u.kind, u.strength, u.argument) for u in traced.used),
        *(Effect(a.place, a.function, a.strength, a.argument) for a in traced.acting),
        *(Effect(place, _UNKNOWN, float("nan"), "") for place in traced.drawing),
    ]


def _loss_effects(examined: _targets.Examined) -> list[Effect]:
    effects = []
    if examined.softness >= _targets.LEAST:
        unit = "largest share of a second class"
        effects.append(Effect("loss", "soft targets", examined.softness, unit))
    if examined.smoothing >= _targets.LEAST:
        effects.append(Effect("loss", "label smoothing", examined.smoothing, "alpha"))
    effects += [Effect("loss", a.function, a.strength, a.argument) for a in examined.acting]
    if examined.draws:
        effects.append(Effect("loss", _UNKNOWN, float("nan"), ""))
    return effects
