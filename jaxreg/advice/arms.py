"""The arms of a study in the words of the advice: their techniques, or their code.

The advice knows them by their names in ``results.csv`` alone.
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

# The code of arms that are no technique, or that take another function or another strength for it.
CODE = {
    "activity_l1": "jaxreg.linen.ActivityPenalty",
    "adaptive_l1": "jaxreg.transforms.preconditioned_proximal",
    "asam": "jaxreg.transforms.asam",
    "augmentation": "jaxreg.augment.random_affine",
    "average_steps": "jaxreg.transforms.exponential_average",
    "bottleneck": "jaxreg.information.gaussian_kl",
    "cautious_decay": "jaxreg.transforms.cautious_decay",
    "centralize": "jaxreg.transforms.centralize",
    "combined": "jaxreg.study.combine",
    "confidence_penalty": "jaxreg.information.confidence_penalty",
    "cutmix": "jaxreg.augment.random_cutmix",
    "cutout": "jaxreg.augment.random_cutout",
    "decorrelation": "jaxreg.penalties.decorrelation",
    "distance": "jaxreg.penalties.distance",
    "drop_block": "jaxreg.linen.DropBlock",
    "drop_path": "jaxreg.linen.DropPath",
    "elastic_net": "jaxreg.penalties.elastic_net",
    "flood": "jaxreg.targets.flood",
    "ghost_batch_norm": "jaxreg.linen.GhostBatchNorm",
    "group_lasso": "jaxreg.penalties.group_lasso",
    "independent_decay": "jaxreg.transforms.independent_decay",
    "l0": "jaxreg.penalties.hard_concrete_l0",
    "lookahead": "jaxreg.transforms.lookahead",
    "magnitude_warp": "jaxreg.augment.series.random_magnitude_warp",
    "nuclear": "jaxreg.penalties.nuclear",
    "orthogonality": "jaxreg.penalties.orthogonality",
    "policy": "jaxreg.study.apply_policy",
    "r_drop": "jaxreg.information.symmetric_kl",
    "rand_augment": "jaxreg.augment.rand_augment",
    "random_crop": "jaxreg.augment.crop",
    "sam": "jaxreg.transforms.sam",
    "sparse_units": "jaxreg.transforms.proximal",
    "spectral": "jaxreg.penalties.spectral",
    "time_warp": "jaxreg.augment.series.random_time_warp",
    "token_dropout": "jaxreg.dropout.dropout",
    "virtual_adversarial": "jaxreg.smoothness.virtual_adversarial",
}

NOTES = {"combined": "recipe.py in the folder of the study is the program"}


def start_of(arm: str, strength: float | None) -> Start:
    """Returns the code of an arm, with a strength that a study chose for it."""
    if arm in CODE or arm not in TECHNIQUES:
        return Start(address=CODE.get(arm, ""), note=NOTES.get(arm, ""))
    start = STARTS[TECHNIQUES[arm]]
    # Batch norm has a strength to choose, which its arm leaves at the default.
    if strength is None:
        return start
    return replace(start, low=strength, high=strength, source="")
