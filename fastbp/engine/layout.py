"""The memory layout of a network: where each number lives, and how weights are packed into column panels.

A layer's weights and biases are column panels two vectors wide (the last may be one), each ``(n_in + 1, width)``: the
products stream them without a packing pass, and row n_in is the bias. A second copy, transposed and without biases,
serves the deltas; the update keeps it fresh. Padding is zero and stays zero.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastbp import activations as _activations
from fastbp.engine import memory, tuning
from fastbp.engine.memory import address
from fastbp.kernels.pairs import DOWN_ROWS
from fastbp.kernels.records import DENSE_LAYER, LAYER
from fastbp.kernels.targets import TARGET
from fastbp.regularization import Regularization
from fastbp.types import Array

PAIR_FIELDS = (
    "weights_in_pairs", "transposed_in_pairs", "inputs_by_rows", "inputs_in_pairs", "deltas_by_rows", "deltas_in_pairs",
)  # fmt: skip


@dataclass(frozen=True)
class LayerLayout:
    """Shape and place of one dense layer; counts in elements."""

    n_in: int
    n_out: int
    activation: _activations.Activation
    lanes: int
    offset: int  # of its weights in the flat parameters
    transposed_offset: int  # of its transposed copy
    first_block: int  # number of its first weight block

    @property
    def size(self) -> int:
        """Elements of the packed weights and biases."""
        return (self.n_in + 1) * _round_up(self.n_out, self.lanes)

    @property
    def transposed_size(self) -> int:
        """Elements of the transposed copy."""
        return _round_up(self.n_out, self.lanes) * _round_up(self.n_in, self.lanes)

    @property
    def paired(self) -> bool:
        """Whether its products pay in pairs of bfloat16; by its shape alone, for it decides bits."""
        return self.n_in >= tuning.PAIRED_INPUTS and self.n_out >= tuning.PAIRED_UNITS

    @property
    def pairs_sizes(self) -> tuple[int, int]:
        """Elements of 4 bytes of the copies of weights and of transposed weights in pairs."""
        if not self.paired:
            return 0, 0
        down_rows = _round_up(-(-self.n_out // 2), int(DOWN_ROWS))
        columns, columns_down = (_round_up(n, self.lanes) for n in (self.n_out, self.n_in))
        return (-(-self.n_in // 2) + 1) * columns, down_rows * columns_down

    @property
    def n_blocks(self) -> int:
        """Weight blocks, each at most 2 x 2 vectors: what threads share in phase 2."""
        wide = 2 * self.lanes
        return -(-self.n_in // wide) * -(-self.n_out // wide)


@functools.lru_cache(64)
def layout_of(
    sizes: tuple[int, ...],
    activations: tuple[str, ...],
    dtype: np.dtype[Any],
    regularization: Regularization,
    input_scale: bool,
) -> Layout:
    """The layout of networks that differ in nothing of what it depends on: it never changes."""
    return Layout(sizes, [_activations.get(name) for name in activations], dtype, regularization, input_scale)


class Layout:
    """Layout of all parameters of a network of given sizes, and their packing."""

    def __init__(
        self,
        sizes: Sequence[int],
        activations: Sequence[_activations.Activation],
        dtype: np.dtype[Any],
        regularization: Regularization | None = None,
        input_scale: bool = False,
    ) -> None:
        self.regularization = regularization or Regularization()
        self.sizes, self.dtype = tuple(sizes), dtype
        self.key = self.sizes, dtype, input_scale
        self.lanes = TARGET.vector_bytes // dtype.itemsize
        self.layers: list[LayerLayout] = []
        offset = transposed = blocks = 0
        for (n_in, n_out), activation in zip(itertools.pairwise(sizes), activations, strict=True):
            layer = LayerLayout(n_in, n_out, activation, self.lanes, offset, transposed, blocks)
            self.layers.append(layer)
            offset, transposed, blocks = (
                offset + layer.size,
                transposed + layer.transposed_size,
                blocks + layer.n_blocks,
            )
        self.scale_offset = offset if input_scale else 0  # of the scales of the inputs, behind all layers; 0: none
        self.scale_size = _round_up(sizes[0], self.lanes) if input_scale else 0
        self.n_parameters, self.n_transposed, self.n_blocks = offset + self.scale_size, transposed, blocks
        self.zeros_size = _round_up(max(sizes), self.lanes)
        # Floating-point operations of one row in one step: forward, weight gradient, and delta but for layer 0.
        self.flops_per_row = sum((6 if k else 4) * layer.n_in * layer.n_out for k, layer in enumerate(self.layers))
        self._snapshot_steps: dict[tuple[int, int], int] = {}
        # Bytes of activations and deltas that one row needs.
        widths = self.stride(sizes[0]) + sum(2 * self.stride(layer.n_out) for layer in self.layers)
        self.row_bytes = widths * dtype.itemsize

    def stride(self, n: int) -> int:
        """Elements from row to row of a buffer of n columns: whole vectors, in wide rows an odd number of them.

        The weight gradient walks down columns. Rows a power of two apart share a few cache sets and drive each other
        out: 256 by 256 weights, 512 rows, ran at 76 instead of 87 to 92 GFLOP/s, 64 by 64 at 88 instead of 92.
        """
        vectors = -(-n // self.lanes)
        return (vectors | (vectors * self.lanes * self.dtype.itemsize >= tuning.WIDE_ROW)) * self.lanes

    def n_groups(self, batch: int) -> int:
        """Shares that a batch is cut into, or 0. Depends on sizes alone: it decides the order of summation."""
        too_big = batch * self.row_bytes > tuning.CACHE_BYTES
        worth_it = tuning.N_GROUPS * self.n_parameters * self.dtype.itemsize * 2 < batch * self.row_bytes
        return tuning.N_GROUPS if too_big and worth_it and batch >= 64 * tuning.N_GROUPS else 0

    def snapshot_steps(self, batch: int, n_moments: int) -> int:
        """Steps after which kernels take a snapshot to go back to, such that this costs less than 1 %.

        By sizes alone, without the padding that vectors of some width ask for, on a fast machine: what is kept depends
        neither on the clock nor on the machine. A copy reads parameters twice and moments once, and writes both.
        """
        if (known := self._snapshot_steps.get((batch, n_moments))) is not None:
            return known
        n_parameters = sum((layer.n_in + 1) * layer.n_out for layer in self.layers)
        moved = (3 + 2 * n_moments) * n_parameters * self.dtype.itemsize
        copy = tuning.COPY_SECONDS + moved / (tuning.NEAR_BYTES if moved < tuning.CACHE_BYTES else tuning.FAR_BYTES)
        step = batch * self.flops_per_row / tuning.FAST_FLOPS + tuning.STEP_SECONDS
        found = self._snapshot_steps[batch, n_moments] = max(1, math.ceil(copy / (tuning.SNAPSHOT_SHARE * step)))
        return found

    def snapshots(self, batch: int, n_moments: int, steps: int) -> tuple[int, int]:
        """Steps of an epoch, and epochs, after which kernels take one, where an epoch has so many steps."""
        every = self.snapshot_steps(batch, n_moments)
        # Not shortly before the end of an epoch, where one is taken anyway.
        within = every if steps >= 2 * every else max(every, steps)
        return within, -(-every // max(1, steps))

    def memory(self, batch_size: int, n_moments: int, *, in_pairs: bool = False) -> int:
        """Bytes that `fit` asks for at most, for moments so many times the parameters; the data stay where they are.

        Parameters and moments, both once more to go back to after a divergence; the transposed weights; activations,
        deltas, targets and losses of one batch; all with their padding. Beyond that, threads that train layers by
        columns gather the rows of a batch once more for each part of them, if there is room (`Bindings.prepare`).
        in_pairs: with products in bfloat16, whose copies of weights, activations and deltas take 16 bits a number: of
        the weights two, of activations and deltas two as well.
        """
        fixed = 2 * (1 + n_moments) * self.n_parameters + self.n_transposed
        copies = sum(map(sum, (layer.pairs_sizes for layer in self.layers))) if in_pairs else 0
        of_a_row = self.row_bytes + (2 * self.stride(self.sizes[-1]) + 1) * self.dtype.itemsize
        if in_pairs:  # by rows and in pairs, together as many bytes as in float32, with a pair for rows of zeros
            of_a_row += self.row_bytes
            copies += (2 - batch_size % 2) * self.row_bytes // self.dtype.itemsize
        return (fixed + copies) * self.dtype.itemsize + batch_size * of_a_row

    def pack(
        self, weights: Sequence[Array], biases: Sequence[Array], parameters: Array, transposed: Array | None = None,
        input_scale: Array | None = None,
    ) -> None:  # fmt: skip
        """Write weights, biases and the scales of the inputs into flat parameters, and weights into a transposed copy.

        The padding becomes zero: what a training that diverged has left there, NaN, would come back.
        """
        for layer, weight, bias in zip(self.layers, weights, biases, strict=True):
            for panel, first, width in self._panels(layer, parameters):
                if width < panel.shape[1]:
                    panel[...] = 0.0
                panel[:-1, :width] = weight[:, first : first + width]
                panel[-1, :width] = bias[first : first + width]
        if self.scale_offset and input_scale is not None:
            parameters[self.scale_offset : self.scale_offset + self.sizes[0]] = input_scale
            parameters[self.scale_offset + self.sizes[0] :] = 0.0
        if transposed is not None:
            self.transpose(weights, transposed)

    def transpose(self, weights: Sequence[Array], transposed: Array) -> None:
        """Write weights into their transposed copy."""
        for layer, weight in zip(self.layers, weights, strict=True):
            self.transpose_layer(layer, weight, transposed)

    def transpose_layer(self, layer: LayerLayout, weight: Array, transposed: Array) -> None:
        """Write the weights of one layer into their transposed copy."""
        rows = _round_up(layer.n_out, layer.lanes)
        start = layer.transposed_offset
        for first, width, padded in _columns(layer.n_in, layer.lanes):
            panel = transposed[start : start + rows * padded].reshape(rows, padded)
            panel[: layer.n_out, :width] = weight[first : first + width].T
            panel[layer.n_out :] = 0.0
            if width < padded:
                panel[:, width:] = 0.0
            start += rows * padded

    def unpack(self, parameters: Array) -> tuple[list[Array], list[Array]]:
        """Weights and biases, or their gradients, out of flat parameters, as read-only copies."""
        pairs = [self.unpack_layer(layer, parameters) for layer in self.layers]
        return [weight for weight, _ in pairs], [bias for _, bias in pairs]

    def unpack_scale(self, parameters: Array) -> Array | None:
        """The scales of the inputs, or their gradient, out of flat parameters, as a read-only copy; None without."""
        if not self.scale_offset:
            return None
        found = parameters[self.scale_offset : self.scale_offset + self.sizes[0]].copy()
        found.flags.writeable = False
        return found

    def unpack_layer(self, layer: LayerLayout, parameters: Array) -> tuple[Array, Array]:
        """Weight and bias of one layer, as read-only copies."""
        weight, bias = np.empty((layer.n_in, layer.n_out), self.dtype), np.empty(layer.n_out, self.dtype)
        for panel, first, width in self._panels(layer, parameters):
            weight[:, first : first + width] = panel[:-1, :width]
            bias[first : first + width] = panel[-1, :width]
        weight.flags.writeable = bias.flags.writeable = False
        return weight, bias

    def weight_mask(self) -> Array:
        """1 at the weights of flat parameters, 0 at biases and padding."""
        flags = np.zeros(self.n_parameters, self.dtype)
        shapes = [(layer.n_in, layer.n_out) for layer in self.layers]
        self.pack([np.ones(shape) for shape in shapes], [np.zeros(shape[1]) for shape in shapes], flags)
        return flags

    def places(self) -> Array:
        """Where weights, biases and scales stand in flat parameters; the other places are padding."""
        numbers = np.arange(self.n_parameters)
        panels = [(panel, width) for layer in self.layers for panel, _, width in self._panels(layer, numbers)]
        scales = numbers[self.scale_offset :][: self.sizes[0]] if self.scale_offset else numbers[:0]
        return np.concatenate([*(panel[:, :width].ravel() for panel, width in panels), scales])

    def _panels(self, layer: LayerLayout, parameters: Array) -> Iterator[tuple[Array, int, int]]:
        start = layer.offset
        for first, width, padded in _columns(layer.n_out, layer.lanes):
            size = (layer.n_in + 1) * padded
            yield parameters[start : start + size].reshape(layer.n_in + 1, padded), first, width
            start += size


class Buffers:
    """Activations and deltas of a number of rows, and the layer records that point at them, but not yet at weights."""

    def __init__(self, layout: Layout, rows: int, transposed: Array) -> None:
        self.rows, dtype = rows, layout.dtype
        self.pairs: tuple[list[Array], ...] | None = None  # the copies in bfloat16
        strides = [layout.stride(n) for n in layout.sizes]
        widths = [*strides, *strides[1:], strides[-1], strides[-1]]
        arrays = memory.allocate_all([rows * width for width in widths], dtype)
        self.activations, self.deltas = arrays[: len(strides)], arrays[len(strides) : -2]
        self.targets, self.loss_values = arrays[-2:]
        self.records = np.zeros(len(layout.layers), LAYER)
        self.words = memoryview(self.records.view(np.uint64))  # type: ignore[arg-type]
        item = dtype.itemsize
        for k, layer in enumerate(layout.layers):
            record = self.records[k]
            record["kind"] = DENSE_LAYER
            record["n_in"], record["n_out"], record["activation"] = layer.n_in, layer.n_out, layer.activation.code
            record["offset"], record["first_block"] = layer.offset, layer.first_block
            record["inputs"], record["input_row"] = address(self.activations[k]), strides[k] * item
            record["outputs"], record["output_row"] = address(self.activations[k + 1]), strides[k + 1] * item
            record["deltas"] = address(self.deltas[k])
        for record, chance in zip(self.records, layout.regularization.chances, strict=False):  # none for the outputs
            record["drop_below"], record["dropout_scale"] = round(chance * 2**32), 1.0 / (1.0 - chance)
        self.weight_offsets = np.array([layer.offset * item for layer in layout.layers], np.uint64)
        self.transposed_offsets = np.array([layer.transposed_offset * item for layer in layout.layers], np.uint64)
        self.mirror_in(transposed)

    def mirror_in(self, transposed: Array) -> None:
        """Have the transposed weights there."""
        self.records["transposed"] = self.transposed_offsets + np.uint64(address(transposed))
        self.records["transposed"][0] = 0  # no delta goes below layer 0, unless `Engine.backprop` is asked for dJ/dX

    def add_pairs(self, layout: Layout, weights: Sequence[Array], transposed: Sequence[Array]) -> None:
        """Make room for the copies in bfloat16 of all that the products read, of the weights at these places."""
        # A block of few rows, an odd number, may begin at an odd one, where the second thread has its own.
        pairs, records = self.rows // 2 + 1, self.records
        halves = [layout.stride(n) // 2 for n in layout.sizes]
        # By rows, 16 bits an element; behind an odd last row comes one of zeros.
        counts = [pairs * 2 * half for half in halves]
        by_rows, in_pairs, d_by_rows, d_in_pairs = (
            memory.allocate_all(some, np.dtype(np.float32)) for some in (counts, counts, counts[1:], counts[1:])
        )
        for k, layer in enumerate(layout.layers):
            if layer.paired:
                places = weights[k], transposed[k], by_rows[k], in_pairs[k], d_by_rows[k], d_in_pairs[k]
                for name, array in zip(PAIR_FIELDS, places, strict=True):
                    records[k][name] = address(array)
        self.pairs = by_rows, in_pairs, d_by_rows, d_in_pairs

    def point(self, parameters: Array) -> None:
        """Compute with these weights."""
        self.records["weights"] = self.weight_offsets + np.uint64(address(parameters))


def _round_up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _columns(n: int, lanes: int) -> Iterator[tuple[int, int, int]]:
    """(first column, columns, padded width) of the panels that n columns fall into."""
    for first in range(0, n, 2 * lanes):
        width = min(2 * lanes, n - first)
        yield first, width, lanes if width <= lanes else 2 * lanes
