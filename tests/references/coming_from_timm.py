"""Prints ``coming_from_timm.json``: figures of timm for the rows of docs/coming_from/timm.md.

Run as ``python tests/references/coming_from_timm.py > tests/references/coming_from_timm.json``
where timm and torch are installed.
"""

import inspect
import json
import re
import sys

import numpy as np

X = np.random.default_rng(0).normal(size=(3, 4)).round(3)
WALK = [[1.0, 0.0], [0.5, 0.25], [0.75, -1.0], [2.0, 0.125], [1.5, 1.5]]


def dropped():
    """What masks of ones hold, and which elements share a decision."""
    import torch
    from timm.layers import DropBlock2d, PatchDropout, drop_path

    torch.manual_seed(0)
    ones = torch.ones(64, 3, 2, 2)
    paths = drop_path(ones, 0.25, training=True)
    shares = {}
    for size, block in ((12, 3), (12, 7), (7, 7)):
        y = DropBlock2d(0.1, block_size=block)(torch.ones(1000, 1, size, size))
        shares[f"{block} of {size}"] = (y == 0).double().mean().item()
    return {
        "drop_path": sorted({round(v, 5) for v in paths.flatten().tolist()}),
        "drop_path decides for examples": bool((paths == paths[:, :1, :1, :1]).all()),
        "drop_block": shares,
        "patch_dropout": {
            str(length): PatchDropout(0.25)(torch.ones(1, 1 + length, 2)).shape[1]
            for length in (8, 9, 10, 196)
        },
    }


def rates():
    """Rates of DropPath along a transformer of five blocks."""
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=8, patch_size=4, embed_dim=8, depth=5, num_heads=1, drop_path_rate=0.2
    )
    return [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]


def losses():
    """Losses of logits, with labels or distributions."""
    import torch
    from timm import data, loss

    logits = torch.tensor(X)
    labels = torch.tensor([0, 3, 2])
    views = torch.tensor(np.concatenate([X, X[::-1], 2 * X]))
    mixed = data.mixup.mixup_target(labels, 4, lam=0.3, smoothing=0.1)
    return {
        "LabelSmoothingCrossEntropy": loss.LabelSmoothingCrossEntropy(0.1)(logits, labels).item(),
        "mixup_target": mixed.tolist(),
        "SoftTargetCrossEntropy": loss.SoftTargetCrossEntropy()(logits, mixed).item(),
        "JsdCrossEntropy": loss.JsdCrossEntropy(3, 12, 0.1)(views, labels.repeat(3)).item(),
    }


def averages():
    """EMA of parameters that walk, after each update."""
    import torch
    from timm.utils import ModelEmaV3

    found = {}
    for name, options in {"plain": {}, "warmup": {"use_warmup": True, "warmup_gamma": 0.5}}.items():
        model = torch.nn.Linear(2, 1, bias=False)
        with torch.no_grad():
            model.weight.copy_(torch.tensor([WALK[0]]))
        average = ModelEmaV3(model, decay=0.9, **options)
        path = []
        for step, w in enumerate(WALK[1:], start=1):
            with torch.no_grad():
                model.weight.copy_(torch.tensor([w]))
            average.update(model, step=step)
            path.append(average.module.weight[0].tolist())
        found[name] = path
    return found


def standardized():
    """A kernel ``[out, in, height, width]`` and the weights that two layers use."""
    import torch
    from timm.layers import ScaledStdConv2d, StdConv2d

    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 2, 2)
    found = {"kernel": kernel.tolist()}
    for make in (StdConv2d, ScaledStdConv2d):
        layer = make(3, 4, 2, bias=False)
        with torch.no_grad():
            layer.weight.copy_(kernel)
        # With one pixel at a time the outputs are the weights.
        basis = torch.eye(12).reshape(12, 3, 2, 2)
        outputs = layer(basis).reshape(12, 4).T.reshape(4, 3, 2, 2)
        found[make.__name__] = outputs.tolist()
    return found


def response():
    """The norm of filter responses with its threshold."""
    import torch
    from timm.layers import FilterResponseNormTlu2d

    torch.manual_seed(0)
    layer = FilterResponseNormTlu2d(3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1.0, 2.0, 0.5]))
        layer.bias.copy_(torch.tensor([0.0, -1.0, 0.5]))
        layer.tau.copy_(torch.tensor([0.0, -0.5, 0.25]))
    x = torch.randn(2, 3, 4, 4)
    return {"x": x.tolist(), "y": layer(x).tolist()}


def clipped():
    """Gradients of a layer after adaptive clipping."""
    import torch
    from timm.utils.agc import adaptive_clip_grad

    w = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))
    w.grad = torch.tensor([[1.0, 0.0], [0.01, 0.0]])
    adaptive_clip_grad([w], clip_factor=0.1)
    return {"w": w.tolist(), "gradient": w.grad.tolist()}


def settings():
    """Defaults and ranges that the page names."""
    from timm.data import auto_augment, random_erasing
    from timm.data.mixup import Mixup
    from timm.optim import Lookahead

    def default(function):
        return {
            name: parameter.default
            for name, parameter in inspect.signature(function).parameters.items()
            if isinstance(parameter.default, int | float | str)
        }

    return {
        "levels": auto_augment._LEVEL_DENOM,
        "shear at 9": auto_augment._shear_level_to_arg(9, {})[0],
        "Mixup": default(Mixup),
        "RandomErasing": default(random_erasing.RandomErasing),
        "Lookahead": default(Lookahead),
    }


def public_names():
    """Names of layers and losses; variants that join a norm and an activation are left out."""
    from timm import layers, loss

    joined = re.compile(r".*(Fp32|Act|Act2d|ActAa|Mlp|Head|B\d|S\da?)$|drop$|.*_forward$")
    found = [name for name in dir(layers) if re.search("[Dd]rop|Norm|StdConv", name)]
    found += [name for name in dir(loss) if re.search("[a-z]", name) and name[0].isupper()]
    return [name for name in found if not joined.match(name)]


def figures():
    import timm
    import torch

    return {
        "public": public_names(),
        "made_with": {
            "script": "tests/references/coming_from_timm.py",
            "timm": timm.__version__,
            "torch": torch.__version__,
        },
        "x": X.tolist(),
        "labels": [0, 3, 2],
        "walk": WALK,
        "dropped": dropped(),
        "rates": rates(),
        "losses": losses(),
        "averages": averages(),
        "standardized": standardized(),
        "response": response(),
        "clipped": clipped(),
        "settings": settings(),
    }


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
