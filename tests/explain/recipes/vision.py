"""Recipes of image classifiers."""

from functools import partial

import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import nnx

from jaxreg import linen, masks, targets, transforms
from jaxreg import nnx as regularized
from tests.explain.recipes.base import (
    COUPLED,
    INVARIANT,
    SCALES,
    SKIPS,
    SOFT,
    Recipe,
    decay,
    inside,
    mixed_labels,
    nnx_model,
    none,
    on,
    rows,
    variables_of,
)

IMAGES = rows(4, 4, 4, 8)
PATCHES = rows(4, 4, 8)
smoothed = partial(targets.smoothed_cross_entropy, alpha=0.1)


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        conv = partial(nn.Conv, 8, (3, 3), use_bias=False)
        x = nn.relu(norm(name="norm0")(conv(name="conv0")(x)))
        y = nn.relu(norm(name="norm1")(conv(name="conv1")(x)))
        y = norm(name="norm2")(conv(name="conv2")(y))
        x = jnp.mean(nn.relu(x + y), axis=(1, 2))
        return nn.Dense(8, name="head")(x)


def resnet_as_torchvision():
    """He et al. 2016: SGD with momentum 0.9, and torch's weight decay of everything.

    A step of learning rate 0.1 takes 0.1 * 1e-4 of each weight.
    """
    module = ResNet()
    convolutions = ["conv0/kernel", "conv1/kernel", "conv2/kernel"]
    norms = inside("norm0 norm1 norm2", "bias", "scale")
    return Recipe(
        (
            module,
            optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.1, momentum=0.9)),
            variables_of(module, IMAGES, train=False),
            IMAGES,
        ),
        [
            *decay([*convolutions, *norms, "head/kernel", "head/bias"], 1e-5),
            *on("norm0 norm1 norm2", "BatchNorm", 0.9, "momentum"),
        ],
        notes={SCALES: {*norms, "head/bias"}, INVARIANT: set(convolutions)},
    )


class Block(nnx.Module):
    def __init__(self, rate, *, rngs):
        conv = partial(nnx.Conv, 8, 8, (3, 3), use_bias=False, rngs=rngs)
        norm = partial(nnx.BatchNorm, 8, momentum=0.9, rngs=rngs)
        self.conv1 = conv()
        self.norm1 = norm()
        self.conv2 = conv()
        self.norm2 = norm()
        self.path = regularized.DropPath(rate, rngs=rngs)

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.conv1(x)))
        return nnx.relu(x + self.path(self.norm2(self.conv2(y))))


class TimmResNet(nnx.Module):
    def __init__(self, *, rngs):
        self.block1 = Block(0.05, rngs=rngs)
        self.block2 = Block(0.1, rngs=rngs)
        self.head = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        x = self.block2(self.block1(x))
        return self.head(jnp.mean(x, axis=(1, 2)))


def resnet_as_timm():
    """Wightman, Touvron and Jegou 2021, and timm: AdamW without biases and norms, stochastic depth,
    mixup and label smoothing at once, an average of the weights.

    A step takes 1e-3 * 0.05 of each kernel.
    """
    convolutions = [f"block{n}/conv{m}/kernel" for n in (1, 2) for m in (1, 2)]
    norms = [f"block{n}/norm{m}" for n in (1, 2) for m in (1, 2)]
    adamw = optax.adamw(1e-3, weight_decay=0.05, mask=masks.kernels)
    return Recipe(
        (
            nnx_model(lambda: TimmResNet(rngs=nnx.Rngs(0))),
            optax.chain(adamw, transforms.exponential_average(0.9999)),
            None,
            IMAGES,
        ),
        [
            *decay([*convolutions, "head/kernel"], 5e-5),
            *none(inside(norms, "bias", "scale")),
            *none("head/bias"),
            *on(norms, "BatchNorm", 0.9, "momentum"),
            *on("block1/path", "DropPath", 0.05, "rate"),
            *on("block2/path", "DropPath", 0.1, "rate"),
            *on("optimizer", "weight averaging", 0.9999, "decay per step"),
            *on("loss", "label smoothing", 0.1, "alpha"),
            *on("loss", "soft targets", 0.2, "largest share of a second class"),
        ],
        notes={
            SKIPS: {"block1/path before block2/norm1 and 1 more"},
            INVARIANT: set(convolutions),
            SOFT: {"targets soft by 0.2, alpha 0.1"},
        },
        options={"loss": smoothed, "targets": mixed_labels()},
    )


class ViT(nn.Module):
    """A vision transformer with a class token, after the projection of patches."""

    rate: float
    attention_rate: float = 0.0

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.Dense(8, name="patches")(x)
        token = self.param("cls", nn.initializers.zeros, (1, 1, 8))
        x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, 8)), x], axis=1)
        x += self.param("pos_embedding", nn.initializers.zeros, (1, 5, 8))
        drop = partial(linen.DropPath, self.rate, deterministic=not train)
        attention = nn.MultiHeadDotProductAttention(
            num_heads=2, dropout_rate=self.attention_rate, deterministic=not train, name="attention"
        )
        x += drop(name="path1")(attention(nn.LayerNorm(name="norm1")(x)))
        y = nn.gelu(nn.Dense(8, name="mlp1")(nn.LayerNorm(name="norm2")(x)))
        x += drop(name="path2")(nn.Dense(8, name="mlp2")(y))
        return nn.Dense(8, name="head")(nn.LayerNorm(name="norm3")(x)[:, 0])


ATTENTION = [f"attention/{part}" for part in ("query", "key", "value", "out")]
VIT_LAYERS = ["patches", *ATTENTION, "mlp1", "mlp2", "head"]
VIT_KERNELS = [f"{layer}/kernel" for layer in VIT_LAYERS]
VIT_OTHERS = [
    *[f"{layer}/bias" for layer in VIT_LAYERS],
    *inside("norm1 norm2 norm3", "bias", "scale"),
]


def vit_as_timm():
    """Touvron et al. 2021 (DeiT): AdamW without biases, norms, class token and positions,
    stochastic depth 0.1, mixup with label smoothing 0.1, an average of the weights.

    A step takes 1e-3 * 0.05 of each kernel. There is no batch norm, so nothing is amiss.
    """
    module = ViT(0.1)
    weights = masks.all_of(masks.kernels, masks.negate(masks.match("cls|pos_embedding")))
    adamw = optax.adamw(1e-3, weight_decay=0.05, mask=weights)
    return Recipe(
        (
            module,
            optax.chain(adamw, transforms.exponential_average(0.99996)),
            variables_of(module, PATCHES, train=False),
            PATCHES,
        ),
        [
            *decay(VIT_KERNELS, 5e-5),
            *none([*VIT_OTHERS, "cls", "pos_embedding"]),
            *on("norm1 norm2 norm3", "LayerNorm"),
            *on("path1 path2", "DropPath", 0.1, "rate"),
            *on("optimizer", "weight averaging", 0.99996, "decay per step"),
            *on("loss", "label smoothing", 0.1, "alpha"),
            *on("loss", "soft targets", 0.2, "largest share of a second class"),
        ],
        notes={SOFT: {"targets soft by 0.2, alpha 0.1"}},
        options={"loss": smoothed, "targets": mixed_labels()},
    )


def vit_as_big_vision():
    """Beyer, Zhai and Kolesnikov 2022: decay 1e-4 of what matches `.*/kernel`, relative to the peak
    of the schedule, after Adam; gradients clipped to norm 1; no noise.

    At the peak a step takes 1e-4 of each kernel; positions and the class token do not match.
    """
    module = ViT(0.0)
    rate = optax.warmup_cosine_decay_schedule(0.0, 1e-3, 100, 1000)
    multipliers = masks.multipliers([(".*/kernel", 1.0)])
    return Recipe(
        (
            module,
            optax.chain(
                optax.clip_by_global_norm(1.0),
                optax.adam(rate),
                transforms.decoupled_decay(
                    1e-4 / 1e-3, learning_rate=rate, mask=None, multipliers=multipliers
                ),
            ),
            variables_of(module, PATCHES, train=False),
            PATCHES,
        ),
        [
            *decay(VIT_KERNELS, 1e-4),
            *none([*VIT_OTHERS, "cls", "pos_embedding"]),
            *on("norm1 norm2 norm3", "LayerNorm"),
            *on("path1 path2", "DropPath", 0.0, "rate"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
        ],
    )


class EfficientNet(nn.Module):
    """Two inverted bottlenecks, the second of which is dropped at times."""

    @nn.compact
    def __call__(self, x, *, train):
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.99)
        conv = partial(nn.Conv, 8, (1, 1), use_bias=False)
        x = nn.silu(norm(name="norm0")(conv(name="conv0")(x)))
        for n in (1, 2):
            y = nn.silu(norm(name=f"norm{n}")(conv(name=f"conv{n}")(x)))
            y = nn.Dropout(0.1 * n, broadcast_dims=(1, 2, 3), deterministic=not train,
                           name=f"path{n}")(y)  # fmt: skip
            x += y
        x = jnp.mean(x, axis=(1, 2))
        x = nn.Dropout(0.2, deterministic=not train, name="drop")(x)
        return nn.Dense(8, name="head")(x)


def efficientnet():
    """Tan and Le 2019: RMSProp with momentum, L2 of the kernels in the loss, stochastic depth,
    dropout before the classifier, label smoothing, an average of the weights.

    Keras and TensorFlow add the penalty 1e-5 / 2 |w|^2 to the loss, so RMSProp divides its gradient
    by the size of past gradients: this is the conflict that decoupled decay was made for.
    """
    module = EfficientNet()
    convolutions = ["conv0/kernel", "conv1/kernel", "conv2/kernel"]
    kernels = [*convolutions, "head/kernel"]

    def penalty(params):
        return 0.5e-5 * sum(jnp.sum(jnp.square(params[name.split("/")[0]]["kernel"]))
                            for name in kernels)  # fmt: skip

    return Recipe(
        (
            module,
            optax.chain(
                optax.rmsprop(0.016, decay=0.9, eps=1e-3, momentum=0.9),
                transforms.exponential_average(0.9999),
            ),
            variables_of(module, IMAGES, train=False),
            IMAGES,
        ),
        [
            *on(kernels, "L2 penalty", 1e-5, "times the weight"),
            *none(inside("norm0 norm1 norm2", "bias", "scale")),
            *none("head/bias"),
            *on("norm0 norm1 norm2", "BatchNorm", 0.99, "momentum"),
            *on("path1", "Dropout", 0.1, "rate"),
            *on("path2 drop", "Dropout", 0.2, "rate"),
            *on("optimizer", "weight averaging", 0.9999, "decay per step"),
            *on("loss", "label smoothing", 0.1, "alpha"),
        ],
        conflicts={COUPLED: set(kernels)},
        notes={SKIPS: {"path1 before norm2"}, INVARIANT: set(convolutions)},
        options={"penalty": penalty, "loss": smoothed, "targets": mixed_labels(share=1.0)},
    )


class NFNet(nn.Module):
    """Convolutions with standardized weights in place of norms."""

    @nn.compact
    def __call__(self, x, *, train):
        conv = partial(nn.Conv, 8, (3, 3))
        for n in (1, 2):
            layer = linen.WeightStandardization(conv(name=f"conv{n}"), name=f"standardized{n}")
            branch = nn.Dropout(0.25, broadcast_dims=(1, 2, 3), deterministic=not train,
                                name=f"path{n}")  # fmt: skip
            x += 0.2 * branch(nn.relu(layer(x)))
        x = nn.Dropout(0.2, deterministic=not train, name="drop")(jnp.mean(x, axis=(1, 2)))
        return nn.Dense(8, name="head")(x)


def nfnet():
    """Brock et al. 2021: adaptive clipping at 0.01, SGD with Nesterov momentum, decay 2e-5 of the
    kernels, stochastic depth, dropout, SAM with radius 0.05.

    A first step takes 0.1 * 2e-5 * (1 + 0.9) of each kernel. Standardization undoes the scale of
    those it acts on.
    """
    module = NFNet()
    inner = optax.chain(
        optax.adaptive_grad_clip(0.01),
        optax.add_decayed_weights(2e-5, mask=masks.kernels),
        optax.sgd(0.1, momentum=0.9, nesterov=True),
    )
    return Recipe(
        (
            module,
            transforms.sam(inner, 0.05),
            variables_of(module, IMAGES, train=False),
            IMAGES,
        ),
        [
            *decay("conv1/kernel conv2/kernel head/kernel", 3.8e-6),
            *none("conv1/bias conv2/bias head/bias"),
            *on("standardized1 standardized2", "WeightStandardization"),
            *on("path1 path2", "Dropout", 0.25, "rate"),
            *on("drop", "Dropout", 0.2, "rate"),
            *on("optimizer", "sharpness-aware minimization", 0.05, "rho"),
            *on("optimizer", "gradient clipping", 0.01, "largest norm relative to the weight"),
        ],
        notes={INVARIANT: {"conv1/kernel", "conv2/kernel"}},
    )


class Features(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(8, name="dense1")(x))
        return nn.LayerNorm(name="norm")(nn.Dense(8, name="dense2")(x))


class Tuned(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(8, name="head")(Features(name="backbone")(x))


def fine_tuning():
    """A frozen backbone and a new head: `optax.partition`, AdamW on the head, gradients accumulated
    over four batches and clipped to norm 1.

    A step takes 1e-3 * 0.01 of the head's kernel.
    """
    module = Tuned()
    x = rows(4, 8)
    variables = variables_of(module, x)
    labels = {"backbone": "frozen", "head": "trained"}
    adamw = optax.adamw(1e-3, weight_decay=0.01, mask=masks.kernels)
    chain = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.partition({"frozen": optax.set_to_zero(), "trained": adamw}, labels),
    )
    layers = ["backbone/dense1", "backbone/dense2"]
    frozen = inside(layers, "bias", "kernel")
    return Recipe(
        (module, optax.MultiSteps(chain, 4), variables, x),
        [
            *on([*frozen, *inside("backbone/norm", "bias", "scale")], "frozen", 1, "never moves"),
            *decay("head/kernel", 1e-5),
            *none("head/bias"),
            *on("backbone/norm", "LayerNorm"),
            *on("optimizer", "gradient clipping", 1.0, "largest global norm"),
        ],
    )


VISION = (
    resnet_as_torchvision,
    resnet_as_timm,
    vit_as_timm,
    vit_as_big_vision,
    efficientnet,
    nfnet,
    fine_tuning,
)
