"""The engine of one network: its parameters, moments and buffers, and the calls of the compiled entry on them."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastbp import arrays
from fastbp import losses as _losses
from fastbp import optimizers as _optimizers
from fastbp.engine import memory, team, threads, tuning, watchdog
from fastbp.engine.layout import Buffers, Layout
from fastbp.engine.memory import address
from fastbp.engine.state import Store
from fastbp.kernels import clock, records
from fastbp.kernels.build import entry
from fastbp.kernels.records import JOB
from fastbp.kernels.run import RATES_BYTES
from fastbp.kernels.run import run as run_kernel
from fastbp.kernels.team import MAX_THREADS
from fastbp.kernels.tuning import MAX_RUN
from fastbp.numerics import quiet
from fastbp.types import Array

_X_KINDS = {
    np.dtype("float32"): records.FLOAT32,
    np.dtype("float64"): records.FLOAT64,
    np.dtype("uint8"): records.UINT8,
}
# The fields of a job that describe its data stand together, and are written in one go: one by one, they would cost a
# small call more than its arithmetic.
_DATA_FIELDS = (
    "X", "X_row", "X_column", "X_kind", "x_mean", "x_scale", "x_narrow", "scan", "y", "y_kind",
    "row_weights", "order", "subset", "n_samples", "outputs",
)  # fmt: skip
_DATA = struct.Struct(f"={len(_DATA_FIELDS)}q")
_DATA_START = JOB.fields["X"][1]  # type: ignore[index]
assert [JOB.fields[name][1] for name in _DATA_FIELDS] == [_DATA_START + 8 * k for k in range(len(_DATA_FIELDS))]  # type: ignore[index]
_MODE, _MODE_START = struct.Struct("=7q"), JOB.fields["mode"][1]  # type: ignore[index]
_MODE_FIELDS = "mode", "n_layers", "n_threads", "noisy", "input_deltas", "snapshot_steps", "snapshot_epochs"
assert JOB.names[:7] == _MODE_FIELDS  # type: ignore[index]
assert threads.MOST <= MAX_THREADS
_TIME, _TIME_START = struct.Struct("=Q"), JOB.fields["t"][1]  # type: ignore[index]
_SCAN, _SCAN_START = struct.Struct("=q"), JOB.fields["scan"][1]  # type: ignore[index]


class Stage(NamedTuple):
    """Where a small call of the same kind as the last finds its batch, and leaves its outputs.

    To copy a small batch to where the job points already costs less than to point the job at the caller's arrays.
    """

    mode: int
    X: Array
    y: Array | None
    outputs: Array | None
    recipe: object  # optimiser and scaling, as the job holds them
    scaling: object
    weights: Array | None
    plain: bool  # targets of the same type and shape need no more than to be copied
    shape: tuple[int, ...]  # of X
    dtype: np.dtype[Any]
    kernel: Any
    records: Array


class Engine(Store):
    """Owns all memory of a network. A caller holds the network's lock.

    An exception may come at any line: of Ctrl-C, of a signal handler, for want of memory. So each call sets all that it
    depends on, whatever earlier ones have left behind; and what says that something is ready is forgotten before that
    changes, and set when it is done.
    """

    def __init__(self, layout: Layout, loss: _losses.Loss) -> None:
        self.job = np.zeros(1, JOB)
        parameters, self.transposed = memory.allocate_all([layout.n_parameters, layout.n_transposed], layout.dtype)
        super().__init__(layout, parameters, memoryview(self.job["steps_done"]))  # type: ignore[arg-type]
        self.loss = loss
        self._pointed: tuple[Array, list[Array], Array] | None = None  # what job and layers point at
        self._mirrored: Array | None = None  # the parameters whose transposed copy is at hand
        self._chooser: tuple[tuple[int | None, int, int], team.Chooser] | None = None
        self.gradient: Array | None = None
        self.zeros = memory.allocate(layout.zeros_size, layout.dtype)
        self.sync = memory.allocate(32, np.dtype(np.int64))  # four cache lines: barrier, stop, status, claims
        self._sync = memoryview(self.sync)  # type: ignore[arg-type]
        self.buffers: Buffers | None = None
        self.scratch = self.partials = self.row_losses = memory.allocate(0, layout.dtype)
        self.losses = self.mean_weights = memory.allocate(0, np.dtype(np.float64))
        self._tag = layout.dtype.type(1)
        self._bytes = memoryview(self.job.view(np.uint8))  # type: ignore[arg-type]
        self._kernel: Any = None
        self._prepared: tuple[int, int, int, bool] | None = None
        self._optimizer: _optimizers.Optimizer | None = None
        self._keep: tuple[Any, ...] = ()
        self._rates: tuple[Array | None, Array | None] = None, None
        self._stage: Stage | None = None
        self._scans = False  # the job looks for NaN and infinity
        self._alone = False  # the last call ran on the calling thread
        self._watch: Array | None = None
        self._broken: str | None = None  # why no call is possible any more
        job, at = self.job[0], address(self.sync)
        job["n_layers"], job["n_blocks"], job["n_parameters"] = len(layout.layers), layout.n_blocks, layout.n_parameters
        job["barrier"], job["stop"], job["status"], job["claims"] = at, at + 64, at + 128, at + 192
        job["zeros"] = address(self.zeros)
        job["loss"], job["loss_parameter"] = loss.code, loss.parameter
        job["loss_columns"] = loss.link.loss_columns(layout.sizes[-1])
        penalties = layout.regularization
        job["input_noise"], job["max_norm"] = penalties.input_noise, penalties.max_norm or 0.0
        job["l1"], job["l2"] = penalties.l1, penalties.l2

    def change(self, **parts: Any) -> None:
        self._stage = None
        super().change(**parts)

    # --- what a call works on -------------------------------------------------------------------------------

    def bind_data(
        self, X: Array, y: Array | None, scaling: tuple[Array, ...] | None, weights: Array | None = None,
        *, scan: bool = False, rows: Array | None = None, outputs: Array | None = None,
    ) -> None:  # fmt: skip
        """Point the job at samples and targets, both checked and in the kernels' form.

        scan: look for NaN and infinity while gathering. rows: numbers of the rows that are meant, in their order.
        outputs: room for what the network puts out.
        """
        self._stage = None
        mean, scale, narrow = (*map(address, scaling or ()), 0, 0, 0)[:3]
        if y is None:
            at, kind = 0, records.NO_TARGETS
        else:
            at, kind = address(y), records.LABELS if y.ndim == 1 else records.DENSE
        weighed = 0 if weights is None else address(weights)
        row, column = X.strides
        order, n = (0, len(X)) if rows is None else (address(rows), len(rows))
        room = 0 if outputs is None else address(outputs)
        _DATA.pack_into(
            self._bytes, _DATA_START, address(X), row, column, _X_KINDS[X.dtype], mean, scale, narrow, scan, at, kind,
            weighed, order, 0, n, room,
        )  # fmt: skip
        self._keep, self._scans = (X, y, scaling, weights, rows, outputs), scan

    def bind_order(self, n_rows: int, subset: Array | None, order: Array | None) -> None:
        """Of the bound data, train on the rows of these numbers (None: all), in an order that is written to `order`.

        order: room for `n_rows` row numbers; None: the rows as they stand.
        """
        job, rows = self.job[0], 0 if subset is None else address(subset)
        job["n_samples"], job["subset"] = n_rows, rows
        job["order"] = rows if order is None else address(order)

    def bind_output_gradient(self) -> None:
        """Take the bound targets for dJ/dz of the output layer."""
        self.job[0]["y_kind"] = records.DELTAS

    def bind_steps(
        self, n_steps: int, position: int = 0, epoch: int = 0, shuffle: int = records.IN_ORDER, *, two_pass: bool
    ) -> None:
        """The steps to come, from a row of the epoch on; two_pass: store the gradient before any parameter changes."""
        if two_pass:
            self.need_gradient()
        job = self.job[0]
        job["n_steps"], job["position"], job["epoch"], job["shuffle"] = n_steps, position, epoch, shuffle
        job["snapshot_step"], job["two_pass"] = 0, two_pass

    def bind_step(self, optimizer: _optimizers.Optimizer, n_rows: int, n_threads: int, *, two_pass: bool) -> None:
        """One step on all bound rows."""
        self.bind_rates(None, None)
        self.bind_optimizer(optimizer, self.steps)
        self.prepare(n_rows, n_threads, whole=True)
        self.count_steps()
        self.bind_steps(1, two_pass=two_pass)

    def set_seed(self, seed: int) -> None:
        """Of the order of the rows, dropout and noise."""
        self.job[0]["seed"] = np.uint64(seed)

    def bind_optimizer(self, optimizer: _optimizers.Optimizer, t: int) -> None:
        """Have the job follow a rule whose moments, which it must have by now, `t` updates have shaped."""
        assert len(self.moments) == optimizer.n_moments, "moments of another rule"
        job = self.job[0]
        self.set_time(t)
        if optimizer is self._optimizer:
            return
        self._stage = self._optimizer = None
        job["optimizer"], job["lr"] = optimizer.code, optimizer.lr
        job["weight_decay"], job["decoupled"] = optimizer.decays
        job["beta1"], job["beta2"], eps = optimizer.betas_and_eps
        # With eps = 0, what has no gradient, such as the padding, would become 0 / 0.
        job["eps"] = max(eps, float(np.finfo(self.layout.dtype).tiny))
        job["coefficients"] = 0.0
        job["coefficients"][: len(optimizer.coefficients)] = optimizer.coefficients
        job["clip_norm"], job["clip_value"] = optimizer.clip_norm or 0.0, optimizer.clip_value or 0.0
        self._optimizer = optimizer

    def bind_rates(self, lrs: Array | None, momenta: Array | None) -> None:
        """Learning rates and momenta of the steps to come, each float64, or None: those of the optimiser."""
        self._stage = None
        job, self._rates = self.job[0], (lrs, momenta)
        job["lrs"] = 0 if lrs is None else address(lrs)
        job["momenta"] = 0 if momenta is None else address(momenta)

    def set_time(self, t: int) -> None:
        """The number of updates done."""
        _TIME.pack_into(self._bytes, _TIME_START, t)

    def need_gradient(self) -> Array:
        """The buffer of a whole gradient, made when it is first needed."""
        if self.gradient is None:
            self._stage = None
            made = memory.allocate(self.layout.n_parameters, self.layout.dtype)
            self.job[0]["gradient"] = address(made)
            self.gradient = made
        return self.gradient

    def state(self) -> dict[str, Array]:
        """What the optimiser changes besides the parameters, by the field of the job that holds its address."""
        return {f"state{number}": moment for number, moment in enumerate(self.moments, 1)} | {
            "scalars": self.scalars.ravel()
        }

    def prepare(self, batch: int, n_threads: int, *, n_steps: int = 1, whole: bool) -> None:
        """Make room for batches of some rows. whole: gradients are wanted, so a batch must be there at once."""
        wanted = (batch, n_threads, n_steps, whole)
        if wanted == self._prepared:
            return
        self._stage = self._prepared = None
        layout, job = self.layout, self.job[0]
        block = max(tuning.MIN_BLOCK, min(512, tuning.BLOCK_BYTES // layout.row_bytes))
        groups = layout.n_groups(batch) if whole else 0
        rows = batch if whole and not groups else min(block, batch) * n_threads
        if self.buffers is None or self.buffers.rows < rows:
            self._pointed = None
            self.buffers = Buffers(layout, rows, self.transposed)
        self.row_losses = _room(self.row_losses, batch)
        self.losses, self.mean_weights = _room(self.losses, n_steps), _room(self.mean_weights, n_steps)
        block_bytes = (2 * layout.lanes) * (2 * layout.lanes * MAX_RUN + 1) * layout.dtype.itemsize
        per_thread = -(-(RATES_BYTES + block_bytes) // 128) * 128
        self.scratch = _room(self.scratch, n_threads * per_thread // layout.dtype.itemsize)
        self.partials = _room(self.partials, groups * layout.n_parameters)
        job["block_rows"], job["n_groups"], job["batch_size"] = min(block, batch), groups, batch
        job["dynamic"] = batch * layout.flops_per_row > tuning.DYNAMIC_FLOPS
        job["row_losses"], job["losses"] = address(self.row_losses), address(self.losses)
        job["mean_weights"] = address(self.mean_weights)
        job["targets"], job["loss_values"] = address(self.buffers.targets), address(self.buffers.loss_values)
        job["scratch"], job["scratch_size"], job["partials"] = address(self.scratch), per_thread, address(self.partials)
        self._prepared = wanted

    def _point(self, parameters: Array) -> None:
        """Have job and layers work on these parameters, and on the moments that there are."""
        moments, scalars, then = self.moments, self.scalars, self._pointed
        if then is not None and then[0] is parameters and then[1] is moments and then[2] is scalars:
            return
        self._pointed = None
        assert self.buffers is not None
        self.buffers.point(parameters)
        job, places = self.job[0], [address(moment) for moment in moments] + [0, 0, 0]
        job["parameters"] = address(parameters)
        job["scalars"], job["n_scalars"] = address(scalars), scalars.shape[1]
        job["state1"], job["state2"], job["state3"] = places[:3]
        self._pointed = parameters, moments, scalars

    def mirror(self, parameters: Array | None = None) -> None:
        """Have the transposed copy of these parameters, or of the network's own, at hand; updates keep it fresh."""
        parameters = self.parameters if parameters is None else parameters
        if self._mirrored is not parameters:
            self._mirrored = None
            for layer in self.layout.layers:
                self.layout.transpose_layer(layer, self.layout.unpack_layer(layer, parameters)[0], self.transposed)
            self._mirrored = parameters

    # --- calls ----------------------------------------------------------------------------------------------

    def call(
        self, mode: int, n_threads: int, *, detached: bool = False, noisy: bool = True,
        input_deltas: Array | None = None, parameters: Array | None = None, snapshots: tuple[int, int] = (0, 1),
    ) -> int:  # fmt: skip
        """Run the compiled entry with some threads; returns its status.

        noisy: with the dropout and the input noise that the network has, if the call trains. input_deltas: room for
        dJ/dX. parameters: others than the network's own, which stay as they are. snapshots: have the kernels do
        what `take_snapshot` does after every so many steps of an epoch (0: never), and at the end of so many epochs.
        """
        job, tag, sync = self.job, self._tag, self._sync
        self._stage = None
        self._alone = n_threads == 1 and not detached
        self._refuse_if_broken()
        if self._kernel is None:
            self._kernel = entry(run_kernel, self.layout.dtype.name, self._end_if_asked)
        kernel = self._kernel
        assert self.buffers is not None
        layout, layers = self.layout, self.buffers.records
        if parameters is not None:
            self._mirrored = None  # others may have been there
        parameters = self.parameters if parameters is None else parameters
        self._point(parameters)
        if mode not in (records.FORWARD, records.EVALUATE):
            self.mirror(parameters)
        noisy, wanted = noisy and layout.regularization.noisy, 0 if input_deltas is None else address(input_deltas)
        layers["transposed"][0] = address(self.transposed) if wanted else 0  # 0: no delta goes below layer 0
        if snapshots[0]:
            assert self.has_snapshot, "there is no room for one"
            job[0]["snapshot"], job[0]["snapshot_scalars"] = address(self.kept), address(self.kept_scalars)
        _MODE.pack_into(self._bytes, _MODE_START, mode, len(layout.layers), n_threads, noisy, wanted, *snapshots)
        sync[0] = sync[16] = sync[24] = 0
        if n_threads == 1 and not detached:
            kernel(job, layers, 0, tag)
        else:
            self._call_together(lambda thread: kernel(job, layers, thread, tag), n_threads, detached)
        return int(sync[16])

    def _call_together(self, work: team.Work, n_threads: int, detached: bool) -> None:
        """Have a team do the work, watched if FASTBP_WATCHDOG says so."""
        patience = watchdog.patience()

        def begin(threads: list[int]) -> None:
            self.job[0]["n_threads"] = len(threads)  # fewer than asked for, where the system grants no more
            self._watch = watchdog.records(threads, patience)
            self.job[0]["watch"] = 0 if self._watch is None else address(self._watch)

        def stop(word: int) -> None:
            self._sync[8] = word

        try:
            team.run(work, n_threads, detached=detached, begin=begin, stop=stop, patience=patience)
        except BaseException:
            self.clear_stop()
            raise
        finally:
            self.job[0]["watch"] = 0
            if self.status == records.STUCK and self._watch is not None and patience is not None:
                self._broken = watchdog.dump(self._watch, self.job[0], int(self._sync[0]), patience)
        self._refuse_if_broken()

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise RuntimeError(self._broken)

    def _end_if_asked(self, _done: int) -> None:
        """Within `team.interruptible`, Ctrl-C is a request to stop: nothing runs yet that could honour it later."""
        if self._sync[8]:
            self.clear_stop()
            raise KeyboardInterrupt

    def update(self, optimizer: _optimizers.Optimizer) -> None:
        """Change the parameters by the gradient in `need_gradient()`."""
        self.bind_rates(None, None)
        self.bind_optimizer(optimizer, self.steps)
        self.prepare(1, 1, whole=False)
        self.count_steps()
        self.call(records.UPDATE, 1)

    def stage(
        self, mode: int, X: Array, y: Array | None, outputs: Array | None, recipe: object, scaling: object,
        weights: Array | None = None, *, plain: bool = False,
    ) -> None:  # fmt: skip
        """After a call on arrays of our own: keep them ready for more of its kind, if it needed no other thread."""
        if self._alone and self.buffers is not None:
            kernel, layers = self._kernel, self.buffers.records
            self._stage = Stage(mode, X, y, outputs, recipe, scaling, weights, plain, X.shape, X.dtype, kernel, layers)

    def call_again(
        self, mode: int, X: Array, y: Array | None, recipe: object, scaling: object, weights: Array | None = None,
        *, checked: bool = True, scan: bool = False,
    ) -> Stage | None:  # fmt: skip
        """Repeat the last call with another batch, if that differed in nothing else; None if it did.

        checked: X and y are in the kernels' form. Otherwise they are arrays as the user gave them.
        scan: look for NaN and infinity in X; the status tells.
        """
        stage = self._stage
        if (
            stage is None
            or stage.mode != mode
            or stage.shape != X.shape
            or stage.dtype is not X.dtype
            or stage.recipe is not recipe
            or stage.scaling is not scaling
            or (stage.weights is None) != (weights is None)
            or not (checked or stage.plain)
        ):
            return None
        if stage.y is not None:
            if y is None or y.dtype is not stage.y.dtype:
                return None
            if y.shape == stage.y.shape:
                stage.y[:] = y
            elif stage.y.shape == (*y.shape, 1):  # one output
                stage.y[:, 0] = y
            else:
                return None
        if stage.weights is not None:
            stage.weights[:] = weights
        stage.X[:] = X
        if scan is not self._scans:
            self._scans = scan
            _SCAN.pack_into(self._bytes, _SCAN_START, scan)
        self._sync[16] = self._sync[24] = 0  # status and claims, as `call` does
        stage.kernel(self.job, stage.records, 0, self._tag)
        return stage

    @property
    def status(self) -> int:
        """Of the last call."""
        return int(self._sync[16])

    @property
    def snapshot_step(self) -> int:
        """Steps of the last call after which kernels took a snapshot, or 0: they took none."""
        return int(self.job[0]["snapshot_step"])

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
        X, y, scaling, dtype = *self._keep[:3], self.layout.dtype
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
        return self.job, (*self._keep, self._rates)

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
        counts = memory.allocate(n_threads * room, np.dtype(np.int64)).reshape(n_threads, room)
        job, self._profile = self.job[0], counts  # kept: should the end of the block be cut off, the job points at it
        job["profile"], job["profile_size"], job["profile_from"] = address(counts), room * 8, skip
        try:
            yield counts[:, :slots]
        finally:
            job["profile"] = 0

    def backprop(self, rows: int, n_threads: int, *, noisy: bool = False, detached: bool = False) -> tuple[int, Array]:
        """Gradient of a bound batch into `need_gradient()`; returns the status, and dJ/dX of shape (rows, n_in).

        noisy: with the dropout and input noise, if there are any, of the next step.
        """
        layout, first = self.layout, self.layout.layers[0]
        self.need_gradient()
        self.prepare(rows, n_threads, whole=True)
        assert self.buffers is not None
        stride = layout.stride(first.n_in)
        input_deltas = memory.allocate(rows * stride, layout.dtype)
        # Training never reads the transposed copy of layer 0, and so does not keep it fresh.
        layout.transpose_layer(first, layout.unpack_layer(first, self.parameters)[0], self.transposed)
        status = self.call(records.BACKPROP, n_threads, detached=detached, noisy=noisy, input_deltas=input_deltas)
        return status, input_deltas.reshape(rows, stride)[:, : first.n_in]

    def chooser(self, wanted: int | None, batch: int) -> team.Chooser:
        """What chooses the number of threads for `fit`; the last one, if it was for the same: it has learnt by now."""
        key = wanted, batch, wanted or team.default_threads()
        if self._chooser is None or self._chooser[0] != key:
            expected = self.choose_threads(wanted, batch, self.layout.flops_per_row)
            self._chooser = key, team.Chooser(wanted, expected, key[2])
        return self._chooser[1]

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


def _room(buffer: Array, n: int) -> Array:
    """The buffer, or a larger one."""
    return buffer if buffer.size >= n else memory.allocate(n, buffer.dtype)
