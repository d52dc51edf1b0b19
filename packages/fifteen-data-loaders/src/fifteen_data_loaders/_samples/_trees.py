"""Containers of samples: what JAX calls PyTrees, told apart without importing jax.

Dicts, lists, tuples, named tuples and ``None`` are understood here. Any other class may have been
registered with JAX; then jax has been imported, and its registry is asked. A worker process has no
registry, so it sends objects that it does not know to the parent as they are.
"""

import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from typing import Any

import numpy as np


class StructureMismatchError(Exception):
    """A sample does not have the structure that was asked for."""


class _Kind(Enum):
    LEAF = "leaf"
    REGISTERED = "registered with JAX"


LEAF = _Kind.LEAF
REGISTERED = _Kind.REGISTERED


@dataclass(frozen=True)
class Structure:
    """The containers of a sample around its leaves; equal for samples that can be stacked.

    Dicts are compared by their keys, in any order: ``keys`` holds them as the first sample had
    them, and the minibatch has them in that order too.
    """

    kind: Any
    """``dict``, ``list``, ``tuple``, a named tuple's class, ``None``, `LEAF` or `REGISTERED`."""
    keys: tuple[Any, ...] = ()
    """What leads to each child: keys of a dict, indices, field names; path parts if registered."""
    children: "tuple[Structure, ...]" = ()
    registered: Any = None
    """JAX's ``PyTreeDef`` of this one container, for classes registered with it."""
    leaf_type: type | None = None
    """For leaves of a class that only the parent can tell from a container."""

    @property
    def portable(self) -> bool:
        """Whether a worker can take a sample apart by this structure."""
        return self.kind is not REGISTERED and all(child.portable for child in self.children)


SCALAR_TYPES = frozenset({bool, int, float, complex, str, bytes})
"""Types that are leaves in every process. Exact types: a subclass may be registered with JAX."""

_LEAF_TYPES = SCALAR_TYPES | {np.ndarray}
_COLLECTIONS_KNOWN_TO_JAX = (OrderedDict, defaultdict)


def structure_of(sample: Any) -> Structure:
    """Tell the containers of ``sample`` from its leaves; in the parent process only."""
    kind = type(sample)
    if kind is np.ndarray or kind in SCALAR_TYPES:
        return Structure(LEAF)
    if sample is None:
        return Structure(None)
    if kind is dict:
        return Structure(dict, tuple(sample), tuple(map(structure_of, sample.values())))
    if kind is list or kind is tuple:
        return Structure(kind, tuple(range(len(sample))), tuple(map(structure_of, sample)))
    fields = getattr(kind, "_fields", None)
    if isinstance(sample, tuple) and fields is not None:
        return Structure(kind, tuple(fields), tuple(map(structure_of, sample)))
    if isinstance(sample, np.generic):
        return Structure(LEAF)
    if "jax" in sys.modules or isinstance(sample, _COLLECTIONS_KNOWN_TO_JAX):
        return _structure_by_jax(sample)
    return Structure(LEAF, leaf_type=kind)


def _structure_by_jax(sample: Any) -> Structure:
    import jax

    paths_and_children, treedef = jax.tree_util.tree_flatten_with_path(
        sample, is_leaf=lambda node: node is not sample
    )
    # Not `treedef_is_leaf()`, which is true of containers without children, too.
    if paths_and_children and paths_and_children[0][1] is sample:
        return Structure(LEAF, leaf_type=type(sample))
    return Structure(
        REGISTERED,
        tuple(jax.tree_util.keystr(path) for path, _ in paths_and_children),
        tuple(structure_of(child) for _, child in paths_and_children),
        registered=treedef,
    )


def columns(
    structure: Structure, samples: Sequence[Any], key_order: bool, check_leaves: bool = True
) -> list[list[Any]]:
    """Gather the leaves of ``samples``: one list for each leaf, with one entry for each sample.

    Works container by container rather than sample by sample, so that the cost per sample stays
    within C loops.

    Args:
        structure: what every sample must have.
        samples: at least one.
        key_order: whether dicts of the first sample must also have their keys in the order of
            ``structure``.
        check_leaves: whether to refuse containers in the place of leaves.

    Raises:
        StructureMismatchError: if a sample differs.
    """
    kind = structure.kind
    if kind is LEAF:
        if check_leaves:
            _check_leaves(samples)
        return [list(samples)]
    if kind is REGISTERED:
        return _columns_by_jax(structure, samples, key_order)
    types = set(map(type, samples))
    if types != {type(None) if kind is None else kind}:
        raise StructureMismatchError
    gathered: list[list[Any]] = []
    if kind is None:
        return gathered
    if kind is dict:
        if set(map(len, samples)) != {len(structure.keys)}:
            raise StructureMismatchError
        if key_order and tuple(samples[0]) != structure.keys:
            raise StructureMismatchError
        try:
            children: list[Sequence[Any]] = [
                list(map(itemgetter(key), samples)) for key in structure.keys
            ]
        except KeyError:
            raise StructureMismatchError from None
    else:
        try:
            children = list(zip(*samples, strict=True))
        except ValueError:
            raise StructureMismatchError from None
        if len(children) != len(structure.keys):
            raise StructureMismatchError
    for child, column in zip(structure.children, children, strict=True):
        gathered += columns(child, column, key_order, check_leaves)
    return gathered


def _check_leaves(samples: Sequence[Any]) -> None:
    for kind in set(map(type, samples)) - _LEAF_TYPES:
        one = next(sample for sample in samples if type(sample) is kind)
        if structure_of(one).kind is not LEAF:
            raise StructureMismatchError


def _columns_by_jax(
    structure: Structure, samples: Sequence[Any], key_order: bool
) -> list[list[Any]]:
    treedef = structure.registered
    try:
        rows = [treedef.flatten_up_to(sample) for sample in samples]
    except Exception as error:  # Also of comparing what is static, such as arrays.
        raise StructureMismatchError from error
    gathered: list[list[Any]] = []
    for child, column in zip(structure.children, zip(*rows, strict=True), strict=True):
        gathered += columns(child, column, key_order)
    return gathered


def build(structure: Structure, leaves: Iterator[Any]) -> Any:
    """Put leaves, in the order of `columns`, into containers again."""
    kind = structure.kind
    if kind is LEAF:
        return next(leaves)
    if kind is None:
        return None
    children = [build(child, leaves) for child in structure.children]
    if kind is dict:
        return dict(zip(structure.keys, children, strict=True))
    if kind is REGISTERED:
        return structure.registered.unflatten(children)
    if kind is list or kind is tuple:
        return kind(children)
    return kind._make(children)


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply ``function`` to every leaf of ``tree``."""
    structure = structure_of(tree)
    leaves = (column[0] for column in columns(structure, [tree], key_order=False))
    return build(structure, map(function, leaves))


def leaf_paths(structure: Structure, prefix: str = "") -> list[str]:
    """Name every leaf as Python would reach it, such as ``['image'][0].mean``."""
    if structure.kind is LEAF:
        return [prefix]
    paths: list[str] = []
    for key, child in zip(structure.keys, structure.children, strict=True):
        paths += leaf_paths(child, prefix + _step(structure, key))
    return paths


def _step(structure: Structure, key: Any) -> str:
    if structure.kind is REGISTERED:
        return str(key)
    if structure.kind in (dict, list, tuple):
        return f"[{key!r}]"
    return f".{key}"


def describe_difference(
    first: Structure, second: Structure, path: str = ""
) -> tuple[str, str, str]:
    """Find the first place where two structures differ: its path and what each one has there."""
    if first.kind is second.kind and set(first.keys) == set(second.keys):
        by_key = dict(zip(second.keys, second.children, strict=True))
        for key, child in zip(first.keys, first.children, strict=True):
            if not same_structure(child, by_key[key]):
                return describe_difference(child, by_key[key], path + _step(first, key))
    return path, _describe(first), _describe(second)


def same_structure(first: Structure, second: Structure) -> bool:
    """Compare two structures, dicts by their keys in any order."""
    if first.kind is not second.kind or len(first.keys) != len(second.keys):
        return False
    if not _are_equal(first.registered, second.registered):
        return False
    by_key = dict(zip(second.keys, second.children, strict=True))
    return all(
        key in by_key and same_structure(child, by_key[key])
        for key, child in zip(first.keys, first.children, strict=True)
    )


def _are_equal(first: Any, second: Any) -> bool:
    try:
        return bool(first == second)
    except Exception:  # Of comparing what is static, such as arrays.
        return False


def _describe(structure: Structure) -> str:
    kind = structure.kind
    if kind is LEAF:
        return "a leaf"
    if kind is None:
        return "None"
    if kind is REGISTERED:
        return str(structure.registered)
    if kind is dict:
        return f"a dict with the keys {list(structure.keys)}"
    return f"a {kind.__name__} of length {len(structure.keys)}"
