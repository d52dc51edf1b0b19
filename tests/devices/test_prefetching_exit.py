"""What becomes of the thread when the interpreter ends, tried in interpreters of their own."""

import signal
import subprocess
import sys
import textwrap
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.usefixtures("no_leftovers")

# The arrays are unaligned, so that transferring one takes a copy.
_PREAMBLE = """
import itertools, sys, threading
import numpy as np
from fifteen_data_devices import prefetching_map

def arrays(size=1 << 20):
    for i in itertools.count():
        yield np.full(size + 1, i, np.float32)[1:]
"""


@dataclass(frozen=True)
class Ended:
    returncode: int
    out: str
    err: str


def run(program: str, *, interrupt_when: str | None = None) -> Ended:
    code = textwrap.dedent(_PREAMBLE) + textwrap.dedent(program)
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            said = ""
            if interrupt_when is not None:
                assert process.stdout is not None
                while interrupt_when not in said:
                    said += process.stdout.readline()
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return Ended(process.returncode, said + out, err)


@pytest.mark.parametrize("transfer", ["None", "jax.devices()[0]"])
def test_a_thread_that_waits_for_room_ends_in_silence(transfer: str) -> None:
    ended = run(
        f"""
        import jax
        train = prefetching_map(arrays(), {transfer})
        next(train)
        print("end")
        """
    )
    assert ended == Ended(0, "end\n", "")


def test_a_thread_in_the_middle_of_a_transfer_ends_in_silence() -> None:
    ended = run(
        """
        import jax
        # Small arrays, so that the thread hardly ever does anything but enter and leave JAX.
        minibatch = {i: np.ones(2) for i in range(100)}
        train = prefetching_map(itertools.repeat(minibatch), jax.devices()[0], buffer_size=10**6)
        next(train)
        print("end")
        """
    )
    assert ended == Ended(0, "end\n", "")


def test_a_thread_whose_input_transfers_ends_in_silence() -> None:
    """The input imports jax on the thread, after our exit function was registered."""
    ended = run(
        """
        started = threading.Event()

        def inputs():
            import jax
            for array in arrays():
                yield jax.device_put(array, jax.devices()[0]).block_until_ready()
                started.set()

        train = prefetching_map(inputs(), buffer_size=1000)
        next(train)
        started.wait()
        print("end")
        """
    )
    assert ended == Ended(0, "end\n", "")


def test_an_input_that_waits_forever_does_not_hold_up_the_exit() -> None:
    ended = run(
        """
        import fifteen_data_protocols._threads_at_exit as threads_at_exit
        threads_at_exit._EXIT_SECONDS = 0.2
        waiting = threading.Event()

        def inputs():
            yield 0
            waiting.set()
            threading.Event().wait()

        train = prefetching_map(inputs())
        next(train)
        waiting.wait()
        print("end")
        """
    )
    assert ended == Ended(0, "end\n", "")


def test_the_exit_waits_for_an_input_that_is_at_work() -> None:
    ended = run(
        """
        import atexit, jax
        ending, waiting = threading.Event(), threading.Event()
        atexit.register(print, "after the thread")

        def inputs():
            yield 0
            # Exit functions run last in, first out: this one comes before ours.
            atexit.register(ending.set)
            waiting.set()
            ending.wait()
            for array in itertools.islice(arrays(), 20):
                jax.device_put(array, jax.devices()[0]).block_until_ready()
            print("loaded")
            yield 1

        train = prefetching_map(inputs())
        next(train)
        waiting.wait()
        print("end")
        """
    )
    assert ended == Ended(0, "end\nloaded\nafter the thread\n", "")


def test_an_error_of_the_program_is_all_that_is_seen() -> None:
    ended = run(
        """
        import jax
        for minibatch in prefetching_map(arrays(), jax.devices()[0], buffer_size=100):
            sys.tracebacklimit = 0
            raise LookupError("of the program")
        """
    )
    assert (ended.returncode, ended.out) == (1, "")
    assert ended.err.splitlines()[-1] == "LookupError: of the program"
    assert "Exception ignored" not in ended.err


def test_sys_exit_in_the_loop_ends_in_silence() -> None:
    ended = run(
        """
        import jax
        for minibatch in prefetching_map(arrays(), jax.devices()[0], buffer_size=100):
            sys.exit(3)
        """
    )
    assert ended == Ended(3, "", "")


def test_ctrl_c_while_waiting_gives_one_traceback() -> None:
    ended = run(
        """
        import fifteen_data_devices._loading_thread as loading_thread
        import fifteen_data_protocols._threads_at_exit as threads_at_exit
        threads_at_exit._EXIT_SECONDS = loading_thread._DROP_SECONDS = 0.2

        def inputs():
            yield 0
            print("waiting", flush=True)
            threading.Event().wait()

        train = prefetching_map(inputs())
        next(train)
        next(train)
        """,
        interrupt_when="waiting",
    )
    assert ended.returncode == -signal.SIGINT
    assert ended.err.count("Traceback") == 1
    assert ended.err.splitlines()[-1] == "KeyboardInterrupt"


def test_a_thread_of_the_program_is_served_until_its_end() -> None:
    ended = run(
        """
        train = prefetching_map(iter(range(1000)))
        main_has_ended = threading.main_thread().join

        def consume():
            first = next(train)
            main_has_ended()
            print(first + sum(train))

        threading.Thread(target=consume).start()
        """
    )
    assert ended == Ended(0, f"{sum(range(1000))}\n", "")
