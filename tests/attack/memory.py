"""An allocation that fails, each of every kind of call in turn, and what that leaves behind.

Those of arrays, in C: NumPy lets its allocator be replaced. (Failures of Python's own small objects, by
``_testcapi.set_nomemory``, crash NumPy itself.)
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import mmap
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from numba import carray, cfunc, types

import fastbp.engine.memory
from tests.attack import _apart, _scenes


def run(seconds: float, seed: int) -> dict[str, int]:
    """Allocations in an order of chance, until all have failed once, or the time is over."""
    return _apart.run("tests.attack.memory", seconds, seed)


def child(seconds: float, seed: int) -> None:
    """`run`, in a process of its own."""
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    fastbp.engine.tuning.HUGE = 1 << 10  # so that even small buffers come from the system
    plans = {name: _scenes.Plan(name) for name in _scenes.SCENES}
    memory = Memory()
    numbers = {name: [str(number) for number in range(allocations_of(plan, memory))] for name, plan in plans.items()}
    counts = {"failures": 0, "allocations of calls": sum(map(len, numbers.values()))}
    for name, number in _apart.in_turn(numbers, rng):
        if time.monotonic() > end:
            break
        _apart.at(f"{name!r}, allocation {number}")
        counts["failures"] += fail(plans[name], number, memory, rng)
    print(json.dumps(counts))


def allocations_of(plan: _scenes.Plan, memory: Memory) -> int:
    """How often the call of a scene asks for memory."""
    net = plan.scene.make()
    with memory.failing(-1):
        plan.play(net)
    return memory.asked


def fail(plan: _scenes.Plan, number: int, memory: Memory, rng: np.random.Generator) -> bool:
    """Let one allocation fail; has it been asked for? (Where chunks of steps end depends on the clock.)"""
    try:
        plan.attack(memory.failing(number), rng)
    except Exception as error:
        raise AssertionError(f"{plan.name}, after the failure of allocation {number}: {error!r}") from error
    return memory.asked > number


# --- the allocator


class Memory:
    """NumPy's allocator, and the system's for large buffers: their calls are counted, and one of them can fail."""

    def __init__(self) -> None:
        self.counts = np.array([0, -1])  # calls so far, and the one that fails
        self._handler = _Handler(b"failing", 1, self.counts.ctypes.data, *(one.address for one in _FUNCTIONS))
        api = np._core._multiarray_umath._ARRAY_API  # type: ignore[attr-defined]
        get, new = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        table = ctypes.cast(get(api, None), ctypes.POINTER(ctypes.c_void_p))
        # PyDataMem_SetHandler, by its place in NumPy's table of functions, which is part of the ABI.
        self._set: Any = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])  # type: ignore[arg-type]
        self._capsule = new(ctypes.addressof(self._handler), b"mem_handler", None)

    @property
    def asked(self) -> int:
        """Allocations since `failing` was entered."""
        return int(self.counts[0])

    @contextlib.contextmanager
    def failing(self, number: int) -> Any:
        """Let this allocation of the block fail; -1: none."""
        self.counts[:] = 0, number
        before = self._set(self._capsule)
        fastbp.engine.memory.mmap = SimpleNamespace(**{**vars(mmap), "mmap": self._map})  # type: ignore[assignment]
        try:
            yield
        finally:
            fastbp.engine.memory.mmap = mmap
            self._set(before)

    def _map(self, *arguments: Any) -> mmap.mmap:
        self.counts[0] += 1
        if self.counts[0] - 1 == self.counts[1]:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return mmap.mmap(*arguments)


class _Handler(ctypes.Structure):
    """PyDataMem_Handler of NumPy's C API."""

    _fields_ = (
        ("name", ctypes.c_char * 127), ("version", ctypes.c_uint8), ("context", ctypes.c_void_p),
        *((name, ctypes.c_void_p) for name in ("malloc", "calloc", "realloc", "free")),
    )  # fmt: skip


def _libc(name: str, n: int, result: Any = ctypes.c_size_t) -> Any:
    found = getattr(ctypes.CDLL(None), name)
    found.restype, found.argtypes = result, [ctypes.c_size_t] * n
    return found


_malloc, _calloc, _realloc, _free = _libc("malloc", 1), _libc("calloc", 2), _libc("realloc", 2), _libc("free", 1, None)
_COUNTS, _SIZE = types.CPointer(types.int64), types.uintp


@cfunc(_SIZE(_COUNTS, _SIZE))
def _failing_malloc(context, size):  # type: ignore[no-untyped-def]
    counts = carray(context, 2)
    counts[0] += 1
    return 0 if counts[0] - 1 == counts[1] else _malloc(size)


@cfunc(_SIZE(_COUNTS, _SIZE, _SIZE))
def _failing_calloc(context, n, size):  # type: ignore[no-untyped-def]
    counts = carray(context, 2)
    counts[0] += 1
    return 0 if counts[0] - 1 == counts[1] else _calloc(n, size)


@cfunc(_SIZE(_COUNTS, _SIZE, _SIZE))
def _failing_realloc(context, place, size):  # type: ignore[no-untyped-def]
    counts = carray(context, 2)
    counts[0] += 1
    return 0 if counts[0] - 1 == counts[1] else _realloc(place, size)


@cfunc(types.void(_COUNTS, _SIZE, _SIZE))
def _plain_free(context, place, size):  # type: ignore[no-untyped-def]
    _free(place)


_FUNCTIONS = _failing_malloc, _failing_calloc, _failing_realloc, _plain_free
