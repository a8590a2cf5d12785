"""Faults in ``jaxreg.study`` and ``jaxreg.testing``."""

from tests.mutants.row import Mutant

MUTANTS = (
    Mutant(
        "study/selection.py",
        "nan=np.inf), -accuracy)",
        "nan=np.inf), accuracy)",
        "the worst is chosen",
    ),
    Mutant("study/selection.py", "np.argsort(-gains", "np.argsort(gains", "the worst are joined"),
    Mutant(
        "study/selection.py",
        "stats.t.ppf(0.975, count - 1)",
        "stats.t.ppf(0.95, count - 1)",
        "interval too narrow",
    ),
    Mutant(
        "study/selection.py",
        "beating = int((gains > 0).sum())",
        "beating = int((gains >= 0).sum())",
        "an equal arm beats the baseline",
    ),
    Mutant(
        "study/selection.py",
        "np.nan_to_num(mean_loss, nan=np.inf)",
        "np.nan_to_num(mean_loss, nan=0.0)",
        "a broken run wins a tie",
    ),
    Mutant(
        "study/summary.py",
        "np.std(values, ddof=1, dtype=np.float64)",
        "np.std(values, dtype=np.float64)",
        "biased standard deviation",
    ),
    Mutant(
        "study/summary.py",
        "if arm.difference.low > 0:",
        "if arm.difference.low >= 0:",
        "zero is above zero",
    ),
    Mutant(
        "study/summary.py",
        "if study.seeds < _LEAST_SEEDS:\n        return UNCLEAR",
        "if study.seeds <= _LEAST_SEEDS:\n        return UNCLEAR",
        "off by one seed",
    ),
    Mutant(
        "study/summary.py",
        "gap=mean(arm.train) - mean(arm.test)",
        "gap=mean(arm.test) - mean(arm.train)",
        "sign of the gap",
    ),
    Mutant(
        "study/data.py",
        "train_x = x[parts[0]]",
        "train_x = x",
        "test rows leak into the scaling",
    ),
    Mutant(
        "study/data.py",
        "stratify=y[pool], random_state=seed",
        "stratify=y[pool], random_state=0",
        "one split for all seeds",
    ),
    Mutant(
        "study/data.py",
        "np.where(stddev > 0, stddev, 1)",
        "np.where(stddev > 1, stddev, 1)",
        "small features are not scaled",
    ),
    Mutant(
        "study/data.py",
        "if not 2 <= train_size <= most:",
        "if not 2 <= train_size < most:",
        "an error check with a wrong bound",
    ),
    Mutant(
        "study/runner.py",
        "jnp.where(patient, last, best)",
        "jnp.where(patient, best, last)",
        "the last weights after a stop",
    ),
    Mutant(
        "study/runner.py",
        "terms.add_terms(sum(penalties, start=value),",
        "terms.add_terms(value,",
        "penalties of the model lost",
    ),
    Mutant(
        "study/runner.py",
        "state.start, losses.mean(), validation_loss",
        "state.start, losses[-1], validation_loss",
        "loss of the last batch",
    ),
    Mutant(
        "study/runner.py",
        "return _train(plan, recipe, split, jax.random.key(seed))",
        "return _train(plan, recipe, split, jax.random.key(0))",
        "one key for all seeds",
    ),
    Mutant(
        "study/models.py", "deterministic=not train)(x)", "deterministic=train)(x)", "mode inverted"
    ),
    Mutant(
        "study/models.py",
        "if not train:\n            return mean",
        "if train:\n            return mean",
        "mode inverted",
    ),
    Mutant(
        "study/models.py",
        "module.eval()\n            return module(x)",
        "module.train()\n            return module(x)",
        "predicts in training",
    ),
    Mutant(
        "study/optimizers.py",
        "lambda weight, rate: transforms.decoupled_decay(weight, learning_rate=rate)",
        "lambda weight, rate: transforms.independent_decay(weight)",
        "decay without the learning rate",
    ),
    Mutant(
        "study/optimizers.py",
        "transforms.proximal(proximal.group_lasso, weight, rate)",
        "transforms.proximal(proximal.l1, weight, rate)",
        "another operator",
    ),
    Mutant(
        "study/operations.py",
        "jax.random.split(jax.random.fold_in(key, index))",
        "jax.random.split(key)",
        "the same key for all operations",
    ),
    Mutant("study/operations.py", "degrees=90 * size", "degrees=9 * size", "wrong factor"),
    Mutant(
        "study/inputs.py",
        "batch.x + (change(rows) - rows) / batch.stddev",
        "batch.x + (change(rows) - rows)",
        "missing factor",
    ),
    Mutant(
        "study/inputs.py",
        "jnp.where(kept | (batch.x == PADDING), batch.x, UNKNOWN)",
        "jnp.where(kept, batch.x, UNKNOWN)",
        "padding is dropped too",
    ),
    Mutant(
        "study/inputs.py",
        "own = jax.random.fold_in(key, index)",
        "own = key",
        "the same key for all inputs",
    ),
    Mutant(
        "study/techniques.py",
        "low * (high / low) ** share",
        "low + (high - low) * share",
        "linear for logarithmic",
    ),
    Mutant(
        "cli/histories.py",
        '[math.nan if value in (None, "") else value for value in column]',
        '[0.0 if value in (None, "") else value for value in column]',
        "what is missing becomes zero",
    ),
    Mutant("study/terms.py", "/ len(view.x) ** 2", "/ len(view.x)", "not the mean over pairs"),
    Mutant(
        "study/terms.py",
        "information.symmetric_kl(view.logits, view.again).mean()",
        "information.symmetric_kl(view.logits, view.logits).mean()",
        "compares with itself",
    ),
    Mutant(
        "study/progress.py",
        "self._best = max(self._best,",
        "self._best = min(self._best,",
        "the worst is shown",
    ),
    Mutant(
        "study/recipes.py",
        '"dropout": ("in [0, 1)", lambda v: 0 <= v < 1)',
        '"dropout": ("in [0, 1)", lambda v: 0 <= v <= 1)',
        "an error check with a wrong bound",
    ),
    Mutant(
        "study/recipes.py",
        "if getattr(recipe, name) != getattr(off, name):",
        "if getattr(recipe, name) == getattr(off, name):",
        "joins what is off",
    ),
    Mutant(
        "study/recipe_code.py",
        "batch = min(parts.task.batch_size, parts.train_size)",
        "batch = max(parts.task.batch_size, parts.train_size)",
        "wrong batch in the code that is written",
    ),
    Mutant(
        "study/files.py", "path.unlink(missing_ok=True)", "path.exists()", "half-written files stay"
    ),
    Mutant(
        "cli/main.py",
        "return 0 if progress.writing else _USAGE_ERROR",
        "return _USAGE_ERROR if progress.writing else 0",
        "exit status inverted",
    ),
    Mutant(
        "study/policies.py",
        "math.exp(rng.uniform(low, high))",
        "rng.uniform(low, high)",
        "logarithm of the magnitude",
    ),
    Mutant(
        "testing/columns.py",
        "expected = subject.data.dtype if like_data else jnp.dtype(jnp.float32)",
        "expected = leaf.dtype",
        "every dtype passes",
    ),
    Mutant(
        "testing/columns.py",
        "assert p.kind is p.KEYWORD_ONLY",
        "assert p.kind is not p.VAR_KEYWORD",
        "positional strengths pass",
    ),
    Mutant(
        "testing/derivatives.py",
        "(above - below) / (2 * h), err_msg",
        "(above - below) / h, err_msg",
        "missing factor",
    ),
    Mutant(
        "testing/devices.py",
        "assert_close(actual, expected, dtype=subject.data.dtype.name)",
        "del actual, expected",
        "compares nothing",
    ),
)
