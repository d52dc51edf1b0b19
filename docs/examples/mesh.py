"""Train the classifier of `digits.py` on a mesh of 4 x 2 virtual devices: data times model."""

from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
from digits import AugmentedDigits, Params, init_params, logits, train_step
from fifteen.data import (
    DataLoader,
    InMemoryDataLoader,
    cycled_minibatches,
    padding_map,
    prefetching_map,
    process_shard,
    sharding_map,
)
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits

MINIBATCH_SIZE = 128


@jax.jit
def count_correct(
    params: Params, minibatch: dict[str, jax.Array], mask: jax.Array
) -> tuple[jax.Array, jax.Array]:
    correct = logits(params, minibatch["image"]).argmax(-1) == minibatch["label"]
    return (correct & mask).sum(), mask.sum()


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)

    pixels, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order] / 16).reshape(-1, 8, 8).astype(np.float32)
    labels = targets[order].astype(np.int32)
    train_count = len(order) * 4 // 5

    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
    # Every row of a minibatch lies on two devices, and each of them has half of the hidden units.
    rows = NamedSharding(mesh, P("data"))
    shardings = {
        "weights_1": NamedSharding(mesh, P(None, "model")),
        "biases_1": NamedSharding(mesh, P("model")),
        "weights_2": NamedSharding(mesh, P("model", None)),
        "biases_2": NamedSharding(mesh, P()),
    }
    params = jax.device_put(init_params(jax.random.key(0)), shardings)
    velocity = jax.tree.map(jnp.zeros_like, params)
    with (
        DataLoader(
            AugmentedDigits(images[:train_count], labels[:train_count]),
            MINIBATCH_SIZE,
            **process_shard(rows),
        ) as loader,
        closing(
            prefetching_map(sharding_map(cycled_minibatches(loader, shuffle_seed=0), rows))
        ) as minibatches,
    ):
        for _, minibatch in zip(range(1000), minibatches, strict=False):
            params, velocity = train_step(params, velocity, minibatch)

    test = InMemoryDataLoader(
        {"image": images[train_count:], "label": labels[train_count:]},
        MINIBATCH_SIZE,
        drop_last=False,
        **process_shard(rows),
    )
    correct = counted = 0
    for minibatch, mask in sharding_map(padding_map(test.minibatches(shuffle_seed=None)), rows):
        correct_here, counted_here = count_correct(params, minibatch, mask)
        correct += int(correct_here)
        counted += int(counted_here)
    print(f"Test accuracy: {correct / counted:.1%} of {counted} digits")


if __name__ == "__main__":
    main()
