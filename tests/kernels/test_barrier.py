"""The barrier's protocol: a model of it explored exhaustively, and the kernel itself under delays of chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

BARRIERS = 4


class Thread(NamedTuple):
    """A thread of the model: what it does next, at which barrier, with which vote; and where it has left, or -1."""

    does: str = "read"
    barrier: int = 0
    vote: bool = False
    left: int = -1


class Shared(NamedTuple):
    """The memory of the model."""

    word: int = 0
    status: bool = False
    wish: bool = False  # from outside, at any time


Step = Callable[[Thread, Shared, int], Iterator[tuple[Thread, Shared]]]


def on(thread: Thread, leave: bool) -> Thread:
    """A thread that has passed a barrier: it leaves, or goes on to the next one."""
    if leave or thread.barrier + 1 == BARRIERS:
        return Thread("done", left=thread.barrier if leave else BARRIERS)
    return Thread("read", thread.barrier + 1)


def step(thread: Thread, shared: Shared, n: int) -> Iterator[tuple[Thread, Shared]]:
    """What `kernels/team.py` does, one access to shared memory at a time; nothing where it can only wait."""
    votes = 48 if thread.barrier % 2 else 32
    if thread.does == "read":
        yield thread._replace(does="arrive", vote=shared.wish), shared
        yield thread._replace(does="arrive", vote=True), shared  # for a reason of its own
    elif thread.does == "arrive":
        word = shared.word + 1 + (thread.vote << votes)
        yield thread._replace(does="wait"), shared._replace(word=word)
    elif shared.word & 0xFFFFFFFF >= n * (thread.barrier + 1):
        yield on(thread, bool(shared.word >> votes & 0x7FFF)), shared


def one_counter(thread: Thread, shared: Shared, n: int) -> Iterator[tuple[Thread, Shared]]:
    """The same with a single counter of votes for all barriers."""
    if thread.does == "wait":
        if shared.word & 0xFFFFFFFF >= n * (thread.barrier + 1):
            yield on(thread, bool(shared.word >> 32)), shared
    else:
        for after, memory in step(thread._replace(barrier=0), shared, n):
            yield after._replace(barrier=thread.barrier), memory


def own_look(thread: Thread, shared: Shared, n: int) -> Iterator[tuple[Thread, Shared]]:
    """What there was once: after a barrier, each thread reads a status that others may have set since."""
    if thread.does == "read":
        yield thread._replace(does="arrive"), shared._replace(status=shared.status or shared.wish)
        yield thread._replace(does="arrive"), shared._replace(status=True)
    elif thread.does == "arrive":
        yield thread._replace(does="wait"), shared._replace(word=shared.word + 1)
    elif thread.does == "wait" and shared.word >= n * (thread.barrier + 1):
        yield thread._replace(does="look"), shared
    elif thread.does == "look":
        yield on(thread, shared.status), shared


def explore(step: Step, n: int) -> tuple[int, int, set[frozenset[int]]]:
    """(states, states in which threads wait for ever, where threads have left) over all orders and votes."""
    State = tuple[tuple[Thread, ...], Shared]
    start: State = (Thread(),) * n, Shared()
    seen, stack, stuck, ends = {start}, [start], 0, set()
    while stack:
        threads, shared = stack.pop()
        found: list[State] = [] if shared.wish else [(threads, shared._replace(wish=True))]
        moved = False
        for number, thread in enumerate(threads):
            if thread.does != "done":
                for after, memory in step(thread, shared, n):
                    moved = True
                    # Threads are alike: their order does not matter.
                    found.append((tuple(sorted([*threads[:number], after, *threads[number + 1 :]])), memory))
        if all(thread.does == "done" for thread in threads):
            ends.add(frozenset(thread.left for thread in threads))
        else:
            stuck += not moved
        for state in found:
            if state not in seen:
                seen.add(state)
                stack.append(state)
    return len(seen), stuck, ends


@pytest.mark.parametrize("n", [2, 3, 4])
def test_threads_leave_together_in_every_order(n: int) -> None:
    states, stuck, ends = explore(step, n)
    assert stuck == 0
    assert ends == {frozenset([barrier]) for barrier in range(BARRIERS + 1)}
    assert states > 100  # it is no model of nothing


@pytest.mark.parametrize("wrong", [one_counter, own_look])
def test_the_model_sees_what_is_wrong(wrong: Step) -> None:
    _, stuck, _ = explore(wrong, 2)
    assert stuck > 0
