"""Train a small classifier of handwritten digits: worker processes, four devices, plain JAX.

With ``--checkpoint FILE`` it can be killed at any moment: started again, it goes on from the file,
with any number of workers, and ends with the same parameters, bit for bit.
"""

import argparse
import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from fifteen.data import (
    DataLoader,
    InMemoryDataLoader,
    cycled_minibatches,
    prefetching_map,
    sample_rng,
    sharding_map,
)
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from tqdm import tqdm

Params = dict[str, jax.Array]
Sample = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class AugmentedDigits:
    """Digits that move sideways by up to one pixel, differently in every epoch."""

    images: NDArray[np.float32]
    labels: NDArray[np.int32]

    def __getitem__(self, index: int) -> Sample:
        # The same for any number of workers: it depends on the seed and the index alone.
        shift = sample_rng().integers(-1, 2)
        image = np.roll(self.images[index], shift, axis=1)
        return {"image": image, "label": self.labels[index]}

    def __len__(self) -> int:
        return len(self.images)


def load_train_and_test() -> tuple[AugmentedDigits, Sample]:
    pixels, targets = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(pixels))
    images = (pixels[order] / 16).reshape(-1, 8, 8).astype(np.float32)
    labels = targets[order].astype(np.int32)
    train_count = len(order) * 4 // 5
    train = AugmentedDigits(images[:train_count], labels[:train_count])
    return train, {"image": images[train_count:], "label": labels[train_count:]}


def init_params(key: jax.Array, hidden_units: int = 128) -> Params:
    key_1, key_2 = jax.random.split(key)
    return {
        "weights_1": jax.random.normal(key_1, (64, hidden_units)) / 8,
        "biases_1": jnp.zeros(hidden_units),
        "weights_2": jax.random.normal(key_2, (hidden_units, 10)) / hidden_units**0.5,
        "biases_2": jnp.zeros(10),
    }


def logits(params: Params, images: jax.Array) -> jax.Array:
    """Shapes `(..., 8, 8)` to `(..., 10)`: whatever comes before an image is kept."""
    pixels = images.reshape(*images.shape[:-2], 64)
    hidden = jax.nn.relu(pixels @ params["weights_1"] + params["biases_1"])
    return hidden @ params["weights_2"] + params["biases_2"]


def loss(params: Params, minibatch: dict[str, jax.Array]) -> jax.Array:
    scores = jax.nn.log_softmax(logits(params, minibatch["image"]))
    return -jnp.take_along_axis(scores, minibatch["label"][..., None], axis=-1).mean()


# Leaves arrive as `(device_count, N // device_count, ...)`, a row on each device. XLA computes each
# row where it lives and joins the gradients; nothing here needs to know of devices.
@jax.jit
def train_step(
    params: Params, velocity: Params, minibatch: dict[str, jax.Array]
) -> tuple[Params, Params]:
    gradient = jax.grad(loss)(params, minibatch)
    velocity = jax.tree.map(lambda v, g: 0.9 * v - 0.1 * g, velocity, gradient)
    return jax.tree.map(jnp.add, params, velocity), velocity


@jax.jit
def count_correct(params: Params, minibatch: dict[str, jax.Array]) -> jax.Array:
    return (logits(params, minibatch["image"]).argmax(-1) == minibatch["label"]).sum()


def save(path: Path, training: tuple[Params, Params], state: dict[str, Any]) -> None:
    # Under another name until it is complete, so that there is a whole checkpoint at any moment.
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        np.savez(file, *jax.tree.leaves(training), state=json.dumps(state))
    unfinished.replace(path)


def restore(
    path: Path, training: tuple[Params, Params]
) -> tuple[tuple[Params, Params], dict[str, Any]]:
    leaves, structure = jax.tree.flatten(training)
    with np.load(path) as saved:
        leaves = [saved[f"arr_{i}"] for i in range(len(leaves))]
        return jax.tree.unflatten(structure, leaves), json.loads(saved["state"].item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--minibatch-size", type=int, default=128)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=4, help="virtual CPU devices")
    parser.add_argument("--checkpoint", type=Path, help="file to go on from, if it exists")
    parser.add_argument("--checkpoint-every", type=int, default=100, metavar="STEPS")
    args = parser.parse_args()

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", args.devices)

    train, test = load_train_and_test()
    params = init_params(jax.random.key(0))
    velocity = jax.tree.map(jnp.zeros_like, params)
    with (
        DataLoader(train, args.minibatch_size, num_workers=args.num_workers) as loader,
        closing(
            prefetching_map(sharding_map(cycled_minibatches(loader, shuffle_seed=0), jax.devices()))
        ) as minibatches,
    ):
        if args.checkpoint and args.checkpoint.exists():
            (params, velocity), state = restore(args.checkpoint, (params, velocity))
            minibatches.set_state(state)
        steps = range(minibatches.get_state()["step"] + 1, args.steps + 1)
        progress = tqdm(steps, initial=steps.start - 1, total=args.steps, unit="step")
        for step, minibatch in zip(progress, minibatches, strict=False):
            params, velocity = train_step(params, velocity, minibatch)
            if args.checkpoint and (step % args.checkpoint_every == 0 or step == args.steps):
                save(args.checkpoint, (params, velocity), minibatches.get_state())
        jax.block_until_ready(params)
        spent = minibatches.statistics()

    test_loader = InMemoryDataLoader(test, args.minibatch_size, drop_last=False)
    correct = sum(
        int(count_correct(params, minibatch)) for minibatch in test_loader.minibatches(None)
    )
    print(f"Waited for data: {spent.waiting_fraction:.1%} of {spent.elapsed_seconds:.1f} s")
    print(f"Test accuracy: {correct / len(test['label']):.1%} of {len(test['label'])} digits")


if __name__ == "__main__":
    main()
