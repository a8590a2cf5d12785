"""The arms of a study in the words of the advice: their techniques, or their code.

The advice knows them by their names and their code in ``results.csv`` alone.
"""

from dataclasses import replace

from jaxreg.advice.starts import STARTS, Start

# The technique of an arm, if a row of the advice is about it.
TECHNIQUES = {
    "batch_norm": "batch_norm",
    "drop_path": "stochastic_depth",
    "dropout": "dropout",
    "early_stopping": "early_stopping",
    "elastic_net": "elastic_net",
    "gradient_clipping": "clipping",
    "graph_laplacian": "graph_laplacian",
    "jacobian": "jacobian",
    "jitter": "input_noise",
    "l1": "l1",
    "l2": "decay",
    "label_smoothing": "label_smoothing",
    "layer_norm": "layer_norm",
    "max_norm": "max_norm",
    "mixup": "mixup",
    "random_crop": "augment_images",
    "spatial_dropout": "spatial_dropout",
}

# The code of what is no single arm.
CODE = {"combined": "jaxreg.study.combine", "policy": "jaxreg.study.apply_policy"}
NOTES = {"combined": "recipe.py in the folder of the study is the program"}


def start_of(arm: str, code: str, strength: float | None) -> Start:
    """Returns the code of an arm, with a strength that a study chose for it.

    Args:
      arm: Name of the arm.
      code: Code that the study names for it; an arm may take another function than its technique.
      strength: Strength that the study chose; None if there is none.
    """
    start = STARTS.get(TECHNIQUES.get(arm, ""))
    if start is None or start.address.removesuffix(".update") not in code:
        address, _, _ = code.partition("(")
        return Start(address=CODE.get(arm, address), note=NOTES.get(arm, ""))
    # Batch norm has a strength to choose, which its arm leaves at the default.
    if strength is None:
        return start
    return replace(start, low=strength, high=strength, source="")
