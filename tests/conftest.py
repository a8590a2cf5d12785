"""Eight virtual devices and cheap compilation for every test, set before JAX starts."""

import os

import jax

jax.config.update("jax_num_cpu_devices", 8)
# The suite compiles small programs and runs most of them once: what makes a program fast would take
# most of its time. Programs in processes of their own are optimized as usual.
jax.config.update("jax_disable_most_optimizations", True)
if jax.__version_info__ < (0, 11):
    # The other generator of code takes half as long; newer versions do not have it.
    flags = "--xla_cpu_use_fusion_emitters=false"
    os.environ["XLA_FLAGS"] = f"{flags} {os.environ.get('XLA_FLAGS', '')}"
