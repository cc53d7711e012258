"""The engine of one network: calls of the compiled entry on its parameters, moments and buffers."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastbp import arrays
from fastbp.engine import costs, memory, team, threads, topology, tuning, watchdog
from fastbp.engine.bindings import AT
from fastbp.engine.chooser import Chooser
from fastbp.engine.layout import Layout
from fastbp.engine.memory import address
from fastbp.engine.placement import ALONE, Placement, forced
from fastbp.engine.precisions import FLOAT32, kernel_dtype
from fastbp.engine.stages import Stages, room_for_inputs
from fastbp.kernels import clock, records
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB, LAYER
from fastbp.kernels.run import run as run_kernel
from fastbp.kernels.team import MAX_THREADS
from fastbp.losses import Loss
from fastbp.numerics import quiet
from fastbp.optimizers import Optimizer
from fastbp.types import Array

_MODE, _MODE_START = struct.Struct("=9q"), JOB.fields["mode"][1]  # type: ignore[index]
_MODE_FIELDS = (
    "mode", "n_layers", "n_threads", "noisy", "input_deltas", "snapshot_steps", "snapshot_epochs", "columns", "parts",
)  # fmt: skip
assert JOB.names[:9] == _MODE_FIELDS  # type: ignore[index]
_TRANSPOSED = LAYER.fields["transposed"][1] // 8  # type: ignore[index]
assert threads.MOST <= MAX_THREADS


class Engine(Stages):
    """Calls the compiled code on what the job says, alone or by a team of threads. A caller holds the lock."""

    def __init__(self, layout: Layout, loss: Loss) -> None:
        super().__init__(layout, loss)
        self._choosers: dict[tuple[Any, ...], Chooser] = {}
        self._watch: Array | None = None
        self._broken: str | None = None  # why no call is possible any more

    # --- calls ----------------------------------------------------------------------------------------------

    def call(
        self, mode: int, placement: Placement, *, detached: bool = False, noisy: bool = True,
        input_deltas: Array | None = None, parameters: Array | None = None, fresh: bool = False,
        snapshots: tuple[int, int] = (0, 1), precision: str = FLOAT32,
    ) -> int:  # fmt: skip
        """Run the compiled entry with some threads; returns its status.

        placement: by columns, if the call trains and there are areas for its parts. noisy: with the dropout and the
        input noise that the network has, if the call trains. input_deltas: room for dJ/dX. parameters: others than the
        network's own, which stay as they are. fresh: a kernel has written their transposed copy. snapshots: have the
        kernels do what `take_snapshot` does after every so many steps of an epoch (0: never), and at the end of so many
        epochs. precision: of the products, where a gradient is made; such calls in bfloat16 are by rows.
        """
        job, tag, sync = self.job, self._tag, self._sync
        n_threads, columns, parts = placement
        paired = precision != FLOAT32
        if mode != records.TRAIN or paired or not self.has_areas(parts):
            columns, parts = 0, 1
        assert 0 <= columns < len(self.layout.layers)
        assert n_threads % parts == 0
        self._current = None
        self._alone = n_threads == 1 and not detached and not paired
        self._refuse_if_broken()
        if self._kernel is None:
            self._kernel = entry(run_kernel, self.layout.dtype.name, self._end_if_asked)
        kernel = self._kernel
        if paired:
            kernel = entry(run_kernel, kernel_dtype(precision, self.layout.dtype.name), self._end_if_asked)
        layers = self.set_up(
            mode, n_threads, noisy=noisy, input_deltas=input_deltas, parameters=parameters, fresh=fresh,
            snapshots=snapshots, columns=columns, parts=parts, paired=paired,
        )  # fmt: skip
        sync[0] = sync[16] = sync[24] = 0
        if n_threads == 1 and not detached:
            kernel(job, layers, 0, tag)
        else:
            self.call_together(lambda thread: kernel(job, layers, thread, tag), n_threads, detached)
        if paired and parameters is None and sync[16] == records.RUNNING:
            self._pairs_of = self.mark()
        return sync[16]

    def set_up(
        self, mode: int, n_threads: int, *, noisy: bool = True, input_deltas: Array | None = None,
        parameters: Array | None = None, fresh: bool = False, snapshots: tuple[int, int] = (0, 1), columns: int = 0,
        parts: int = 1, paired: bool = False,
    ) -> Array:  # fmt: skip
        """Have the job say all that a call needs to know; returns the records of its layers."""
        assert self.buffers is not None
        layout, own = self.layout, parameters is None
        if parameters is not None:
            self._mirrored = parameters if fresh else None  # others may have been there
        parameters = self.parameters if parameters is None else parameters
        self._point(parameters)
        if paired:
            self.begin_pairs(mode, own=own, inputs=input_deltas is not None)
        elif mode not in (records.FORWARD, records.EVALUATE):
            self.mirror(parameters)
        noisy, wanted = noisy and layout.regularization.noisy, 0 if input_deltas is None else address(input_deltas)
        below = wanted or mode == records.UPDATE  # which is followed by a call that wants dJ/dX, as a rule
        self.buffers.words[_TRANSPOSED] = address(self.transposed) if below else 0  # 0: no delta goes below layer 0
        if snapshots[0]:
            self.point_snapshot()
        _MODE.pack_into(
            self._bytes, _MODE_START, mode, len(layout.layers), n_threads, noisy, wanted, *snapshots, columns, parts
        )
        return self.buffers.records

    def call_together(
        self, work: team.Work, n_threads: int, detached: bool, tell: Callable[[int], None] = lambda n_threads: None
    ) -> None:
        """Have a team do the work, watched if FASTBP_WATCHDOG says so; `tell` is told how many they are."""
        patience = watchdog.patience()

        def begin(threads: list[int]) -> None:
            job = self.job[0]
            job["n_threads"] = len(threads)  # fewer than asked for, where the system grants no more
            tell(len(threads))
            if len(threads) % int(job["parts"]):
                job["columns"], job["parts"] = 0, 1
            self._watch = watchdog.records(threads, patience)
            job["watch"] = 0 if self._watch is None else address(self._watch)

        def stop(word: int) -> None:
            self._sync[8] = word

        try:
            team.run(
                work, n_threads, detached=detached, begin=begin, stop=stop, patience=patience,
                places=topology.topology().places(n_threads, int(self.job[0]["parts"]), team.caller_cpu()),
            )  # fmt: skip
        except BaseException:
            self.clear_stop()
            raise
        finally:
            self.job[0]["watch"] = 0
            if self.status == records.STUCK and self._watch is not None and patience is not None:
                self._broken = watchdog.dump(self._watch, self.job[0], int(self._sync[0]), patience)
                self.forget_stages()  # calls that ask nothing
        self._refuse_if_broken()

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise RuntimeError(self._broken)

    def _end_if_asked(self, _done: int) -> None:
        """Within `team.interruptible`, Ctrl-C is a request to stop: nothing runs yet that could honour it later."""
        if self._sync[8]:
            self.clear_stop()
            raise KeyboardInterrupt

    def update(self, optimizer: Optimizer, gradient: Array) -> None:
        """Change the parameters by a gradient, in their layout."""
        self.need_gradient()[:] = gradient
        self.bind_rates(None, None)
        self.bind_optimizer(optimizer, self.steps)
        if self._prepared is None:  # what there is of scratch is enough, whatever it was made for
            self.prepare(1, 1, whole=False)
        self.count_steps()
        self.call(records.UPDATE, ALONE)
        self._input_mirror = self.mark()
        self.stage(records.UPDATE, None, None, optimizer=optimizer)

    @property
    def snapshot_step(self) -> int:
        """Steps of the last call after which kernels took a snapshot, or 0: they took none."""
        return self._words[AT["snapshot_step"]]

    @property
    def loss_columns(self) -> int:
        """Columns of the outputs that the loss of a row is a sum over; 1 if it is not."""
        return int(self.job[0]["loss_columns"])

    @quiet
    def bad_input(self, name: str = "X", *, in_order: bool = False, row: int | None = None) -> ValueError:
        """What to raise where the kernels met NaN or infinity, or a label that changed after it had been checked.

        in_order: all rows before the one that they tell have been gathered too, perhaps by other threads: seek the
        first that is bad. row: that somebody else has met, of the bound data; None: that of the last call.
        """
        X, y, scaling, dtype = *self._bound[:3], self.layout.dtype
        row = int(self.job[0]["bad_row"]) if row is None else row
        first = 0 if in_order else row
        found = arrays.first_not_finite(X[first : row + 1], dtype, scaling)
        if found is None and y is not None and y.ndim == 1:
            n_out = self.layout.sizes[-1]
            return ValueError(
                f"y[{row}] is {y[row]} now, but labels for {n_out} outputs run from 0 to {n_out - 1}: it has been "
                "changed since y was checked; leave y alone while the network reads it"
            )
        if found is None:  # too large for arithmetic in float32 by less than its rounding
            column = int(np.argmax(np.abs(X[row].astype(np.float64) - scaling[0]) * scaling[1]))
            found = arrays.Offence((row - first, column), float(X[row, column]))
        offence = arrays.Offence((first + found.at[0], found.at[1]), found.value)
        return ValueError(arrays.not_finite(offence, name, dtype, scaled=scaling is not None))

    def lend(self) -> tuple[Array, tuple[Any, ...]]:
        """The job as it is bound now, to be copied; and what has to stay alive for as long as the copy is in use."""
        return self.job, (*self._bound, self._rates)

    def request_stop(self) -> None:
        """Ask a running call to end before it changes parameters again."""
        self._sync[8] = 1

    def clear_stop(self) -> None:
        """Forget an earlier request."""
        self._sync[8] = 0

    @contextlib.contextmanager
    def clock(self, n_threads: int, skip: int) -> Iterator[Array]:
        """Ticks by thread and by slot of `fastbp.kernels.clock`, of the steps of a training call after the first few.

        skip: so many first steps are not counted.
        """
        slots = int(clock.LAYERS + clock.SLOTS_A_LAYER * np.uint64(len(self.layout.layers)))
        room = -(-slots // 8) * 8  # whole cache lines
        self.forget_stages()  # those of before know nothing of it
        counts = memory.allocate(n_threads * room, np.dtype(np.int64)).reshape(n_threads, room)
        job, self._profile = self.job[0], counts  # kept: should the end of the block be cut off, the job points at it
        job["profile"], job["profile_size"], job["profile_from"] = address(counts), room * 8, skip
        try:
            yield counts[:, :slots]
        finally:
            job["profile"] = 0

    def backprop(
        self, rows: int, n_threads: int, *, noisy: bool = False, detached: bool = False, precision: str = FLOAT32
    ) -> tuple[int, Array]:
        """Gradient of a bound batch into `need_gradient()`; returns the status, and dJ/dX of shape (rows, n_in).

        noisy: with the dropout and input noise, if there are any, of the next step.
        """
        self.need_gradient()
        self.prepare(rows, n_threads, whole=True)
        room, inputs = room_for_inputs(self.layout, rows)
        if precision == FLOAT32:
            self.mirror_inputs()
        placement = Placement(n_threads)
        status = self.call(
            records.BACKPROP, placement, detached=detached, noisy=noisy, input_deltas=room, precision=precision
        )  # fmt: skip
        return status, inputs

    def chooser(self, wanted: int | None, batch: int, seconds: float = 0.0, *, by_rows: bool = False) -> Chooser:
        """What chooses the placement for steps of `fit`; as before, if it was for the same: it has learnt by now.

        Asked before every chunk of steps, since what the system grants may change. seconds: about as long as the steps
        to come will take. by_rows: none by columns.
        """
        machine, force = topology.topology(), forced(os.environ)
        most = wanted or team.default_threads()
        key = wanted, batch, most, machine, force, by_rows
        found = self._choosers.get(key)
        if found is None:
            counts = [most] if wanted else costs.thread_counts(most, machine)
            if not wanted and batch * self.layout.flops_per_row < tuning.BARRIER_SECONDS * tuning.THREAD_FLOPS:
                counts = [1]
            choice = [Placement(n) for n in counts]
            if not by_rows:
                choice = costs.candidates(self.layout, batch, machine, counts, force)
            known = costs.costs(seconds if len(choice) > 1 else 0.0)
            found = Chooser(choice, [known.step(self.layout, batch, each, machine) for each in choice])
            if len(self._choosers) >= tuning.CHOOSERS:
                self._choosers.clear()
            self._choosers[key] = found
        return found

    def choose_threads(self, wanted: int | None, rows: int, flops_per_row: float, cost: float | None = None) -> int:
        """`wanted`, or what is faster for some rows by a simple model: work shared against the cost of sharing."""
        if wanted is not None:
            return wanted
        alone = rows * flops_per_row / tuning.THREAD_FLOPS
        cost = tuning.BARRIER_SECONDS if cost is None else cost
        if alone < cost:
            return 1
        available = team.default_threads()
        return available if alone > alone / available + cost else 1
