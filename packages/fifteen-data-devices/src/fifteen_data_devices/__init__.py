"""Maps that bring minibatches to JAX devices."""

from fifteen_data_devices.__about__ import __version__
from fifteen_data_devices._padding_map import padding_map
from fifteen_data_devices._prefetching_map import prefetching_map
from fifteen_data_devices._process_shard import ProcessShard, process_shard
from fifteen_data_devices._sharding_map import sharding_map

__all__ = [
    "ProcessShard",
    "__version__",
    "padding_map",
    "prefetching_map",
    "process_shard",
    "sharding_map",
]
