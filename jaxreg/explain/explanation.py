"""Lists the regularizers of each parameter and activation, and the known conflicts."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxreg import masks
from jaxreg.explain import _conflicts, _effects, _modules, _probe, _stacks
from jaxreg.explain._invariance import scale_invariant

__all__ = ["Conflict", "Effect", "Explanation", "explain"]

_PROBLEMS = {
    _effects.COUPLED: _conflicts.COUPLED,
    _effects.NOT_LAST: _conflicts.NOT_LAST,
    _effects.SCALED_AFTER: _conflicts.SCALED_AFTER,
    _effects.MINI_STEPS: _conflicts.MINI_STEPS,
}
_DECAYS = ("decay", "L2 penalty", "penalty through the optimizer's scaling")
# Targets are estimated from gradients in float32, so smaller values may be rounding.
_LEAST_SMOOTHING = 1e-3


class Effect(NamedTuple):
    """A regularizer at one parameter leaf or module."""

    place: str  # leaf of the parameters, or path of a module
    regularizer: str
    strength: float  # NaN if there is no number
    unit: str  # unit of the strength, in words


class Conflict(NamedTuple):
    """A known conflict between regularizers."""

    what: str
    where: tuple[str, ...]
    why: str
    source: str
    fix: str


class Explanation(NamedTuple):
    """Result of :func:`explain`; ``str()`` formats it as a table."""

    effects: tuple[Effect, ...]  # at least one for every leaf; "none" if nothing acts on it
    conflicts: tuple[Conflict, ...]
    step: int  # step of the schedules at which the strengths hold

    def __str__(self) -> str:
        """Returns a table with one line per effect, followed by the conflicts."""
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
            lines += [
                "",
                f"conflict: {conflict.what}",
                f"  where: {', '.join(conflict.where)}",
                f"  why: {conflict.why}",
                f"  fix: {conflict.fix}",
                f"  see: {conflict.source}",
            ]
        if not self.conflicts:
            lines += ["", "No known conflict."]
        return "\n".join(lines)


def _number(value: float) -> str:
    return "" if value != value else f"{value:.3g}"


def explain(
    model: Any,
    optimizer: Any,
    params: Any = None,
    *inputs: Any,
    call: Callable[..., Any] | None = None,
    penalty: Callable[[Any], Any] | None = None,
    loss: Callable[[Any, Any], Any] | None = None,
    targets: Any = None,
) -> Explanation:
    """Lists the regularizers of each parameter and activation, and warns of known conflicts.

    Args:
      model: Linen module, or NNX module in training mode; None to examine only the optimizer.
      optimizer: Optax transformation, or an object that holds one as ``tx``.
      params: Variables or parameters of a Linen module; None for an NNX module, which holds them.
      *inputs: A batch for the model. Use real values: a norm needs something to normalize.
      call: Function that calls the model in training: ``call(variables, *inputs)`` for Linen, by
        default with ``train=True`` or ``deterministic=False`` if it has such an argument;
        ``call(model, *inputs)`` for NNX, by default ``model(*inputs)``.
      penalty: Penalty that is added to the loss, a function of the parameters.
      loss: The loss ``(logits, targets)``, the mean or the sum over a batch; needed to find
        conflicts of label smoothing.
      targets: A batch of targets as they come from the pipeline, mixed if they are mixed there.

    Returns:
      The effects, one or more for every leaf, and the conflicts.

    Raises:
      TypeError: ``optimizer`` is not an Optax transformation.
      ValueError: There are no parameters.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxreg.explain import explain
      >>> params = {"dense": {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}}
      >>> found = explain(None, optax.adamw(0.1, weight_decay=0.5), params)
      >>> for effect in found.effects:
      ...     print(effect.place, effect.regularizer, round(effect.strength, 3), effect.unit)
      dense/bias decay 0.05 of the weight per step
      dense/kernel decay 0.05 of the weight per step
      >>> print(found.conflicts[0].what)
      decay on biases or scales of norms
    """
    traced = _trace(model, params, inputs, call)
    tree = params if traced is None else traced.params
    probed = _probe.probe(optimizer, tree)
    if not probed.responses:
        raise ValueError("`params` must hold floating-point arrays, got none; pass the parameters.")
    found = {name: _effects.of_leaf(r, probed) for name, r in probed.responses.items()}
    pulled = {} if penalty is None else _probe.probe_penalty(penalty, tree)
    added = {name: _effects.of_penalty(response) for name, response in pulled.items()}
    effects = _leaf_effects(tree, found, added) + _module_effects(traced)
    conflicts = [
        *_chain_conflicts(found),
        *_penalty_conflicts(added, probed),
        *_leaf_conflicts(effects, tree),
        *_row_conflicts(found, probed),
        *_stack_conflicts(traced, tree, probed.responses, pulled),
        *_model_conflicts(traced, effects),
        *_target_conflicts(loss, targets),
    ]
    return Explanation(tuple(effects), tuple(conflicts), probed.step)


def _trace(model: Any, params: Any, inputs: Any, call: Any) -> _modules.Model | None:
    if model is None:
        return None
    if isinstance(model, nnx.Module):
        return _modules.of_nnx(model, inputs, call)
    return _modules.of_linen(model, params, inputs, call)


def _leaf_effects(
    params: Any, found: dict[str, _effects.Found], added: dict[str, _effects.Found]
) -> list[Effect]:
    """Returns the effects on every leaf, in the order of the tree."""
    effects = []
    for name in _probe.leaf_names(params):
        both = [f for f in (added.get(name), found.get(name)) if f is not None]
        own = [Effect(name, *effect) for f in both for effect in f.effects]
        effects += own or [Effect(name, "none", float("nan"), "")]
    return effects


def _module_effects(traced: _modules.Model | None) -> list[Effect]:
    return [
        Effect(used.path or "model", used.kind, used.strength, used.argument)
        for used in (traced.used if traced else ())
    ]


def _conflict(known: _conflicts.Known, where: list[str]) -> list[Conflict]:
    """Returns a list with the conflict at ``where``; empty if ``where`` is empty."""
    if not where:
        return []
    return [Conflict(known.what, tuple(where), known.why, known.source, known.fix)]


def _chain_conflicts(found: dict[str, _effects.Found]) -> list[Conflict]:
    return [
        conflict
        for problem, known in _PROBLEMS.items()
        for conflict in _conflict(known, [n for n, f in found.items() if problem in f.problems])
    ]


def _penalty_conflicts(added: dict[str, _effects.Found], probed: _probe.Probed) -> list[Conflict]:
    """Finds penalties in the loss whose gradients an adaptive optimizer rescales."""
    touched = [name for name, found in added.items() if found.effects]
    return _conflict(_conflicts.COUPLED, touched if probed.is_adaptive else [])


def _leaf_conflicts(effects: list[Effect], params: Any) -> list[Conflict]:
    kernels = _probe.leaf_names(masks.kernels(params))
    decayed = _decayed_leaves(effects)
    return _conflict(_conflicts.SCALES, [name for name in decayed if not kernels[name]])


def _row_conflicts(found: dict[str, _effects.Found], probed: _probe.Probed) -> list[Conflict]:
    """Finds embedding tables in which rows of unseen tokens shrink."""
    tables = [
        name
        for name, response in probed.responses.items()
        if response.forgets
        and name.rpartition("/")[2].startswith("embed")
        and _effects.COUPLED not in found[name].problems
    ]
    return _conflict(_conflicts.UNUSED_ROWS, tables)


def _stack_conflicts(
    traced: _modules.Model | None, params: Any, *responses: dict[str, _probe.Response]
) -> list[Conflict]:
    """Finds stacked kernels that are regularized jointly instead of layer by layer."""
    coupled = {name for found in responses for name, r in found.items() if r.couples}
    if not coupled:
        return []
    stacks = _stacks.stacked_names(params, None if traced is None else traced.apply)
    return _conflict(_conflicts.STACKED, sorted(coupled & stacks))


def _decayed_leaves(effects: list[Effect]) -> list[str]:
    return list(dict.fromkeys(e.place for e in effects if e.regularizer in _DECAYS))


def _model_conflicts(traced: _modules.Model | None, effects: list[Effect]) -> list[Conflict]:
    if traced is None:
        return []
    kernels = _probe.leaf_names(masks.kernels(traced.params))
    decayed = [name for name in _decayed_leaves(effects) if kernels.get(name)]
    invariant = scale_invariant(traced.apply, traced.params, decayed) if decayed else []
    return [
        *_conflict(_conflicts.SHIFT, [f"{noise} before {norm}" for noise, norm in traced.shifts]),
        *_conflict(_conflicts.INVARIANT, invariant),
    ]


def _target_conflicts(loss: Callable[[Any, Any], Any] | None, targets: Any) -> list[Conflict]:
    """Finds soft targets passed to a loss that smooths labels itself."""
    if (
        loss is None
        or targets is None
        or not jnp.issubdtype(jnp.result_type(targets), jnp.floating)
    ):
        return []
    soft = float(jnp.max(jnp.minimum(targets, 1 - targets)))
    hard = jax.nn.one_hot(jnp.argmax(targets, axis=-1), targets.shape[-1])
    alpha = _smoothing(loss, hard)
    if soft < _LEAST_SMOOTHING or alpha < _LEAST_SMOOTHING:
        return []
    return _conflict(_conflicts.SOFT_TARGETS, [f"targets soft by {soft:.3g}, alpha {alpha:.3g}"])


def _smoothing(loss: Callable[[Any, Any], Any], hard: jax.Array) -> float:
    """Estimates the label smoothing ``alpha`` of a loss from its gradients for hard targets.

    The gradient of a cross-entropy with respect to the logits is ``c (p - q)``, with the effective
    targets ``q``. Its values at zero logits and at very confident ones give ``c`` and then ``q``.
    """
    gradient = jax.grad(lambda logits: loss(logits, hard))
    classes = hard.shape[-1]
    even = gradient(jnp.zeros_like(hard))
    certain = gradient(100.0 * hard)
    scale = jnp.sum((certain - even) * hard) / jnp.sum(hard * (1 - 1 / classes))
    missing = jnp.sum(certain * hard) / jnp.sum(hard) / jnp.where(scale == 0, 1, scale)
    return float(missing * classes / (classes - 1))
