"""Two tiers, shards, a limit on compiled programs, eight virtual devices and cheap compilation."""

import gc
import os
import zlib
from collections import defaultdict
from pathlib import Path

# Threads of OpenBLAS wait for each other when XLA calls them from several threads of its own. The
# library reads this once, when NumPy and SciPy load it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jaxlib

from tests import ratchet

EXHAUSTIVE = Path(__file__).parent / "exhaustive"


def pytest_addoption(parser):
    group = parser.getgroup("jaxreg")
    group.addoption(
        "--exhaustive",
        action="store_true",
        help="run the tests outside the default suite: tests/exhaustive and all other parameters",
    )
    group.addoption(
        "--shard", metavar="I/N", type=shard, help="run the I-th of N parts of the collected tests"
    )


def shard(text):
    """The numbers of ``I/N``."""
    index, _, number = text.partition("/")
    if not (index.isdigit() and number.isdigit() and 1 <= int(index) <= int(number)):
        raise ValueError(f"`--shard` must be I/N with 1 <= I <= N, got {text}; write 3/8")
    return int(index), int(number)


def pytest_configure(config):
    """Sets up JAX before anything uses it."""
    config.pluginmanager.register(ratchet.Ratchet(config), "ratchet")
    jax.config.update("jax_num_cpu_devices", 8)
    # Most programs of the suite run once: LLVM's optimization costs more than it saves. It comes
    # after XLA has chosen operations, collectives and memory. Separate processes do optimize.
    jax.config.update("jax_disable_most_optimizations", True)
    if jaxlib.version.__version_info__ < (0, 11) and not config.option.exhaustive:
        generate_cheap_code()
    if folder := os.environ.get("JAXREG_TEST_CACHE"):
        worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
        jax.config.update("jax_compilation_cache_dir", str(Path(folder, worker)))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# Half of the time to compile: no fusion emitters, one LLVM module a program, and no inlining before
# it is split.
CHEAP_CODE = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_llvm_force_inline_before_split=false"
)


def generate_cheap_code():
    """Sets flags for this process only: jaxlib reads them once, and newer ones lack some."""
    before = os.environ.get("XLA_FLAGS")
    os.environ["XLA_FLAGS"] = f"{before or ''} {CHEAP_CODE}".strip()
    jax.devices()
    if before is None:
        del os.environ["XLA_FLAGS"]
    else:
        os.environ["XLA_FLAGS"] = before


def pytest_ignore_collect(collection_path, config):
    """Skips the exhaustive tier unless the option or a path asks for it."""
    if collection_path != EXHAUSTIVE or config.option.exhaustive:
        return None
    asked = any("exhaustive" in Path(argument.split("::")[0]).parts for argument in config.args)
    return None if asked else True


def pytest_collection_modifyitems(config, items):
    chosen = set(map(id, default_suite(items)))
    if config.option.exhaustive:
        kept = [item for item in items if EXHAUSTIVE in item.path.parents or id(item) not in chosen]
    else:
        kept = [item for item in items if EXHAUSTIVE in item.path.parents or id(item) in chosen]
    if config.option.shard:
        index, number = config.option.shard
        kept = [item for item in kept if digest(item.nodeid) % number == index - 1]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_collection_finish():
    """Freezes collected objects: the garbage collector took 5% of the CPU time to walk them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def default_suite(items):
    """Yields the items of the default suite.

    Of a test with ``few`` parameters these are two combinations, with ``first`` ones it is one, and
    of a test marked ``exhaustive`` there is none.
    """
    groups = defaultdict(list)
    for item in items:
        if not item.get_closest_marker("exhaustive"):
            groups[item.nodeid.split("[")[0], other_parameters(item)].append(item)
    for first, *others in groups.values():
        yield first
        if others and not first.get_closest_marker("first"):
            yield min(others, key=lambda item: digest(item.nodeid))


def other_parameters(item):
    """The values of an item's parameters outside ``few``, by name and identity."""
    thinned = {name for mark in item.iter_markers("few") for name in mark.args}
    values = item.callspec.params if hasattr(item, "callspec") else {}
    return tuple((name, id(value)) for name, value in values.items() if name not in thinned)


def digest(name):
    return zlib.crc32(name.encode())
