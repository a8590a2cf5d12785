"""Makes ``dropout_torch.json``: torch's results for kept and for dropped elements.

Usage: ``python dropout_torch.py > dropout_torch.json`` with torch 2.13.0 on CPU.
"""

import json
import sys

RATES = [0.0, 0.05, 0.25, 0.5, 0.9, 1.0]
CHANNEL_RATE = 0.3
SEEDS = 500


def observe(layer, x):
    """Values of every element when kept and when dropped, and the axes that share decisions.

    A dropped element has no gradient. Values are None where no seed drops, or keeps, the element.
    """
    import torch

    kept = torch.full_like(x, torch.nan)
    dropped = torch.full_like(x, torch.nan)
    masks = []
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        given = x.clone().requires_grad_()
        y = layer(given)
        (slope,) = torch.autograd.grad(y.sum(), given)
        mask = slope == 0
        for seen, now in ((kept, ~mask), (dropped, mask)):
            before = now & ~seen.isnan()
            assert (seen[before] == y[before]).all()
            seen[now] = y.detach()[now]
        masks.append(mask)
    masks = torch.stack(masks)
    shared = [axis for axis in range(x.ndim) if same_along(masks, axis + 1)]
    return {"kept": plain(kept), "dropped": plain(dropped), "shared_axes": shared}


def same_along(masks, axis):
    return bool((masks == masks.narrow(axis, 0, 1)).all())


def plain(values):
    nested = values.tolist()
    return None if values.isnan().all() else nested


def channels_last(layer):
    """The layer, which takes channels second, on an array that has them last."""
    return lambda x: layer(x.movedim(-1, 1)).movedim(1, -1)


def figures():
    """Returns inputs and results, channels last."""
    import torch

    x = torch.tensor([-3.0, -0.5, 0.125, 1.0, 2.75], dtype=torch.float64)
    elementwise = {
        name: [{"rate": rate, **observe(layer(rate), x)} for rate in RATES]
        for name, layer in (("dropout", torch.nn.Dropout), ("alpha_dropout", torch.nn.AlphaDropout))
    }
    channels = []
    for name, layer, spatial in (
        ("spatial_dropout", torch.nn.Dropout1d, 1),
        ("spatial_dropout", torch.nn.Dropout2d, 2),
        ("spatial_dropout", torch.nn.Dropout3d, 3),
        ("feature_alpha_dropout", torch.nn.FeatureAlphaDropout, 1),
        ("feature_alpha_dropout", torch.nn.FeatureAlphaDropout, 2),
    ):
        shape = (2, *[2] * spatial, 3)
        maps = torch.linspace(-2, 3, 6 * 2**spatial, dtype=torch.float64).round(decimals=2)
        maps = maps.reshape(shape)
        seen = observe(channels_last(layer(CHANNEL_RATE)), maps)
        row = {"function": name, "torch": layer.__name__, "rate": CHANNEL_RATE}
        channels.append({**row, "x": maps.tolist(), **seen})
    made_with = {"script": "tests/references/dropout_torch.py", "torch": torch.__version__}
    made_with |= {"layout": "x[batch, *spatial, channel]", "seeds": SEEDS}
    return {"made_with": made_with, "x": x.tolist(), **elementwise, "channels": channels}


if __name__ == "__main__":
    json.dump(figures(), sys.stdout, indent=1)
    print()
