"""Augmentations of series, tables and texts, and values of the training loop."""

from docs.site.rows.row import Place, Technique

LENGTH = "Series of different lengths are padded; pass their `length`, or padding is warped too."


def _series(
    name: str, title: str, also: tuple[str, ...], *risks: str, functions: tuple[str, ...] = ()
) -> Technique:
    names = functions or (name, f"random_{name}")
    return Technique(
        page=f"augment/series/{name}", title=title, also=also, risks=(*risks, LENGTH),
        functions=tuple(f"augment.series.{each}" for each in names),
    )  # fmt: skip


def _text(
    name: str, title: str, also: tuple[str, ...], *risks: str, functions: tuple[str, ...] = ()
) -> Technique:
    return Technique(
        page=f"augment/text/{name}", title=title, also=also, risks=risks,
        functions=tuple(f"augment.text.{each}" for each in functions or (name,)),
    )  # fmt: skip


PROTECTED = (
    "Pass `where` for the real tokens and `protected` for special ones, or the start, the end and "
    "padding change too."
)
SERIES = (
    _series("random_jitter", "Jitter", ("tsaug `AddNoise`", "Um et al. 2017"),
            "The standard deviation is in units of the data.", functions=("random_jitter",)),
    _series("scaling", "Scaling of series", ("Um et al. 2017", "magnitude scaling"),
            "Where the amplitude tells classes apart, it changes labels."),
    _series("magnitude_warp", "Magnitude warping", ("Um et al. 2017",),
            "Few knots make a slow curve, many make noise."),
    _series("time_warp", "Time warping", ("tsaug `TimeWarp`", "Um et al. 2017"),
            "Events move, so labels for each step have to move with them."),
    _series("window_slice", "Window slicing", ("tsaug `Crop`", "Le Guennec et al. 2016"),
            "What tells the classes apart may lie outside the window."),
    _series("window_warp", "Window warping", ("Le Guennec et al. 2016",),
            "Frequencies change inside the window."),
    _series("permutation", "Permutation of segments", ("Um et al. 2017",),
            "It destroys the order of events; use it where order carries no label.",
            functions=("permutation", "random_permutation", "even_cuts", "random_cuts")),
    _series("random_spec_augment", "SpecAugment",
            ("torchaudio `FrequencyMasking`, `TimeMasking`, `SpecAugment`", "Park et al. 2019",
             "masking of spectrograms"),
            "Widths go up to F inclusive, and each example has its own masks. torchaudio draws one "
            "mask for the batch by default.",
            functions=("random_spec_augment", "SpecPolicy")),
)  # fmt: skip
TABLES = (
    Technique(
        page="augment/tables/smote", title="SMOTE",
        functions=("augment.tables.smote", "augment.tables.shortfall"),
        also=("imbalanced-learn `SMOTE`", "oversampling of a small class", "Chawla et al. 2002"),
        risks=("Oversample training rows only, after the split.",
               "Standardize columns first, or one of them decides who is a neighbor."),
    ),
    Technique(
        page="augment/tables/fit_mixture", title="Mixture of Gaussians for each class",
        functions=("augment.tables.fit_mixture", "augment.tables.sample_mixture",
                   "augment.tables.Mixture"),
        also=("scikit-learn `GaussianMixture`", "generative oversampling"),
        risks=("Covariances of many features need many examples, or a large `ridge`.",),
    ),
)  # fmt: skip
TEXT = (
    _text("synonym_replacement", "Synonym replacement",
          ("EDA", "nlpaug `SynonymAug`", "Wei and Zou 2019"),
          "Neighbors by embedding include opposites, such as good and bad.", PROTECTED,
          functions=("synonym_replacement", "neighbors_from_dictionary",
                     "neighbors_from_embeddings")),
    _text("random_insertion", "Random insertion", ("EDA", "Wei and Zou 2019"),
          "Sequences keep their length: tokens at the end are pushed out.", PROTECTED),
    _text("random_deletion", "Random deletion", ("EDA", "word dropout", "Wei and Zou 2019"),
          "A deleted negation changes the label.", PROTECTED),
    _text("random_swap", "Random swap", ("EDA", "Wei and Zou 2019"), PROTECTED),
    _text("token_masking", "Token masking",
          ("masked language modeling (MLM) of BERT", "Hugging Face "
           "`DataCollatorForLanguageModeling`"),
          "Labels are -1 where nothing is predicted; Hugging Face has -100.", PROTECTED,
          functions=("token_masking", "Replacement", "Masked")),
    _text("span_masking", "Span masking", ("SpanBERT", "T5 span corruption (with sentinels)"),
          "A span never crosses padding or a protected token.", PROTECTED),
    _text("paraphrase", "Paraphrases by a model", ("nlpaug `AbstSummAug`",),
          "The function runs in the training step, so it has to be traceable. For a model on the "
          "host, paraphrase the data before training."),
    _text("back_translation", "Back-translation", ("Sennrich, Haddow and Birch 2016",
          "nlpaug `BackTranslationAug`"),
          "Both models run in the training step; translating the data once is cheaper."),
    _text("embedding_noise", "Noise on embeddings", ("NEFTune", "TRL `neftune_noise_alpha`",
          "Jain et al. 2024"),
          "The noise shrinks with the length of the sequence: pass `where`, or padding counts."),
    _text("embedding_interpolation", "Interpolation of embeddings",
          ("mixup of embeddings", "synonym mixing"),
          "A share near 1 replaces the token.",
          functions=("embedding_interpolation", "random_embedding_interpolation")),
)  # fmt: skip
LOOP = (
    Technique(
        page="training/early_stopping", title="Early stopping",
        functions=("training.early_stopping.update", "training.early_stopping.update_maximizing",
                   "training.early_stopping.init", "training.early_stopping.EarlyStopping"),
        also=("Keras `EarlyStopping(patience, restore_best_weights)`",
              "Lightning `EarlyStopping`", "Flax `EarlyStopping`",
              "early stopping inside `jax.jit` and `jax.lax.scan`"),
        risks=("Inside `scan` or `jit` the loop goes on; the state says where it should have "
               "stopped, and holds the best parameters.",
               "NaN counts against the patience.",
               "The metric has to come from validation rows. Reporting it afterwards is too "
               "optimistic."),
    ),
    Technique(
        page="training/plateau", title="Strength that follows a metric",
        functions=("training.plateau.update", "training.plateau.update_maximizing",
                   "training.plateau.init", "training.plateau.Plateau"),
        also=("PyTorch `ReduceLROnPlateau`", "Keras `ReduceLROnPlateau`",
              "`optax.contrib.reduce_on_plateau`"),
        risks=("A strength of 0 stays 0 under any factor.",),
    ),
    Technique(
        page="training/schedules", title="Schedules of dropout",
        functions=("training.schedules.curriculum_dropout", "training.schedules.early_dropout",
                   "training.schedules.late_dropout"),
        also=("curriculum dropout", "early and late dropout (Liu et al. 2023)",
              "annealed dropout"),
        risks=("Pass the rate as an array, or every step compiles anew.",),
    ),
    Technique(
        page="training/monte_carlo", title="Monte Carlo dropout",
        functions=("training.ensembles.monte_carlo", "training.ensembles.class_uncertainty",
                   "training.ensembles.Prediction", "training.ensembles.ClassUncertainty"),
        also=("MC dropout", "Bayesian dropout, predictive uncertainty", "BALD",
              "Gal and Ghahramani 2016"),
        risks=("Batch norm has to stay in evaluation while dropout is in training.",
               "The spread depends on the rate; it is not calibrated by itself."),
    ),
    Technique(
        page="training/ensemble_mse", title="Error of an ensemble",
        functions=("training.ensembles.ensemble_mse", "training.ensembles.error_moments",
                   "training.ensembles.predicted_mse", "training.ensembles.ErrorMoments",
                   "training.ensembles.Estimate"),
        also=("bagging", "deep ensembles", "ambiguity decomposition"),
        risks=("It is for squared errors, not for accuracy.",),
    ),
    Technique(
        page="training/recalibrate", title="Recalibration of batch norm",
        functions=("training.statistics.recalibrate", "training.statistics.recalibrate_model"),
        also=("PyTorch `swa_utils.update_bn`", "precise batch norm (PreciseBN)",
              "statistics after SWA or EMA"),
        risks=("Augment the batches as in training.",
               "The model has to be in training mode, or no norm counts an element."),
    ),
    Technique(
        page="training/digests", title="Digests of checkpoints",
        functions=("training.digests.digest", "training.digests.verify"),
        also=("checksums", "SHA-256 of parameters", "silent data corruption"),
        risks=("Every process has to be able to read whole arrays: gather sharded ones first.",),
    ),
)  # fmt: skip
PLACES = (
    Place("series", "Series", "Augmentations of arrays `[time, channels]`.", SERIES),
    Place("tables", "Tables", "New rows for small classes.", TABLES),
    Place("text", "Text", "Augmentations of token ids and of embeddings.", TEXT),
    Place("loop", "The loop", "Values with an update, for the training loop.", LOOP),
)  # fmt: skip
