"""Slots of the arena: nobody's memory is lent to another, and what is spare goes back."""

import mmap
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from fifteen_data_loaders._engines._workers import _arena
from fifteen_data_loaders._engines._workers._arena import Arena, Slot


@pytest.fixture
def arena(no_leftovers: None) -> Iterator[Arena]:
    fd = os.memfd_create("arena")
    arena = Arena(fd)
    yield arena
    arena.close()
    os.close(fd)


def _place(slot: Slot) -> tuple[int, int]:
    return slot.extent.chunk, slot.extent.start


def test_slots_that_are_held_have_nothing_in_common(arena: Arena) -> None:
    """However many: chunks grow with what is held, so that there are few of them."""
    held = [arena.lend(100_000) for _ in range(400)]
    for number, slot in enumerate(held):
        assert slot.memory.ctypes.data % mmap.PAGESIZE == 0
        assert len(slot.memory) == slot.extent.nbytes >= 100_000
        slot.memory[:] = number % 256
    for number, slot in enumerate(held):
        assert (slot.memory == number % 256).all()
    assert len({slot.extent.chunk for slot in held}) <= 3


def test_a_slot_is_lent_again_when_the_last_view_is_gone(arena: Arena) -> None:
    slot = arena.lend(5000)
    place, view = _place(slot), slot.memory[10:].reshape(-1, 2)[::2]
    del slot
    other = arena.lend(5000)
    assert _place(other) != place
    del view
    assert _place(arena.lend(5000)) == place


def test_the_slot_that_came_back_last_is_lent_first(arena: Arena) -> None:
    """Its pages are the most likely to be in the cache."""
    first, second = arena.lend(5000), arena.lend(5000)
    places = _place(first), _place(second)
    del first
    del second
    assert _place(arena.lend(5000)) == places[1]


def test_sizes_that_vary_a_little_share_slots(arena: Arena) -> None:
    slot = arena.lend(1_000_000)
    place = _place(slot)
    del slot
    assert _place(arena.lend(990_000)) == place


def test_surplus_pages_go_back_and_their_slots_can_be_lent_again(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arena, "_SPARE_NBYTES", 1)
    monkeypatch.setattr(_arena, "_SPARES_AT_LEAST", 1)
    held = [arena.lend(8192) for _ in range(4)]
    places = {_place(slot) for slot in held}
    for slot in held:
        slot.memory[:] = 255
    resident = os.fstat(arena.fd).st_blocks
    del slot, held
    again = [arena.lend(8192) for _ in range(4)]
    assert {_place(slot) for slot in again} == places
    assert os.fstat(arena.fd).st_blocks < resident
    assert sum(int(slot.memory.any()) for slot in again) <= 1


def test_what_outlives_the_arena_stays_as_it_is(no_leftovers: None) -> None:
    fd = os.memfd_create("arena")
    arena = Arena(fd)
    slot: Any = arena.lend(5000)
    array = np.ndarray((100,), np.int64, slot.memory)
    array[:] = 7
    del slot
    arena.close()
    os.close(fd)
    assert array.sum() == 700
