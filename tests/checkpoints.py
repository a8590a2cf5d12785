"""Modules of Flax's names, and wrappers that keep a layer's variables, by what they load."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from flax import linen as flax_linen
from flax import nnx as flax_nnx

from jaxreg import linen, nnx
from tests.trees import draw

IMAGES = draw(4, 5, 5, 8)
SERIES = draw(4, 6, 8, seed=1)
IDS = np.arange(6).reshape(2, 3)


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A module of Flax and our replacement: they exchange variables and give equal outputs."""

    name: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    inputs: tuple[Any, ...] = (SERIES,)
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # of training
    evaluation: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    unboxed: bool = False  # whether Flax's has no boxes, since it cannot take them

    def __str__(self) -> str:
        return self.name


def both(name: str, make: Callable[..., Any], spaces: tuple[Any, Any], **others: Any) -> Exchange:
    """The same call in the namespaces of Flax and of jaxreg."""
    return Exchange(name, *(partial(make, space) for space in spaces), **others)


BATCH = {
    "call": {"use_running_average": False},
    "evaluation": {"use_running_average": True},
}
SPECTRAL = {"call": {"update_stats": True}, "evaluation": {"update_stats": False}}
NORMS = {
    "BatchNorm": {},
    "LayerNorm": {},
    "RMSNorm": {},
    "GroupNorm": {"num_groups": 2},
    "InstanceNorm": {},
}


# Linen.


def sharded(init: Any) -> Any:
    """Initializer of partitioned parameters, of any number of axes."""
    return lambda key, shape, *rest: flax_linen.with_partitioning(
        init, (None,) * (len(shape) - 1) + ("model",)
    )(key, shape, *rest)


def logical(init: Any) -> Any:
    return flax_linen.with_logical_partitioning(init, (None, "features"))


def linen_norm(name: str, space: Any, *, partitioned: bool) -> Any:
    inits = {}
    if partitioned:
        inits["scale_init"] = sharded(flax_linen.initializers.ones)
        if name != "RMSNorm":
            inits["bias_init"] = sharded(flax_linen.initializers.zeros)
    return getattr(space, name)(**NORMS[name], **inits)


def linen_norms() -> list[Exchange]:
    rows = []
    for name in NORMS:
        for partitioned in (False, True):
            row = both(
                f"{name}{'-partitioned' * partitioned}",
                partial(linen_norm, name, partitioned=partitioned),
                (flax_linen, linen),
                inputs=(IMAGES,),
                **(BATCH if name == "BatchNorm" else {}),
            )
            rows.append(row)
    return rows


KERNEL = flax_linen.initializers.lecun_normal()
LINEN_LAYERS = {
    "dense": (partial(flax_linen.Dense, 3), (SERIES,)),
    "partitioned": (partial(flax_linen.Dense, 3, kernel_init=sharded(KERNEL)), (SERIES,)),
    "logical": (partial(flax_linen.Dense, 3, kernel_init=logical(KERNEL)), (SERIES,)),
    "embedding": (partial(flax_linen.Embed, 7, 5), (IDS,)),
    "attention": (partial(flax_linen.MultiHeadDotProductAttention, 2), (SERIES, SERIES)),
    "conv": (partial(flax_linen.Conv, 3, (3, 3)), (IMAGES,)),
    "transposed": (partial(flax_linen.ConvTranspose, 3, (2, 2)), (IMAGES,)),
    "general": (partial(flax_linen.DenseGeneral, (2, 3)), (SERIES,)),
    "einsum": (partial(flax_linen.Einsum, (8, 2, 3), "abc,cde->abde"), (SERIES,)),
    "recurrent": (lambda: flax_linen.RNN(flax_linen.GRUCell(3)), (SERIES,)),
}


def linen_wrappers() -> list[Exchange]:
    rows = []
    for name, (layer, inputs) in LINEN_LAYERS.items():
        make = lambda space, layer=layer: space.WeightNorm(layer())  # noqa: E731
        rows.append(both(f"WeightNorm-{name}", make, (flax_linen, linen), inputs=inputs))
        boxed = name in ("partitioned", "logical")  # Flax's SpectralNorm fails on them.
        other = partial(flax_linen.Dense, 3) if boxed else layer
        rows.append(
            Exchange(
                f"SpectralNorm-{name}",
                lambda layer=other: flax_linen.SpectralNorm(layer(), n_steps=2),
                lambda layer=layer: linen.SpectralNorm(layer(), n_steps=2),
                inputs=inputs,
                unboxed=boxed,
                **SPECTRAL,
            )
        )
    return rows


def linen_layers() -> list[Exchange]:
    """Layers whose parameters DropConnect and Perturb leave where they were."""
    wrappers = {"DropConnect": {"rate": 0.5}, "Perturb": {"stddev": 0.5}}
    return [
        Exchange(
            f"{name}-{kind}",
            layer,
            lambda layer=layer, name=name: getattr(linen, name)(
                layer(), **wrappers[name], deterministic=True
            ),
            inputs=inputs,
        )
        for name in wrappers
        for kind, (layer, inputs) in LINEN_LAYERS.items()
        if kind in ("dense", "partitioned", "conv")
    ]


LINEN = (
    *linen_wrappers(),
    *linen_norms(),
    both("Dropout", lambda space: space.Dropout(0.5, deterministic=True), (flax_linen, linen)),
    *linen_layers(),
)


# NNX. The metadata do not name a mesh axis, since that axis would have to exist.


def rngs() -> dict[str, Any]:
    return {"rngs": flax_nnx.Rngs(0)}


def nnx_norm(name: str, space: Any, *, partitioned: bool) -> Any:
    metadata = {}
    if partitioned:
        metadata["scale_metadata"] = {"role": "scale"}
        if name != "RMSNorm":
            metadata["bias_metadata"] = {"role": "bias"}
    return getattr(space, name)(8, **NORMS[name], **metadata, **rngs())


def annotated() -> Any:
    return flax_nnx.Linear(8, 3, kernel_metadata={"role": "kernel"}, **rngs())


def attention() -> Any:
    return flax_nnx.MultiHeadAttention(2, 8, decode=False, **rngs())


NNX_LAYERS = {
    "dense": (lambda: flax_nnx.Linear(8, 3, **rngs()), (SERIES,)),
    "annotated": (annotated, (SERIES,)),
    "embedding": (lambda: flax_nnx.Embed(7, 5, **rngs()), (IDS,)),
    "attention": (attention, (SERIES,)),
    "conv": (lambda: flax_nnx.Conv(8, 3, (3, 3), **rngs()), (IMAGES,)),
    "transposed": (lambda: flax_nnx.ConvTranspose(8, 3, (2, 2), **rngs()), (IMAGES,)),
    "general": (lambda: flax_nnx.LinearGeneral(8, (2, 3), **rngs()), (SERIES,)),
    "einsum": (lambda: flax_nnx.Einsum("abc,cde->abde", (8, 2, 3), None, **rngs()), (SERIES,)),
    "lora": (lambda: flax_nnx.LoRALinear(8, 3, lora_rank=2, **rngs()), (SERIES,)),
    "sequence": (
        lambda: flax_nnx.Sequential(
            flax_nnx.Linear(8, 4, **rngs()), flax_nnx.relu, flax_nnx.Linear(4, 3, **rngs())
        ),
        (SERIES,),
    ),
}


ONES = {"scale_init": flax_nnx.initializers.ones_init()}  # Flax's default


def nnx_rows() -> list[Exchange]:
    spaces = (flax_nnx, nnx)
    rows = []
    for name, (layer, inputs) in NNX_LAYERS.items():
        normed = lambda space, layer=layer: space.WeightNorm(layer(), **ONES, **rngs())  # noqa: E731
        rows.append(both(f"WeightNorm-{name}", normed, spaces, inputs=inputs))
        divided = lambda space, layer=layer: space.SpectralNorm(layer(), n_steps=2, **rngs())  # noqa: E731
        rows.append(both(f"SpectralNorm-{name}", divided, spaces, inputs=inputs, **SPECTRAL))
    for name in NORMS:
        for partitioned in (False, True):
            row = both(
                f"{name}{'-annotated' * partitioned}",
                partial(nnx_norm, name, partitioned=partitioned),
                spaces,
                inputs=(IMAGES,),
                **(BATCH if name == "BatchNorm" else {}),
            )
            rows.append(row)
    return rows


NNX = (
    *nnx_rows(),
    both(
        "Dropout", lambda space: space.Dropout(0.5, deterministic=True, **rngs()), (flax_nnx, nnx)
    ),
)
