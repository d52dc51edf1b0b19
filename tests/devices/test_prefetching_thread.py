import contextvars
import gc
import signal
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any, cast

import jax
import numpy as np
import pytest
from fifteen_data_devices import prefetching_map
from jax.sharding import Mesh

from tests.devices.stand_ins import WAIT_SECONDS, Counter, Minibatches

pytestmark = pytest.mark.usefixtures("no_leftovers")

BUFFER_SIZES = [1, 2, 5]


class Token:
    """Something that can be referred to weakly."""


class Blocked:
    """An iterator whose second ``next()`` waits until it is let go."""

    def __init__(self) -> None:
        self.started = False
        self.waiting = threading.Event()
        self.let_go = threading.Event()
        self.closed = threading.Event()

    def __iter__(self) -> "Blocked":
        return self

    def __next__(self) -> int:
        if self.started:
            self.waiting.set()
            assert self.let_go.wait(WAIT_SECONDS)
        self.started = True
        return 0

    def close(self) -> None:
        self.closed.set()


def prefetching_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "prefetching" in thread.name]


@pytest.mark.parametrize("buffer_size", [2, 3, 6])
def test_one_fewer_than_the_buffer_size_is_read_ahead(buffer_size: int) -> None:
    asked = 0
    surplus = list[int]()

    class Watched(Counter):
        def __next__(self) -> int:
            if self.step + 1 > asked + buffer_size - 1:
                surplus.append(self.step)
            return super().__next__()

    inputs = Watched()
    train = prefetching_map(inputs, buffer_size=buffer_size)
    for _ in range(20):
        asked += 1
        next(train)
        inputs.wait_for(asked + buffer_size - 1)
    assert surplus == []


@pytest.mark.parametrize("buffer_size", [2, 4])
def test_as_many_minibatches_live_as_the_buffer_size_says(buffer_size: int) -> None:
    alive = weakref.WeakSet[Token]()
    made = Counter()

    def tokens() -> Iterator[Token]:
        for _ in made:
            alive.add(token := Token())
            yield token
            # The generator's own reference would be one more.
            del token

    train = prefetching_map(tokens(), buffer_size=buffer_size)
    for step, minibatch in enumerate(train, start=1):
        made.wait_for(step + buffer_size - 1)
        assert minibatch in alive
        assert len(alive) <= buffer_size
        if step == 20:
            break


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
@pytest.mark.parametrize("target", ["device", "mesh"])
def test_as_many_arrays_live_on_the_devices_as_the_buffer_size_says(
    buffer_size: int, target: str
) -> None:
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",))
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    shape = (2, 3, 5, 7)
    made = Counter()
    inputs = (np.full(shape, number, np.float32) for number in made)
    counts = list[int]()
    train = prefetching_map(inputs, jax.devices()[1] if target == "device" else placed, buffer_size)
    for step, _ in enumerate(train, start=1):
        made.wait_for(step + buffer_size - 1)
        counts.append(sum(array.shape == shape for array in jax.live_arrays()))
        if step == 40:
            break
    assert max(counts) <= buffer_size
    train.close()
    assert sum(array.shape == shape for array in jax.live_arrays()) == 1


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_minibatches_that_the_caller_keeps_never_block(buffer_size: int) -> None:
    kept = list(prefetching_map((Token() for _ in range(50)), buffer_size=buffer_size))
    assert len(set(kept)) == 50


def test_nothing_is_taken_before_the_first_next() -> None:
    inputs = Counter()
    train = prefetching_map(inputs)
    iter(train)
    assert (inputs.step, prefetching_threads()) == (0, [])
    assert next(train) == 0
    assert len(prefetching_threads()) == 1


class Failing(Counter):
    def __next__(self) -> int:
        number = super().__next__()
        if number % 3 == 2:
            raise_from_the_input(number)
        return number


def raise_from_the_input(number: int) -> None:
    raise LookupError(number)


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_an_error_comes_in_its_place_and_the_input_can_go_on(buffer_size: int) -> None:
    train = prefetching_map(Failing(9), buffer_size=buffer_size)
    received = list[object]()
    for _ in range(9):
        try:
            received.append(next(train))
        except LookupError as error:
            received.append(error.args)
            frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
            assert frames[-1] == "raise_from_the_input"
    assert received == [0, 1, (2,), 3, 4, (5,), 6, 7, (8,)]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(train)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_error_that_is_no_exception_arrives_too(kind: type[BaseException]) -> None:
    def inputs() -> Iterator[int]:
        yield 0
        raise kind

    train = prefetching_map(inputs())
    assert next(train) == 0
    with pytest.raises(kind):
        next(train)


def test_an_error_in_the_transfer_comes_in_its_place() -> None:
    inputs: list[Any] = [1, "two", 3]
    train = prefetching_map(inputs, jax.devices()[0], buffer_size=3)
    iterator = iter(train)
    assert int(next(iterator)) == 1
    with pytest.raises(TypeError, match=r"^`minibatch` cannot be put on a device"):
        next(iterator)
    assert int(next(iterator)) == 3


def test_after_an_error_the_map_is_freed_without_the_garbage_collector() -> None:
    gc.disable()
    try:
        train = prefetching_map(Failing(3))
        gone = weakref.ref(train)
        with pytest.raises(LookupError):
            list(train)
        del train
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("repetition", range(5))
def test_ctrl_c_in_next_leaves_the_map_usable(repetition: int) -> None:
    main = cast(int, threading.main_thread().ident)
    assert main is not None
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    class Interrupting(Counter):
        def __next__(self) -> int:
            # A signal just before a thread waits for a lock is only seen with the next one.
            while self.step == 2 and not interrupted.wait(0.05):
                signal.pthread_kill(main, signal.SIGINT)
            return super().__next__()

    train = prefetching_map(Interrupting(6))
    received = [next(train), next(train)]
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(train)
    finally:
        signal.signal(signal.SIGINT, before)
    received += train
    assert received == [0, 1, 2, 3, 4, 5]


def test_the_jax_settings_of_the_loop_hold_on_the_thread() -> None:
    device = jax.devices()[3]
    inputs = ((read_settings(), jax.numpy.ones(2).devices()) for _ in range(2))
    with jax.default_device(device), jax.enable_x64(True), jax.numpy_rank_promotion("raise"):
        assert list(prefetching_map(inputs)) == [(("raise", True, device), {device})] * 2
        (placed,) = prefetching_map([np.array([2**40])], jax.devices()[0])
        assert placed.tolist() == [2**40]
    assert list(prefetching_map(read_settings() for _ in range(1))) == [("allow", False, None)]


def read_settings() -> tuple[Any, ...]:
    config: Any = jax.config
    return (config.jax_numpy_rank_promotion, config.jax_enable_x64, config.jax_default_device)


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
def test_the_mesh_of_the_loop_holds_on_the_thread(kind: jax.sharding.AxisType) -> None:
    mesh = Mesh(np.array(jax.devices()[:4]), ("data",), axis_types=(kind,))

    def inputs() -> Iterator[Any]:
        for _ in range(2):
            yield jax.sharding.get_mesh(), jax.sharding.get_abstract_mesh()

    with jax.set_mesh(mesh):
        assert list(prefetching_map(inputs())) == [(mesh, mesh.abstract_mesh)] * 2
    assert all(mesh.empty for mesh, _ in prefetching_map(inputs()))


def test_a_transfer_guard_holds_on_the_thread() -> None:
    with (
        jax.transfer_guard("disallow_explicit"),
        pytest.raises(Exception, match="Disallowed host-to-device transfer"),
    ):
        list(prefetching_map([np.ones(3)], jax.devices()[0]))


def test_the_contexts_are_those_around_iter_of_a_re_iterable() -> None:
    with jax.enable_x64(True):
        iterator = iter(prefetching_map([np.array([2**40])], jax.devices()[0]))
    assert next(iterator).tolist() == [2**40]


def test_the_contexts_are_those_around_the_first_next_of_an_iterator() -> None:
    train = prefetching_map(iter([np.array([2**40])]), jax.devices()[0])
    with jax.enable_x64(True):
        assert next(train).tolist() == [2**40]


def test_context_variables_of_the_loop_hold_on_the_thread() -> None:
    variable = contextvars.ContextVar("variable", default="outside")
    minibatches = prefetching_map(variable.get() for _ in range(2))
    variable.set("loop")
    assert list(minibatches) == ["loop", "loop"]


def test_the_thread_is_gone_with_the_map() -> None:
    train = prefetching_map(Counter())
    next(train)
    (thread,) = prefetching_threads()
    del train
    assert not thread.is_alive()


def test_the_thread_is_gone_after_break_and_after_the_end() -> None:
    for minibatch in prefetching_map(range(100), buffer_size=10):
        if minibatch == 3:
            break
    assert prefetching_threads() == []
    iterator = iter(prefetching_map(range(3)))
    assert list(iterator) == [0, 1, 2]
    assert prefetching_threads() == []


def test_the_thread_is_gone_after_an_error_in_the_loop() -> None:
    def loop() -> None:
        for minibatch in prefetching_map(range(100), buffer_size=10):
            raise LookupError(minibatch)

    with pytest.raises(LookupError):
        loop()
    assert prefetching_threads() == []


def test_a_map_in_a_cycle_is_collected() -> None:
    cycle: list[Any] = [prefetching_map(Counter())]
    cycle.append(cycle)
    next(cycle[0])
    (thread,) = prefetching_threads()
    del cycle
    gc.collect()
    assert not thread.is_alive()


def test_a_thread_that_is_loading_keeps_no_map_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fifteen_data_devices._loading_thread._DROP_SECONDS", 0.01)
    inputs = Blocked()
    train = prefetching_map(inputs)
    next(train)
    assert inputs.waiting.wait(WAIT_SECONDS)
    (thread,) = prefetching_threads()
    gone = weakref.ref(train)
    del train
    assert gone() is None
    inputs.let_go.set()
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    assert not inputs.closed.is_set()


def test_a_thread_that_outlives_its_map_closes_the_iterator_that_was_made_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fifteen_data_devices._loading_thread._DROP_SECONDS", 0.01)
    inputs = Blocked()

    class Made:
        def __iter__(self) -> Iterator[int]:
            return inputs

    for _ in prefetching_map(Made()):
        assert inputs.waiting.wait(WAIT_SECONDS)
        break
    assert not inputs.closed.is_set()
    inputs.let_go.set()
    assert inputs.closed.wait(WAIT_SECONDS)


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_an_iterator_that_the_map_made_is_closed_with_it(buffer_size: int) -> None:
    inputs = Minibatches(80, 4)
    for _ in prefetching_map(inputs, buffer_size=buffer_size):
        break
    assert list(prefetching_map(inputs, buffer_size=buffer_size))
    iter(prefetching_map(inputs, buffer_size=buffer_size))
    assert [run.closed for run in inputs.started] == [1, 1, 1]


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_an_iterator_of_somebody_else_is_closed_only_on_demand(buffer_size: int) -> None:
    inputs = Counter(10)
    for minibatch in prefetching_map(inputs, buffer_size=buffer_size):
        if minibatch == 1:
            break
    list(prefetching_map(inputs, buffer_size=buffer_size))
    assert inputs.closed == 0
    train = prefetching_map(prefetching_map(inputs, buffer_size=buffer_size))
    train.close()
    assert inputs.closed == 1


@pytest.mark.parametrize("buffer_size", BUFFER_SIZES)
def test_a_closed_map_says_so(buffer_size: int) -> None:
    train = prefetching_map(Counter(), buffer_size=buffer_size)
    next(train)
    train.close()
    train.close()
    assert prefetching_threads() == []
    for method in (train.__next__, lambda: train.set_state({"step": 0})):
        with pytest.raises(RuntimeError) as raised:
            method()
        assert str(raised.value) == (
            "this iteration over minibatches was closed and cannot go on; start another"
        )


def test_an_input_that_is_slow_to_close_does_not_hold_up_the_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fifteen_data_devices._loading_thread._DROP_SECONDS", 0.01)
    closing, go_on = threading.Event(), threading.Event()

    class Slow:
        def __iter__(self) -> Iterator[int]:
            try:
                yield from range(10)
            finally:
                closing.set()
                assert go_on.wait(WAIT_SECONDS)

    for _ in prefetching_map(Slow()):
        break
    assert closing.wait(WAIT_SECONDS)
    (thread,) = prefetching_threads()
    go_on.set()
    thread.join(WAIT_SECONDS)
