"""A test for pipelines: do they go on from their states exactly?"""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from fifteen_data_protocols import MinibatchIterator, checked_int
from numpy.typing import NDArray

from fifteen_data_loaders._samples._trees import (
    columns,
    describe_difference,
    leaf_paths,
    same_structure,
    structure_of,
)

_END = object()


def check_resume(
    new_iteration: Callable[[], MinibatchIterator[Any]], minibatch_count: int = 10
) -> None:
    """Checks that an iteration resumes exactly; for the tests of a pipeline.

    Minibatches are received once, and the state before each is kept as JSON, as in a checkpoint.
    Then a new iteration is made for every state, which must go on with what came after it: the same
    containers, dtypes, shapes and bytes. This loads ``minibatch_count**2 / 2`` minibatches.

    What fails is mostly a dataset that draws random numbers of its own instead of those of
    :func:`sample_rng`, or whose samples depend on what was loaded before.

    Args:
        new_iteration: makes the iteration from its beginning; best with a dataset and a loader of
            its own, as a program does that is started again. It is closed afterwards.
        minibatch_count: how many minibatches to receive, if there are so many. With more than an
            epoch has, the way from one to the next is checked, too.

    Raises:
        AssertionError: if a minibatch is not the same: its number, the state's, and what differs.
        TypeError: if ``minibatch_count`` is not an integer, or a state has no JSON.
        ValueError: if ``minibatch_count`` is less than 1, or an iteration refuses a state.

    Example:
        >>> from fifteen_data_loaders import DataLoader, cycled_minibatches
        >>> def new_iteration():
        ...     loader = DataLoader([i**2 for i in range(10)], minibatch_size=4)
        ...     return cycled_minibatches(loader, shuffle_seed=0)
        >>> check_resume(new_iteration)
    """
    minibatch_count = checked_int("minibatch_count", minibatch_count, at_least=1)
    states: list[str] = []
    expected: list[Any] = []
    with closing(new_iteration()) as iteration:
        while len(states) < minibatch_count:
            states.append(json.dumps(iteration.get_state()))
            expected.append(next(iteration, _END))
            if expected[-1] is _END:
                break
    for start, state in enumerate(states):
        with closing(new_iteration()) as iteration:
            iteration.set_state(json.loads(state))
            for number in range(start, len(expected)):
                difference = _difference(expected[number], next(iteration, _END))
                if difference:
                    raise AssertionError(
                        f"minibatch {number} is not the same again when the state before minibatch "
                        f"{start} is resumed: {difference}"
                    )


def _difference(first: Any, second: Any) -> str | None:
    """Say what differs first between a minibatch and the one that should be the same."""
    if first is _END or second is _END:
        before, after = ("ended" if each is _END else "went on" for each in (first, second))
        return None if before == after else f"the iteration {before} there, and {after} now"
    structure, second_structure = structure_of(first), structure_of(second)
    if not same_structure(structure, second_structure):
        path, before, after = describe_difference(structure, second_structure)
        return f"`minibatch{path}` was {before}, and is {after} now"
    trees = (columns(structure, [tree], key_order=False) for tree in (first, second))
    for path, leaf, second_leaf in zip(leaf_paths(structure), *trees, strict=True):
        (was, parts), (now, second_parts) = _read(leaf[0]), _read(second_leaf[0])
        if was != now:
            return f"`minibatch{path}` was {was}, and is {now} now"
        if not all(map(_are_same, parts, second_parts)):
            return f"`minibatch{path}` has other values"
    return None


def _read(leaf: Any) -> tuple[str, list[NDArray[Any]]]:
    """Returns what a leaf is, and the values of it that this process has."""
    jax = sys.modules.get("jax")
    if jax is None or not isinstance(leaf, jax.Array):
        array = np.asarray(leaf)
        return f"{array.dtype} of shape {array.shape}", [array]
    described = f"{leaf.dtype} of shape {leaf.shape}"
    if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if leaf.is_fully_addressable:
        return described, [np.asarray(leaf)]
    parts = sorted(leaf.addressable_shards, key=lambda shard: shard.device.id)
    held = [(shard.device.id, shard.index) for shard in parts]
    return f"{described} with {held} here", [np.asarray(shard.data) for shard in parts]


def _are_same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    if one.dtype.hasobject:
        return np.array_equal(one, other)
    return one.tobytes() == other.tobytes()
