"""The job of an engine: what the compiled code works on, and the memory that it needs for that."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from fastbp.engine import memory, tuning
from fastbp.engine.layout import Buffers, Layout
from fastbp.engine.memory import address
from fastbp.engine.state import Counters, Store
from fastbp.kernels import records
from fastbp.kernels.records import JOB
from fastbp.kernels.tuning import MAX_RUN
from fastbp.kernels.update import RATES_BYTES
from fastbp.losses import Loss
from fastbp.optimizers import LrScale, Optimizer
from fastbp.optimizers.base import PYTORCHS, Conventions
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
    "row_weights", "order", "subset", "n_samples", "n_dropped", "outputs",
)  # fmt: skip
_DATA = struct.Struct(f"={len(_DATA_FIELDS)}q")
_DATA_START = JOB.fields["X"][1]  # type: ignore[index]
assert [JOB.fields[name][1] for name in _DATA_FIELDS] == [_DATA_START + 8 * k for k in range(len(_DATA_FIELDS))]  # type: ignore[index]
# Counts, codes and addresses are words; to write one by its place takes 0.02 us, by its name 0.4.
assert all(dtype.itemsize % 8 == 0 and offset % 8 == 0 for dtype, offset, *_ in JOB.fields.values())  # type: ignore[union-attr]
AT = {name: JOB.fields[name][1] // 8 for name in JOB.names}  # type: ignore[index,union-attr]
_N_SAMPLES, _N_DROPPED, _SUBSET, _ORDER = (AT[name] for name in ("n_samples", "n_dropped", "subset", "order"))
_LRS, _MOMENTA = AT["lrs"], AT["momenta"]
_ALPHA, _LR_BEFORE, _EPS_FIRST = AT["alpha"], AT["lr_before"], AT["eps_first"]
_N_STEPS, _POSITION, _EPOCH, _SHUFFLE = (AT[name] for name in ("n_steps", "position", "epoch", "shuffle"))
_SNAPSHOT, _SNAPSHOT_SCALARS = AT["snapshot"], AT["snapshot_scalars"]
_COPY_WEIGHTS = AT["copy_weights"]
_SNAPSHOT_STEP, _TWO_PASS, _TIME = (AT[name] for name in ("snapshot_step", "two_pass", "t"))


class Bindings(Store):
    """The job of one network, and all memory of it. A caller holds the network's lock.

    An exception may come at any line: of Ctrl-C, of a signal handler, for want of memory. So each call sets all that it
    depends on, whatever earlier ones have left behind; and what says that something is ready is forgotten before that
    changes, and set when it is done.
    """

    def __init__(self, layout: Layout, loss: Loss) -> None:
        zeros = np.zeros(JOB.itemsize // 8, np.uint64)
        self.job = np.ndarray((1,), JOB, zeros)  # 0.5 us; `zeros` of so many fields takes 3
        self._words = memoryview(zeros)  # type: ignore[arg-type]
        self._bytes = self._words.cast("B")
        self._numbers = self._bytes.cast("d")
        parameters, self.transposed, self.zeros = memory.allocate_all(
            [layout.n_parameters, layout.n_transposed, layout.zeros_size], layout.dtype
        )
        super().__init__(layout, parameters, self._words[AT["steps_done"] :])
        self.gradient: Array | None = None
        self.sync = memory.allocate(32, np.dtype(np.int64))  # four cache lines: barrier, stop, status, claims
        self.buffers: Buffers | None = None
        self.scratch = self.partials = self.row_losses = self.areas = memory.allocate(0, layout.dtype)
        self.pairs: tuple[list[Array], ...] = ()  # copies of the weights, and of the transposed ones, by layer
        self._pairs_of: tuple[int, int] | None = None  # the mark of the network's parameters that these are of
        self.losses = self.mean_weights = memory.allocate(0, np.dtype(np.float64))
        # What the job points at, kept alive, and whether it says what was asked for last.
        self._bound: tuple[Any, ...] = ()
        self._rates: tuple[Array | None, Array | None] = None, None
        self._optimizer: Optimizer | None = None
        self._prepared: tuple[int, int, int, bool, int] | None = None
        self._pointed: tuple[Array, list[Array], Array] | None = None
        self._mirrored: Array | None = None  # the parameters whose transposed copy is at hand
        self._scans = False  # the job looks for NaN and infinity
        # How to repeat earlier calls cheaply (see `stages.py`), and the one of them that the job says at present.
        self._stages: dict[Any, Any] = {}
        self._current: Any = None
        self._input_mirror: tuple[int, int] | None = None  # the `mark` at which layer 0 was in the transposed copy
        self._lr_scale: LrScale | None = None  # whose factors `lr_scales` holds
        self.lr_scales = memory.allocate(0, np.dtype(np.float64))
        self._rate_places: tuple[Any, Any] = 0, 0  # bytes to the rates of weights and of biases, by layer
        self._seed: int | None = None
        self._snapshot_at: tuple[Array, Array, int, int] | None = None  # what a snapshot fills, and its addresses
        words, at, penalties = self._words, address(self.sync), layout.regularization
        words[AT["n_layers"]], words[AT["n_blocks"]] = len(layout.layers), layout.n_blocks
        words[AT["parts"]] = 1
        words[AT["n_parameters"]], words[AT["zeros"]] = layout.n_parameters, address(self.zeros)
        if layout.scale_offset:
            panels = -(-layout.sizes[1] // (2 * layout.lanes))
            self.scale_partials = memory.allocate(panels * layout.scale_size, layout.dtype)
            words[AT["input_scale"]], words[AT["scale_partials"]] = layout.scale_offset, address(self.scale_partials)
        for k, name in enumerate(("barrier", "stop", "status", "claims")):
            words[AT[name]] = at + 64 * k
        words[AT["loss"]], words[AT["loss_columns"]] = loss.code, loss.columns(layout.sizes[-1])
        descended = loss.factor * loss.descent(layout.sizes[-1])
        self._numbers[AT["loss_factor"]], self._numbers[AT["slope_factor"]] = loss.factor, descended
        if loss.parameter:
            self.job[0]["loss_parameter"] = loss.parameter
        if any((penalties.input_noise, penalties.max_norm, penalties.l1, penalties.l2)):
            job = self.job[0]
            job["input_noise"], job["max_norm"] = penalties.input_noise, penalties.max_norm or 0.0
            job["l1"], job["l2"] = penalties.l1, penalties.l2

    def change(self, **parts: Any) -> None:
        self.forget_stages()
        super().change(**parts)

    def set_counters(self, counters: Counters) -> None:
        self.forget_stages()
        super().set_counters(counters)

    def forget_stages(self) -> None:
        """Set up all of the next call: what earlier ones pointed at is there no more, or means something else."""
        self._current, self._stages = None, {}

    def forget_bindings(self) -> None:
        """Set up all of the job in the next call that is no repetition."""
        self._current = self._optimizer = self._prepared = None
        self._rates = None, None

    def workplace(self) -> dict[str, Any]:
        """What the network works in beside parameters and moments, for `borrow`."""
        return {name: getattr(self, name) for name in memory.WORKPLACE}

    def borrow(self, given: dict[str, Any] | None) -> dict[str, Any]:
        """Work in other memory than one's own, which a network of the same layout has worked in; None: in new one.

        Returns what had been worked in before.
        """
        before = self.workplace()
        now = memory.no_workplace(self.layout.dtype) if given is None else given
        self.forget_bindings()
        self.forget_stages()
        self._pointed = self._snapshot_at = self.snapshot_of = self._pairs_of = None
        for name in memory.WORKPLACE:
            setattr(self, name, now[name])
        self.job[0]["gradient"] = 0 if self.gradient is None else address(self.gradient)
        if self.buffers is not None:
            self.buffers.mirror_in(self.transposed)
        self._point_rates()
        return before

    def bind_data(
        self, X: Array, y: Array | None, scaling: tuple[Array, ...] | None, weights: Array | None = None,
        *, scan: bool = False, rows: Array | None = None, outputs: Array | None = None,
    ) -> None:  # fmt: skip
        """Point the job at samples and targets, both checked and in the kernels' form.

        scan: look for NaN and infinity while gathering. rows: numbers of the rows that are meant, in their order.
        outputs: room for what the network puts out.
        """
        self._current = None
        mean, scale, narrow = (0, 0, 0) if scaling is None else (*map(address, scaling), 0)[:3]
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
            weighed, order, 0, n, 0, room,
        )  # fmt: skip
        self._bound, self._scans = (X, y, scaling, weights, rows, outputs), scan

    def bind_order(self, n_rows: int, subset: Array | None, order: Array | None, dropped: int = 0) -> None:
        """Of the bound data, train on the rows of these numbers (None: all), in an order that is written to `order`.

        order: room for `n_rows` row numbers; None: the rows as they stand. dropped: of these, the last of an epoch are
        not trained on.
        """
        words, rows = self._words, 0 if subset is None else address(subset)
        words[_N_SAMPLES], words[_N_DROPPED], words[_SUBSET] = n_rows, dropped, rows
        words[_ORDER] = rows if order is None else address(order)

    def bind_output_gradient(self) -> None:
        """Take the bound targets for dJ/dz of the output layer."""
        self.job[0]["y_kind"] = records.DELTAS

    def bind_steps(
        self, n_steps: int, position: int = 0, epoch: int = 0, shuffle: int = records.IN_ORDER, *, two_pass: bool
    ) -> None:
        """The steps to come, from a row of the epoch on; two_pass: store the gradient before any parameter changes."""
        if two_pass:
            self.need_gradient()
        words = self._words
        words[_N_STEPS], words[_POSITION], words[_EPOCH], words[_SHUFFLE] = n_steps, position, epoch, shuffle
        words[_SNAPSHOT_STEP], words[_TWO_PASS] = 0, two_pass

    def bind_step(self, optimizer: Optimizer, n_rows: int, n_threads: int, *, two_pass: bool) -> None:
        """One step on all bound rows."""
        self.bind_rates(None, None)
        self.bind_optimizer(optimizer, self.steps)
        self.prepare(n_rows, n_threads, whole=True)
        self.count_steps()
        self.bind_steps(1, two_pass=two_pass)

    def set_seed(self, seed: int) -> None:
        """Of the order of the rows, dropout and noise."""
        if seed != self._seed:
            self.forget_stages()
            self._seed = None
            self.job[0]["seed"] = np.uint64(seed)
            self._seed = seed

    def bind_optimizer(self, optimizer: Optimizer, t: int, conventions: Conventions = PYTORCHS) -> None:
        """Have the job follow a rule whose moments, which it must have by now, `t` updates have shaped."""
        assert len(self.moments) == optimizer.n_moments, "moments of another rule"
        self.set_time(t)
        self._numbers[_ALPHA], self._numbers[_LR_BEFORE] = conventions.alpha, conventions.lr_before
        self._words[_EPS_FIRST] = conventions.eps_first
        if optimizer is self._optimizer:
            return
        job = self.job[0]
        self._current = self._optimizer = None
        job["optimizer"], job["lr"] = optimizer.code, optimizer.lr
        job["weight_decay"], job["decoupled"] = optimizer.decays
        job["beta1"], job["beta2"], eps = optimizer.betas_and_eps
        # With eps = 0, what has no gradient, such as the padding, would become 0 / 0.
        job["eps"] = max(eps, float(np.finfo(self.layout.dtype).tiny))
        job["coefficients"] = 0.0
        job["coefficients"][: len(optimizer.coefficients)] = optimizer.coefficients
        job["clip_norm"], job["clip_value"] = optimizer.clip_norm or 0.0, optimizer.clip_value or 0.0
        self._bind_lr_scale(optimizer.lr_scale)
        self._optimizer = optimizer

    def _bind_lr_scale(self, scale: LrScale | None) -> None:
        """Have the kernels compute rates for each factor of the learning rate but 1, and the layers use theirs."""
        job, layers = self.job[0], self.layout.layers
        if scale is None:
            job["n_scales"], job["input_rates"], self._rate_places = 0, 0, (0, 0)
        else:
            pairs = np.array([*scale.by_layer([layer.n_in for layer in layers]), (scale.input_scale,) * 2])
            factors = np.setdiff1d(pairs, 1.0)
            if scale != self._lr_scale:  # what stages point at is left alone
                self.forget_stages()
                self.lr_scales = memory.allocate(factors.size, np.dtype(np.float64))
                self.lr_scales[:] = factors
                self._lr_scale = scale
            job["n_scales"], job["lr_scales"] = factors.size, address(self.lr_scales)
            job["scaled_rates"] = self._scaled_rates
            places = self._scaled_rates + RATES_BYTES * np.searchsorted(factors, pairs)
            places[pairs == 1.0] = 0
            self._rate_places, job["input_rates"] = (places[:-1, 0], places[:-1, 1]), places[-1, 0]
        self._point_rates()

    def _point_rates(self) -> None:
        """Have the layers use the rates of their factors."""
        if self.buffers is not None:
            self.buffers.records["weight_rates"], self.buffers.records["bias_rates"] = self._rate_places

    @property
    def _block_bytes(self) -> int:
        """Of the largest gradient that a thread has in its scratch."""
        lanes = self.layout.lanes
        return (2 * lanes) * (2 * lanes * MAX_RUN + 1) * self.layout.dtype.itemsize

    @property
    def _scaled_rates(self) -> int:
        """Bytes from a thread's rates to those of the first factor: they come behind the gradient."""
        return -(-(RATES_BYTES + self._block_bytes) // 64) * 64

    def bind_rates(self, lrs: Array | None, momenta: Array | None) -> None:
        """Learning rates and momenta of the steps to come, each float64, or None: those of the optimiser."""
        self._current = None
        words, self._rates = self._words, (lrs, momenta)
        words[_LRS] = 0 if lrs is None else address(lrs)
        words[_MOMENTA] = 0 if momenta is None else address(momenta)

    def set_time(self, t: int) -> None:
        """The number of updates done."""
        self._words[_TIME] = t

    def need_gradient(self) -> Array:
        """The buffer of a whole gradient, made when it is first needed."""
        if self.gradient is None:
            self.forget_stages()
            made = memory.allocate(self.layout.n_parameters, self.layout.dtype)
            self.job[0]["gradient"] = address(made)
            self.gradient = made
        return self.gradient

    def state(self) -> dict[str, Array]:
        """What the optimiser changes besides the parameters, by the field of the job that holds its address."""
        return {f"state{number}": moment for number, moment in enumerate(self.moments, 1)} | {
            "scalars": self.scalars.ravel()
        }

    def prepare(self, batch: int, n_threads: int, *, n_steps: int = 1, whole: bool, parts: int = 1) -> None:
        """Make room for batches of some rows. whole: gradients are wanted, so a batch must be there at once.

        parts: of the threads that are to have areas of their own, see `fastbp.kernels.columns`.
        """
        wanted = (batch, n_threads, n_steps, whole, parts)
        had = self._prepared
        if wanted == had:
            return
        if not whole and n_threads == 1 and had is not None and had[0] == batch and had[3]:
            return  # what is enough to train on these rows is enough for one thread to look at them
        self._current = self._prepared = None
        layout, job = self.layout, self.job[0]
        block = max(tuning.MIN_BLOCK, min(512, tuning.BLOCK_BYTES // layout.row_bytes)) & ~1  # no pair of rows is cut
        groups = layout.n_groups(batch) if whole else 0
        rows = batch if whole and not groups else min(block, batch) * n_threads
        if self.buffers is None or self.buffers.rows < rows:
            self.forget_stages()
            self._pointed = None
            self.buffers = Buffers(layout, rows, self.transposed)
            self._point_rates()
        self.row_losses = self._room(self.row_losses, batch)
        self.losses, self.mean_weights = self._room(self.losses, n_steps), self._room(self.mean_weights, n_steps)
        most_factors = 2 * len(layout.layers) + 1
        per_thread = -(-(self._scaled_rates + most_factors * RATES_BYTES) // 128) * 128
        self.scratch = self._room(self.scratch, n_threads * per_thread // layout.dtype.itemsize)
        self.partials = self._room(self.partials, groups * layout.n_parameters)
        job["block_rows"], job["n_groups"], job["batch_size"] = min(block, batch), groups, batch
        job["dynamic"] = batch * layout.flops_per_row > tuning.DYNAMIC_FLOPS
        job["row_losses"], job["losses"] = address(self.row_losses), address(self.losses)
        job["mean_weights"] = address(self.mean_weights)
        job["targets"], job["loss_values"] = address(self.buffers.targets), address(self.buffers.loss_values)
        job["scratch"], job["scratch_size"], job["partials"] = address(self.scratch), per_thread, address(self.partials)
        area = (batch + tuning.GAP_ROWS) * layout.stride(layout.sizes[0]) if parts > 1 and not groups else 0
        try:
            self.areas = self._room(self.areas, parts * area)
        except MemoryError:  # by rows it goes without: see `has_areas`
            area = 0
        job["areas"], job["area_size"] = address(self.areas), area * layout.dtype.itemsize
        self._prepared = wanted

    def prepare_pairs(self, *, inputs: bool = False) -> None:
        """Make room for the copies in bfloat16 that kernels in pairs read; inputs: dJ/dX is wanted, too."""
        layers, single = self.layout.layers, np.dtype(np.float32)
        assert self.buffers is not None
        if not self.pairs:
            sizes = [layer.pairs_sizes for layer in layers]
            self.pairs = tuple(memory.allocate_all(some, single) for some in zip(*sizes, strict=True))
        if self.buffers.pairs is None:
            self.buffers.add_pairs(self.layout, *self.pairs)
        first = self.buffers.records[0]
        first["transposed_in_pairs"] = address(self.pairs[1][0]) if inputs and layers[0].paired else 0

    def begin_pairs(self, mode: int, *, own: bool, inputs: bool) -> None:
        """Before a call in pairs: have the copies of the weights made anew where they are not of these parameters.

        own: those of the network itself. inputs: dJ/dX is wanted: of layer 0, training keeps no transposed copy.
        """
        self.prepare_pairs(inputs=inputs)
        then, self._pairs_of = self._pairs_of, None
        self._words[_COPY_WEIGHTS] = inputs or not own or then != self.mark()
        if mode == records.TRAIN:
            self.forget_mirror()

    def forget_mirror(self) -> None:
        """Training in pairs does not keep fresh the transposed weights that float32 reads."""
        self.forget_stages()
        self._mirrored = None

    def has_areas(self, parts: int) -> bool:
        """Whether there is room for so many parts, of the batches that were prepared for."""
        return self._prepared is not None and self._prepared[4] == parts and bool(self.job[0]["area_size"])

    def _point(self, parameters: Array) -> None:
        """Have job and layers work on these parameters, and on the moments that there are."""
        moments, scalars, then = self.moments, self.scalars, self._pointed
        if then is not None and then[0] is parameters and then[1] is moments and then[2] is scalars:
            return
        self.forget_stages()
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
            self.forget_stages()
            self._mirrored = self._input_mirror = None
            for layer in self.layout.layers:
                self.layout.transpose_layer(layer, self.layout.unpack_layer(layer, parameters)[0], self.transposed)
            self._mirrored, self._input_mirror = parameters, self.mark() if parameters is self.parameters else None

    def mirror_inputs(self) -> None:
        """Have layer 0 in the transposed copy, for dJ/dX: training does not read it there, nor keep it fresh."""
        now = self.mark()
        if self._input_mirror != now:
            self._input_mirror = None
            layout, first = self.layout, self.layout.layers[0]
            layout.transpose_layer(first, layout.unpack_layer(first, self.parameters)[0], self.transposed)
            self._input_mirror = now

    def point_snapshot(self) -> None:
        """Have the job know where snapshots go."""
        assert self.has_snapshot, "there is no room for one"
        then = self._snapshot_at
        if then is None or then[0] is not self.snapshot or then[1] is not self.snapshot_scalars:
            places = address(self.snapshot), address(self.snapshot_scalars)
            then = self._snapshot_at = self.snapshot, self.snapshot_scalars, *places
        self._words[_SNAPSHOT], self._words[_SNAPSHOT_SCALARS] = then[2:]

    def _room(self, buffer: Array, n: int) -> Array:
        """The buffer, or a larger one."""
        if buffer.size >= n:
            return buffer
        self.forget_stages()
        return memory.allocate(n, buffer.dtype)
