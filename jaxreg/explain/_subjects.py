"""Sorts what people have into a model, an optimizer, parameters and a batch."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from flax import nnx
from flax.training.train_state import TrainState

from jaxreg.explain import _modules

_ORDER = "explain(model, optimizer, params, *inputs)"


class Subject(NamedTuple):
    """A model and its optimizer, of which one may be None."""

    model: Any
    optimizer: Any
    params: Any
    inputs: tuple[Any, ...]


def sort_out(model: Any, *others: Any) -> Subject:
    """Takes tuples, train states and optimizers of NNX apart.

    Args:
      model: A model, or what holds one.
      *others: Optimizer, parameters and batch, as far as ``model`` does not hold them.

    Raises:
      TypeError: Something else stands for the optimizer.
    """
    if isinstance(model, tuple) and not hasattr(model, "_fields"):
        model, *held = model or (None,)
        # An NNX module holds its parameters, so that a batch follows the optimizer.
        gap = [None] * (2 - len(held)) if isinstance(model, nnx.Module) else []
        others = (*held, *gap, *_drop_gap(others))
    if isinstance(model, TrainState):
        return _with_batch(_module_of(model), model.tx, _variables_of(model), others)
    if isinstance(model, nnx.Optimizer):
        held = vars(model).get("model")
        if held is not None:
            return _with_batch(held, model.tx, None, others)
        model, others = None, (model.tx, *_drop_gap(others))
    if _is_optimizer(model):
        raise TypeError(
            f"`model` must be a model or None, got {type(model).__name__}; pass {_ORDER}."
        )
    optimizer, params, *inputs = (*others, None, None)[: max(len(others), 2)]
    if not (optimizer is None or _is_optimizer(optimizer)):
        raise TypeError(
            f"`optimizer` must be an Optax transformation, got {type(optimizer).__name__}; pass "
            f"{_ORDER}."
        )
    return Subject(model, getattr(optimizer, "tx", optimizer), params, tuple(inputs))


def trace(subject: Subject, call: Callable[..., Any] | None) -> _modules.Model | None:
    """Calls the model with its batch, and records what regularizes in it.

    Returns:
      The model, with ``apply`` None if there is nothing to call it with; None without a model.

    Raises:
      TypeError: The model is of no known kind.
      ValueError: The parameters are missing or of another kind, or the model fails.
    """
    tracer = _tracer(subject, call)
    if tracer is None:
        return None
    try:
        return tracer()
    except Exception as error:
        shapes = ", ".join(map(_shape, subject.inputs)) or "nothing"
        text = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"`model` must run on the batch, but {type(error).__name__} came of inputs of shape "
            f"{shapes}: {text}; pass a batch after `params`, or `call` to call the model."
        ) from error


def params_of(subject: Subject, model: _modules.Model | None) -> Any:
    """Returns the tree of parameters that the optimizer trains.

    Raises:
      ValueError: There are none.
    """
    params = subject.params if model is None else model.params
    if params is None:
        raise ValueError(
            f"`params` must hold the parameters of the optimizer, got None; pass {_ORDER}, with "
            "None for the model."
        )
    return params


def _tracer(
    subject: Subject, call: Callable[..., Any] | None
) -> Callable[[], _modules.Model] | None:
    """Returns the function that traces the model; None without a model."""
    model, _, params, inputs = subject
    has_call = bool(inputs) or call is not None
    if model is None:
        return None
    if isinstance(model, nnx.Module):
        if params is not None:
            raise ValueError(
                f"`params` must be None for an NNX module, which holds them, got "
                f"{type(params).__name__}; pass explain(model, optimizer, None, *inputs)."
            )
        if has_call:
            return partial(_modules.of_nnx, model, inputs, call)
        return partial(_modules.of_graph, model)
    if isinstance(model, nn.Module) or call is not None:
        if not isinstance(params, Mapping):
            raise ValueError(
                f"`params` must hold the variables of {type(model).__name__}, got "
                f"{'None' if params is None else type(params).__name__}; pass what its `init` "
                "returns."
            )
        if has_call:
            return partial(_modules.of_linen, model, params, inputs, call)
        return partial(_modules.of_nothing, params.get("params", params))
    if not callable(model):
        raise TypeError(
            "`model` must be a module of Flax, a function of parameters and inputs, a TrainState, "
            f"an nnx.Optimizer or None, got {type(model).__name__}; for others pass `call`."
        )
    if params is None:
        raise ValueError(
            f"`params` must hold the parameters of {_name(model)}, got None; pass {_ORDER}."
        )
    if inputs or _needs_no_batch(model, params):
        return partial(_modules.of_function, model, params, inputs)
    return partial(_modules.of_nothing, params)


def _drop_gap(others: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns what follows the optimizer and the parameters, or these, as far as given."""
    start = next((n for n, each in enumerate(others[:2]) if each is not None), 2)
    return others[start:]


def _with_batch(model: Any, optimizer: Any, params: Any, others: tuple[Any, ...]) -> Subject:
    """Returns the subject of a state, which may stand before another optimizer and a batch."""
    if others and _is_optimizer(others[0]):
        optimizer = getattr(others[0], "tx", others[0])
        others = (None, *others[1:])
    first, inputs = others[:2], others[2:]
    return Subject(
        model, optimizer, params, (*(each for each in first if each is not None), *inputs)
    )


def _is_optimizer(value: Any) -> bool:
    """Returns whether a value is an Optax transformation or holds one."""
    held = getattr(value, "tx", value)
    return hasattr(held, "init") and hasattr(held, "update")


def _module_of(state: TrainState) -> Any:
    """Returns the Linen module of a state, or its function of the parameters and a batch."""
    function: Any = state.apply_fn
    while function is not None:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, nn.Module):
            return owner
        function = getattr(function, "__wrapped__", None)
    return state.apply_fn


def _variables_of(state: TrainState) -> Any:
    """Returns the variables of a Linen module in a state, or the parameters of a function."""
    stats = getattr(state, "batch_stats", None)
    return state.params if stats is None else {"params": state.params, "batch_stats": stats}


def _needs_no_batch(function: Callable[..., Any], params: Any) -> bool:
    """Returns whether a function can be called with the parameters alone."""
    try:
        inspect.signature(function).bind(params)
    except (TypeError, ValueError):
        return False
    return True


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _shape(value: Any) -> str:
    leaves = [str(np.shape(leaf)) for leaf in jax.tree.leaves(value)]
    return leaves[0] if len(leaves) == 1 else f"[{', '.join(leaves)}]"
