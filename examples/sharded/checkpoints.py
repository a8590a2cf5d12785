"""Checkpoints by Orbax, which restore onto any mesh, and the notice of a preemption."""

import dataclasses
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from sharded.settings import Settings
from sharded.steps import Program, State


class Preemption:
    """Tells whether the processes were asked to stop (SIGTERM).

    A single process takes the signal itself. Several processes have to stop after the same step:
    JAX's coordinator tells all of them if one gets the signal.
    """

    def __init__(self) -> None:
        self.asked = False
        if jax.process_count() == 1:
            signal.signal(signal.SIGTERM, self._take)

    def _take(self, *_: Any) -> None:
        self.asked = True

    def stops_after(self, step: int) -> bool:
        """Returns whether to stop after this step; every process must ask after each step."""
        if jax.process_count() == 1:
            return self.asked
        return multihost_utils.reached_preemption_sync_point(step)


def open_folder(folder: Path) -> ocp.CheckpointManager:
    """Opens a folder of checkpoints, the same one in all processes."""
    options = ocp.CheckpointManagerOptions(max_to_keep=3, cleanup_tmp_directories=True)
    return ocp.CheckpointManager(folder.absolute(), options=options)


def save(manager: ocp.CheckpointManager, settings: Settings, state: State) -> None:
    """Copies the state and writes it in the background, atomically."""
    described = ocp.args.JsonSave(_as_json(settings))
    contents = ocp.args.Composite(state=ocp.args.StandardSave(state), settings=described)
    manager.save(int(state.step), args=contents)


def restore(manager: ocp.CheckpointManager, settings: Settings, program: Program) -> State:
    """Returns the newest state on the mesh of ``program``, or the state before the first step."""
    step = manager.latest_step()
    if step is None:
        return program.init()
    arguments = ocp.args.Composite(settings=ocp.args.JsonRestore())
    _check_settings(manager.restore(step, args=arguments).settings, _as_json(settings))
    goal = jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        jax.eval_shape(program.init),
        program.shardings,
    )
    arguments = ocp.args.Composite(state=ocp.args.StandardRestore(goal))
    return manager.restore(step, args=arguments).state


def export(state: State, file: Path) -> None:
    """Writes all arrays of a state by name; the first process writes, but all must call it."""
    whole = multihost_utils.process_allgather(state, tiled=True)
    if jax.process_index() == 0:
        leaves = jax.tree_util.tree_leaves_with_path(whole)
        np.savez(file, **{jax.tree_util.keystr(path): leaf for path, leaf in leaves})


def _as_json(settings: Settings) -> dict[str, Any]:
    """Returns the settings by name; infinity is no JSON."""
    return {name: str(value) for name, value in dataclasses.asdict(settings).items()}


def _check_settings(saved: dict[str, Any], given: dict[str, Any]) -> None:
    for name, value in given.items():
        if saved.get(name) != value:
            raise ValueError(
                f"`{name}` must be {saved.get(name)}, as in the checkpoint, got {value}; pass the "
                "same value, or another folder of checkpoints."
            )
