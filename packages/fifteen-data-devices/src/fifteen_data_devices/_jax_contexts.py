import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

_SETTINGS = (
    "enable_x64",
    "default_device",
    "transfer_guard_host_to_device",
    "transfer_guard_device_to_device",
    "transfer_guard_device_to_host",
    "default_matmul_precision",
    "default_prng_impl",
    "threefry_partitionable",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
    "debug_nans",
    "debug_infs",
    "debug_key_reuse",
    "check_tracer_leaks",
    "enable_checks",
    "enable_custom_prng",
    "legacy_prng_key",
    "softmax_custom_jvp",
    "allow_f16_reductions",
    "array_garbage_collection_guard",
    "disable_jit",
    "log_compiles",
    "explain_cache_misses",
)
"""Public context managers ``jax.<name>`` whose value is read as ``jax.config.jax_<name>``."""


@dataclass(frozen=True, slots=True)
class JaxContexts:
    """The settings of JAX in force on a thread, to be entered again on another.

    JAX keeps them per thread and has no way to copy them all, so those that matter to loading and
    transfer are carried one by one. Not carried are user contexts and the deprecated
    ``with mesh:``, which cannot be read from outside.
    """

    values: Mapping[str, Any]
    mesh: Any
    abstract_mesh: Any

    @classmethod
    def capture(cls) -> "JaxContexts":
        """Returns the settings of the calling thread."""
        # Whoever has not imported JAX has not changed a setting of it either.
        jax = sys.modules.get("jax")
        if jax is None:
            return cls({}, None, None)
        values = {name: _value(jax, name) for name in _SETTINGS if hasattr(jax, name)}
        try:
            return cls(values, jax.sharding.get_mesh(), jax.sharding.get_abstract_mesh())
        except ValueError:
            # While a function is being traced, there is no mesh for what happens outside of it.
            return cls(values, None, None)

    def entered(self) -> ExitStack:
        """Enter the settings that differ from those of the calling thread."""
        stack = ExitStack()
        jax = sys.modules.get("jax")
        if jax is None:
            return stack
        for name, value in self.values.items():
            if _value(jax, name) != value:
                stack.enter_context(getattr(jax, name)(value))
        if self.mesh is not None and self.mesh != jax.sharding.get_mesh():
            stack.enter_context(jax.set_mesh(self.mesh))
        if self.mesh is not None and self.abstract_mesh != jax.sharding.get_abstract_mesh():
            stack.enter_context(jax.sharding.use_abstract_mesh(self.abstract_mesh))
        return stack


def _value(jax: Any, name: str) -> Any:
    return getattr(jax.config, f"jax_{name}")
