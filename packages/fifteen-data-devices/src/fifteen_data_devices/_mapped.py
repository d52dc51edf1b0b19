"""Maps over whatever can be iterated: an iterator for an iterator, a recipe for anything else."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar, cast

from fifteen_data_devices._inputs import carry_shard, check_inputs
from fifteen_data_devices._map_iterator import MapIterator, SizedMapIterator

InputType = TypeVar("InputType")
OutputType = TypeVar("OutputType")


class MinibatchMap(ABC, Generic[InputType, OutputType]):
    """What a map does to minibatches, and how it iterates over them."""

    @abstractmethod
    def new_transform(self) -> Callable[[InputType], OutputType]:
        """Returns a function for the minibatches of one iteration, called in their order."""

    def iterate(self, inputs: Iterator[InputType], *, owned: bool) -> Iterator[OutputType]:
        """Begin an iteration; ``owned`` says that the iterator was made for it."""
        kind = SizedMapIterator if isinstance(inputs, Sized) else MapIterator
        return kind(inputs, self.new_transform, owned=owned)


def map_minibatches(
    inputs: Iterable[InputType], mapping: MinibatchMap[InputType, OutputType]
) -> Iterable[OutputType]:
    """Returns an iterator for an iterator, and for anything else an iterable of the same abilities.

    Raises:
        TypeError: if ``inputs`` is no iterable over minibatches.
    """
    check_inputs(inputs)
    if isinstance(inputs, Iterator):
        return mapping.iterate(inputs, owned=False)
    if not isinstance(inputs, Sized):
        return Mapped(inputs, mapping)
    if not hasattr(inputs, "__getitem__"):
        return SizedMapped(inputs, mapping)
    return SlicedMapped(inputs, mapping)


class Mapped(Generic[InputType, OutputType]):
    """A mapped iterable: every ``iter()`` is an iteration of its own."""

    def __init__(
        self, inputs: Iterable[InputType], mapping: MinibatchMap[InputType, OutputType]
    ) -> None:
        self.inputs = inputs
        self.mapping = mapping
        carry_shard(inputs, onto=self)

    def __iter__(self) -> Iterator[OutputType]:
        return self.mapping.iterate(iter(self.inputs), owned=True)


class SizedMapped(Mapped[InputType, OutputType]):
    """A mapped iterable that knows its length."""

    def __len__(self) -> int:
        return len(cast(Sized, self.inputs))


class SlicedMapped(SizedMapped[InputType, OutputType]):
    """A mapped iterable that can be indexed and sliced as its input can."""

    def __getitem__(self, index: int | slice, /) -> Any:
        selected = cast(Any, self.inputs)[index]
        if isinstance(index, slice):
            return map_minibatches(selected, self.mapping)
        return self.mapping.new_transform()(selected)
