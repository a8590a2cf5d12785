"""The address of each technique in code, and the range of its initial strength."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Start:
    """Address of a technique in code, and the range of its initial strength.

    Attributes:
      address: Address of the code, in jaxreg or in Optax.
      argument: Name of the strength; empty if there is none to choose.
      low: Smallest value to start with.
      high: Largest value to start with.
      note: A remark on the use.
      source: Published work that the range or the note comes from.
    """

    address: str
    argument: str = ""
    low: float = 0.0
    high: float = 0.0
    note: str = ""
    source: str = ""


STARTS = {
    "batch_norm": Start(address="jaxreg.linen.BatchNorm", argument="momentum", low=0.9, high=0.99,
        note="before the nonlinearity; dropout only after the last batch norm",
        source="defaults of torch (0.9) and Flax (0.99); for dropout Li et al. 2019, "
        "https://arxiv.org/abs/1801.05134"),
    "layer_norm": Start(address="jaxreg.linen.LayerNorm", note="before each block",
        source="Xiong et al. 2020, https://arxiv.org/abs/2002.04745"),
    "group_norm": Start(address="jaxreg.linen.GroupNorm", argument="num_groups", low=16, high=32,
        note="at least 16 channels in each group; use fewer groups if needed",
        source="Wu and He 2018"),
    "instance_norm": Start(address="jaxreg.linen.InstanceNorm", source="Ulyanov et al. 2016"),
    "weight_norm": Start(address="jaxreg.linen.WeightNorm", source="Salimans and Kingma 2016"),
    "augment_images": Start(address="jaxreg.augment.random_crop",
        note="crops and flips that keep the label; then color",
        source="Krizhevsky et al. 2012, section 4.1"),
    "mixup": Start(address="jaxreg.augment.mixup", argument="alpha", low=0.1, high=0.4,
        note="not beside label smoothing", source="Zhang et al. 2018, section 3.1"),
    "augment_text": Start(address="jaxreg.augment.text.random_deletion", argument="rate", low=0.05,
        high=0.1, source="Wei and Zou 2019"),
    "dropout": Start(address="jaxreg.linen.Dropout", argument="rate", low=0.2, high=0.5,
        note="on hidden units; 0.1 to 0.2 on inputs, 0.1 to 0.3 after convolutions; the "
        "paper's 0.5 to 0.8 is the probability of keeping a unit",
        source="Srivastava et al. 2014, appendix A.4"),
    "attention_dropout": Start(address="jaxreg.dropout.dropout", argument="rate", low=0.1, high=0.3,
        source="Vaswani et al. 2017, section 5.4"),
    "spatial_dropout": Start(address="jaxreg.linen.SpatialDropout", argument="rate", low=0.1,
        high=0.3, source="Tompson et al. 2015; the range is ours"),
    "locked_dropout": Start(address="jaxreg.linen.LockedDropoutCell", argument="rate", low=0.1,
        high=0.5, source="Gal and Ghahramani 2016"),
    "stochastic_depth": Start(address="jaxreg.linen.StochasticDepth", argument="rate", low=0.1,
        high=0.5, note="the rate of the last block; it grows linearly from the first: "
        "jaxreg.dropout.drop_path_rates", source="Huang et al. 2016"),
    "clipping": Start(address="optax.clip_by_global_norm", argument="max_norm", low=1, high=10,
        source="Zaremba, Sutskever and Vinyals 2014, https://arxiv.org/abs/1409.2329 (5 and 10)"),
    "decay": Start(address="jaxreg.transforms.decoupled_decay", argument="weight", low=0.01,
        high=0.1, note="not on biases and scales. L2 through the gradient of SGD, "
        "jaxreg.transforms.add_penalty_gradient, takes 1e-6 to 1e-2. Search further up if data is "
        "small: the study of 300 digits, with Adam, chooses 3.2",
        source="Brown et al. 2020, https://arxiv.org/abs/2005.14165 (0.1); torch and Optax (0.01)"),
    "l1": Start(address="jaxreg.transforms.proximal", argument="weight", low=1e-4, high=1e-2,
        note="with jaxreg.proximal.l1, after the optimizer", source="the range is ours"),
    "elastic_net": Start(address="jaxreg.proximal.elastic_net", argument="step", low=1e-4,
        high=1e-2, note="through jaxreg.transforms.proximal, half L1 and half L2",
        source="the range is ours"),
    "early_stopping": Start(address="jaxreg.training.early_stopping", argument="patience", low=5,
        high=10, source="the range is ours"),
    "label_smoothing": Start(address="jaxreg.targets.smoothed_cross_entropy", argument="alpha",
        low=0.05, high=0.2, note="not beside mixup, and not in a teacher",
        source="Szegedy et al. 2016, section 7 (0.1)"),
    "spectral_norm": Start(address="jaxreg.linen.SpectralNorm", argument="steps", low=1, high=1,
        note="around every layer of the discriminator", source="Miyato et al. 2018"),
    "gradient_penalty": Start(address="jaxreg.smoothness.gradient_penalty", argument="weight",
        low=10, high=10, note="no batch norm in the critic", source="Gulrajani et al. 2017"),
    "beta_vae": Start(address="jaxreg.information.beta_vae_loss", argument="beta", low=1, high=10,
        source="Higgins et al. 2017"),
    "max_norm": Start(address="jaxreg.projections.max_norm", argument="radius", low=3, high=4,
        note="through jaxreg.transforms.project, last in the chain",
        source="Srivastava et al. 2014, appendix A.3"),
    "jacobian": Start(address="jaxreg.smoothness.jacobian", argument="weight", low=1e-3, high=1e-1,
        source="Hoffman, Roberts and Yaida 2019"),
    "input_noise": Start(address="jaxreg.noise.gaussian_noise", argument="stddev", low=0.05,
        high=0.2, note="for inputs with standard deviation 1", source="the range is ours"),
    "graph_laplacian": Start(address="jaxreg.smoothness.graph_laplacian", argument="weight",
        low=1e-2, high=1.0, note="of the mean over the pairs", source="the range is ours"),
}  # fmt: skip
