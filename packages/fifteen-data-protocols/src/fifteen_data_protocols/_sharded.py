"""What minibatches say of the part of each that they hold."""

from typing import Protocol, runtime_checkable


@runtime_checkable
class Sharded(Protocol):
    """Protocol for minibatches, or an iteration over them, that know which rows they hold.

    Of every minibatch of ``minibatch_size`` rows, these are part ``shard_index`` of ``shard_count``
    equal ones. Those of data loaders have the attributes, and maps carry them on: ``padding_map()``
    fills up to the size, and ``sharding_map()`` compares the shard with where it places the rows.
    Maps look the attributes up by name, so that anybody's iterable may have them.

    Example:
        >>> def rows_of(minibatches: Sharded) -> int:
        ...     return minibatches.minibatch_size // minibatches.shard_count
    """

    @property
    def minibatch_size(self) -> int:
        """Rows of a whole minibatch, over all shards."""
        ...

    @property
    def shard_index(self) -> int:
        """Which part this is, in ``[0, shard_count)``."""
        ...

    @property
    def shard_count(self) -> int:
        """Into how many parts every minibatch is divided."""
        ...
