"""Eight virtual devices and cheap compilation for every test, set before JAX starts."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
# Most programs of the suite run once, so that LLVM's optimization costs more than it saves. What
# XLA decides before it (operations, collectives, memory) stays. Processes of their own optimize.
jax.config.update("jax_disable_most_optimizations", True)
