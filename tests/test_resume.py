"""A state goes on anywhere: through every map, from any loader to any other, by way of Orbax."""

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import pytest
from fifteen_data_devices import prefetching_map, sharding_map
from fifteen_data_loaders import cycled_minibatches
from fifteen_data_protocols import MinibatchIterator

from tests.loaders import scripts
from tests.loaders.datasets import VARIANTS, assert_same

pytestmark = pytest.mark.usefixtures("no_leftovers")

STEPS = 12  # Of five for each epoch.

Map = Callable[[MinibatchIterator[Any]], MinibatchIterator[Any]]

MAPS: dict[str, Map] = {
    "none": lambda train: train,
    "prefetching": lambda train: prefetching_map(train, jax.devices()[0], buffer_size=4),
    "sharding": lambda train: sharding_map(train, jax.devices()[:2]),
    "both": lambda train: prefetching_map(sharding_map(train, jax.devices()[:2])),
}


def _make(variant: str, stack: ExitStack) -> Any:
    loader = VARIANTS[variant](4)
    return stack.enter_context(loader) if hasattr(loader, "close") else loader


@pytest.mark.parametrize("mapped", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize(
    ("variant", "other_variant"),
    [
        ("inline", "threads"),
        ("threads", "in memory"),
        ("workers", "inline"),
        ("in memory", "workers"),
    ],
)
def test_a_state_is_that_of_the_minibatch_received(
    variant: str, other_variant: str, mapped: Map
) -> None:
    """At every step of several epochs, the first and the last included, for any two loaders."""
    with ExitStack() as stack:
        loader, other_loader = _make(variant, stack), _make(other_variant, stack)
        train = mapped(cycled_minibatches(loader, 8))
        steps = [(json.dumps(train.get_state()), next(train)) for _ in range(STEPS)]
        assert [json.loads(saved)["step"] for saved, _ in steps] == list(range(STEPS))

        for saved, expected in steps:
            other = mapped(cycled_minibatches(other_loader, 8))
            other.set_state(json.loads(saved))
            assert json.dumps(other.get_state()) == saved
            assert_same(next(other), expected)
            other.close()

        # The one that is running, backwards.
        for step, (saved, expected) in reversed([*enumerate(steps)]):
            train.set_state(json.loads(saved))
            assert_same(next(train), expected)
            assert train.get_state()["step"] == step + 1
        train.close()


@pytest.mark.parametrize("mapped", MAPS.values(), ids=MAPS)
def test_a_state_of_other_data_is_refused_and_nothing_is_lost(mapped: Map) -> None:
    with VARIANTS["threads"](4) as loader:
        train = mapped(cycled_minibatches(loader, 8))
        next(train)
        state = train.get_state()
        expected = next(train)
        train.set_state(state)
        with pytest.raises(ValueError, match="`state` does not belong") as raised:
            train.set_state({**state, "shuffle_seed": 9})
        assert str(raised.value) == (
            "`state` does not belong to this iteration: `shuffle_seed` is 9 there and 8 here"
        )
        assert_same(next(train), expected)
        train.close()


def test_orbax_keeps_a_state_beside_the_parameters(tmp_path: Path) -> None:
    """Saved while an iteration runs in a worker, restored into another without any.

    In a process of its own, because Orbax leaves threads behind.
    """
    code, out, err = scripts.run(
        tmp_path,
        """
        from pathlib import Path

        import jax
        import orbax.checkpoint as ocp
        from fifteen_data_devices import prefetching_map
        from fifteen_data_loaders import DataLoader, cycled_minibatches

        params = {"w": jax.numpy.ones(3)}
        dataset = list(range(23))
        ways = {
            "json": (ocp.args.JsonSave, ocp.args.JsonRestore),
            "standard": (ocp.args.StandardSave, ocp.args.StandardRestore),
        }

        def kept(state, name, save, restore):
            saved = ocp.args.Composite(params=ocp.args.StandardSave(params), data=save(state))
            wanted = ocp.args.Composite(params=ocp.args.StandardRestore(), data=restore())
            with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as orbax:
                orbax.save(Path(name).absolute(), args=saved)
                restored = orbax.restore(Path(name).absolute(), args=wanted)
            assert (restored.params["w"] == params["w"]).all()
            return restored.data

        with DataLoader(dataset, 4, num_workers=1) as loader:
            for shuffle_seed in (None, 2**63 - 1):
                train = prefetching_map(cycled_minibatches(loader, shuffle_seed))
                for step in range(7):
                    state = train.get_state()
                    minibatch = next(train)
                    for way in ways if step in (0, 6) else ():
                        restored = kept(state, f"{way} {shuffle_seed} {step}", *ways[way])
                        assert restored == state, (restored, state)
                        other = cycled_minibatches(DataLoader(dataset, 4), shuffle_seed)
                        other.set_state(restored)
                        assert (next(other) == minibatch).all()
                train.close()
        print("all kept")
        """,
        cwd=tmp_path,
    )
    assert (code, out) == (0, "all kept\n"), err
