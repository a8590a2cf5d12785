"""Writes ``layer_norms_torch.json``: norms of each example by torch, forward and backward.

Run as ``python tests/references/layer_norms_torch.py`` where torch is installed.
"""

import json
import pathlib

EPS = 1e-5
FEATURES = 6


def main() -> None:
    """Computes in torch's layout, channels first, and stores with channels last."""
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, FEATURES, generator=generator, dtype=torch.float64) * 2 + 1
    dy = torch.randn(3, 5, FEATURES, generator=generator, dtype=torch.float64)
    scale = torch.rand(FEATURES, generator=generator, dtype=torch.float64) + 0.5
    bias = torch.randn(FEATURES, generator=generator, dtype=torch.float64)
    first = lambda t: t.movedim(-1, 1)  # noqa: E731
    last = lambda t: t.movedim(1, -1)  # noqa: E731
    norms = {
        "layer": lambda x, s, b: functional.layer_norm(x, (FEATURES,), s, b, EPS),
        "rms": lambda x, s, b: functional.rms_norm(x, (FEATURES,), s, EPS) + 0 * b,
        "group": lambda x, s, b: last(functional.group_norm(first(x), 2, s, b, EPS)),
        "instance": lambda x, s, b: last(
            functional.instance_norm(first(x), weight=s, bias=b, eps=EPS)
        ),
    }
    stored = {
        "made_with": {"torch": torch.__version__, "eps": EPS, "groups": 2, "dtype": "float64"},
        "x": x.tolist(),
        "dy": dy.tolist(),
        "scale": scale.tolist(),
        "bias": bias.tolist(),
        "norms": {},
    }
    for name, norm in norms.items():
        inputs = [t.clone().requires_grad_() for t in (x, scale, bias)]
        y = norm(*inputs)
        gradients = torch.autograd.grad(y, inputs, dy)
        names = ("dx", "dscale", "dbias")
        figures = {n: g.tolist() for n, g in zip(names, gradients, strict=True)}
        stored["norms"][name] = {"y": y.detach().tolist(), **figures}
    path = pathlib.Path(__file__).with_suffix(".json")
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
