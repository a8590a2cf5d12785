"""Runs all examples and writes docs/examples.md with their pictures and outputs.

``python -m docs.site.examples`` takes some minutes. ``python -m docs.site.examples --text`` keeps
pictures and outputs, and writes the page anew.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "examples.md"
RESULTS = ROOT / "docs" / "examples"
COLORS = 128

GROUPS: dict[str, tuple[str, ...]] = {
    "Training loops": (
        "linen_training",
        "nnx_training",
        "one_program",
        "many_strengths",
        "resume_linen",
        "resume_nnx",
        "train_sharded",
    ),
    "Networks": ("resnet_drop_block", "attention_dropout", "lstm_locked_dropout"),
    "Norms": (
        "norm_batch_size",
        "residual_placement",
        "batch_norm_picture",
        "batch_norm_gradient",
        "fold_batch_norm",
    ),
    "Sparsity": (
        "lasso",
        "elastic_net_path",
        "adam_sparsity",
        "structured_sparsity",
        "sparse_variational",
    ),
    "Robustness, uncertainty and calibration": (
        "jacobian_noise",
        "label_smoothing",
        "mc_dropout_rotation",
        "ensemble_error",
        "bottleneck",
    ),
    "Few labels, and generated data": (
        "graph_laplacian",
        "series_gan",
        "wgan_gp",
        "spectral_gan",
    ),
    "Data": ("aug_mix", "text_augmentation"),
}


def names() -> list[str]:
    """Returns the names of the examples on the page."""
    return [name for group in GROUPS.values() for name in group]


def run(name: str) -> None:
    """Runs an example, and keeps its picture and its output."""
    script = ROOT / "examples" / f"{name}.py"
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "figure.png")
        command = [sys.executable, str(script)]
        if "sys.argv" in script.read_text():
            command.append(str(picture))
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        (RESULTS / f"{name}.txt").write_text(done.stdout.replace(f"{folder}/", ""))
        if picture.exists():
            image = Image.open(picture).convert("RGB").quantize(COLORS)
            image.save(RESULTS / f"{name}.png", optimize=True)


def description(name: str) -> str:
    """Returns the docstring of an example, in Markdown."""
    text = (ROOT / "examples" / f"{name}.py").read_text()
    return to_markdown(ast.get_docstring(ast.parse(text)) or "")


def to_markdown(text: str) -> str:
    """Converts the reStructuredText of a docstring."""
    text = re.sub(r"\.\. math::\n\n((?:  .*\n?)+)", _formula, text)
    text = re.sub(r":math:`([^`]+)`", r"$\1$", text)
    text = re.sub(r"`([^`<]+?)\s+<([^>]+)>`_", r"[\1](\2)", text)
    text = text.replace("``", "`")
    return re.sub(r"\n+    python (?:-m )?examples\S* ?\S*\n?", "\n", text).strip()


def _formula(match: re.Match[str]) -> str:
    return f"$$\n{match[1].strip()}\n$$\n"


def entry(name: str) -> Iterable[str]:
    """Yields the parts of an example's section."""
    title, _, rest = description(name).partition("\n")
    yield f"### {title.rstrip('.')}"
    yield f"[{name}.py](../examples/{name}.py)"
    if rest.strip():
        yield rest.strip()
    if (RESULTS / f"{name}.png").exists():
        yield f"![{title.rstrip('.')}](examples/{name}.png)"
    if (RESULTS / f"{name}.txt").exists():
        yield f"```text\n{(RESULTS / f'{name}.txt').read_text().rstrip()}\n```"


def page() -> str:
    """Returns the page with all examples."""
    parts = [
        "# Examples",
        "Complete programs, each in one file. To run one in a clone: `python examples/lasso.py`.\n"
        "`python -m docs.site.examples` runs all of them and keeps their pictures and outputs;\n"
        "digits differ a little between machines. Augmentations have a\n"
        "[gallery](gallery.md).",
    ]
    for title, group in GROUPS.items():
        parts.append(f"## {title}")
        for name in group:
            parts += entry(name)
    return "\n\n".join(parts) + "\n"


def main(arguments: list[str]) -> None:
    """Runs the examples unless ``--text`` is given, and writes the page."""
    RESULTS.mkdir(exist_ok=True)
    chosen = [a for a in arguments if not a.startswith("-")]
    for name in () if "--text" in arguments else chosen or names():
        print(name, flush=True)
        run(name)
    PAGE.write_text(page())


if __name__ == "__main__":
    main(sys.argv[1:])
