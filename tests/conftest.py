"""Eight virtual devices and cheap compilation for every test, set before JAX starts."""

import jax

jax.config.update("jax_num_cpu_devices", 8)
# The suite compiles small programs and runs most of them once: what makes a program fast would take
# most of its time. Programs in processes of their own are optimized as usual.
jax.config.update("jax_disable_most_optimizations", True)
