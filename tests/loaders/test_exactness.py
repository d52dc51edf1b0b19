"""Samples that differ from each other, in any way: workers give what inline loading gives."""

from typing import Any

import hypothesis
import numpy as np
import pytest
from fifteen_data_loaders import DataLoader
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.loaders.datasets import assert_same

pytestmark = pytest.mark.usefixtures("no_leftovers")

_DTYPES = ["i1", "u2", "i8", "f4", "f8", "c8", "?", "S3", "U2", ">i4", "M8[s]", "O"]


def _leaf() -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(width=32, allow_nan=False),
        st.text("ab\0", max_size=3),
        st.binary(max_size=3),
        st.sampled_from([np.int16(3), np.float32(0.5), np.bool_(True), np.str_("x"), 1j]),
    )
    shapes = st.sampled_from([(), (1,), (3,), (2, 2), (0,)])
    arrays = st.builds(
        lambda shape, dtype: np.zeros(shape, dtype), shapes, st.sampled_from(_DTYPES)
    )
    return scalars | arrays | hnp.arrays("i4", st.sampled_from([(3,), ()]))


def _tree() -> st.SearchStrategy[Any]:
    leaf = _leaf()
    return st.one_of(
        leaf,
        st.tuples(leaf, leaf),
        st.permutations(["a", "b"]).flatmap(
            lambda keys: st.fixed_dictionaries(dict.fromkeys(keys, leaf))
        ),
        st.lists(leaf, max_size=2),
        st.none(),
    )


@st.composite
def _datasets(draw: st.DrawFn) -> list[Any]:
    """Mostly one kind of sample, so that layouts are learnt, then broken, then learnt anew."""
    samples: list[Any] = []
    for _ in range(draw(st.integers(1, 4))):
        samples += [draw(_tree())] * draw(st.integers(1, 9))
    return samples


def _outcome(minibatches: Any, position: int) -> Any:
    try:
        return minibatches[position]
    except (ValueError, TypeError, OverflowError) as error:
        return type(error), str(error)


@hypothesis.settings(max_examples=40)
@hypothesis.given(dataset=_datasets(), size=st.integers(1, 6))
def test_workers_give_the_same_minibatch_or_the_same_error(dataset: list[Any], size: int) -> None:
    inline = DataLoader(dataset, size, drop_last=False).minibatches(None)
    with DataLoader(dataset, size, num_workers=1, drop_last=False) as loader:
        minibatches = loader.minibatches(None)
        for position in range(len(minibatches)):
            actual, expected = _outcome(minibatches, position), _outcome(inline, position)
            assert_same(actual, expected)
