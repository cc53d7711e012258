"""The network and the task as data: one record a layer, one record a call. No network shape triggers a compile.

Every field is an integer or a float; addresses and strides are in bytes, counts in rows, columns or elements.
Numba reads the fields by name in compiled code; `fastbp.engine.layout` fills them in.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np
from numba import from_dtype, types

_ADDRESS = _COUNT = _CODE = _STRIDE = np.uint64

LAYER = np.dtype(
    [
        ("kind", _CODE),  # of layer: DENSE_LAYER
        ("n_in", _COUNT),
        ("n_out", _COUNT),
        ("activation", _CODE),
        ("offset", _COUNT),  # elements before this layer's weights in parameters, moments and gradient
        ("weights", _ADDRESS),  # column panels, each (n_in + 1, 1 or 2 vectors): row n_in is the bias
        ("transposed", _ADDRESS),  # the same weights without biases, panels over n_in; 0 where no delta is sent down
        ("inputs", _ADDRESS),  # (batch, input_row): activations of the layer below, or the gathered rows of X
        ("input_row", _STRIDE),
        ("outputs", _ADDRESS),  # (batch, output_row): f(z); or z, where nothing is to be applied
        ("output_row", _STRIDE),
        ("deltas", _ADDRESS),  # (batch, output_row): z, then f'(z), then dJ/dz
        ("first_block", _COUNT),  # number of this layer's first weight block among those of all layers
        ("drop_below", np.uint64),  # 0, or 2^32 times the chance that one of its units is dropped
        ("dropout_scale", np.float64),  # by what the other units are scaled
        ("weight_rates", _COUNT),  # bytes from a thread's rates to those of the weights, and to those of the biases:
        ("bias_rates", _COUNT),  # 0 where no factor of `lr_scale` is theirs
        # Copies in bfloat16, see `pairs.py`; used by kernels in pairs alone.
        ("weights_in_pairs", _ADDRESS),  # column panels of pairs of rows, then the biases in float32; 0: stays float32
        ("transposed_in_pairs", _ADDRESS),  # the same of the transposed weights; 0 where no delta is sent down
        ("inputs_by_rows", _ADDRESS),  # (batch, input_row / 2)
        ("inputs_in_pairs", _ADDRESS),  # (pairs of rows of the batch, input_row)
        ("deltas_by_rows", _ADDRESS),  # (batch, output_row / 2)
        ("deltas_in_pairs", _ADDRESS),  # (pairs of rows of the batch, output_row)
    ],
    align=True,
)

# Values of LAYER["kind"].
DENSE_LAYER = 0
# Values of JOB["mode"].
TRAIN, BACKPROP, UPDATE, FORWARD, EVALUATE = range(5)
# Values of the status, which threads share; a thread only ever raises it (`atomic_max`): an error outranks a stop.
# It tells the caller how a call has ended. Threads decide by their votes at a barrier instead, see `team.py`.
RUNNING, STOPPED, DIVERGED, RUINED, BAD_INPUT, BAD_LABEL, STUCK = range(7)
BAD = (BAD_INPUT, BAD_LABEL)
# Values of the word that asks a call to end. ABANDON: a thread of the team will never come.
GO_ON, STOP, ABANDON = range(3)
# Values of JOB["X_kind"] and of JOB["y_kind"].
FLOAT32, FLOAT64, UINT8 = range(3)
NO_TARGETS, LABELS, DENSE, DELTAS = range(4)
# Values of JOB["shuffle"]: rows in order; a new order at the start of every epoch; and at the first step too; or at the
# start of every epoch the next of those that stand in `subset`, one behind the other.
IN_ORDER, SHUFFLE, SHUFFLE_NOW, GIVEN = range(4)

JOB = np.dtype(
    [
        ("mode", np.int64),
        ("n_layers", _COUNT),
        ("n_threads", np.int64),
        ("noisy", np.int64),  # the call wants dropout and input noise
        ("input_deltas", _ADDRESS),  # BACKPROP: (n, input_row), dJ/dX; or 0
        ("snapshot_steps", _COUNT),  # take a snapshot after every so many steps of an epoch, or 0: never
        ("snapshot_epochs", _COUNT),  # and at the end of every so many epochs
        ("columns", _COUNT),  # leading layers that are by columns, see `columns.py`; 0: all are by rows
        ("parts", _COUNT),  # parts that the threads fall into, which share the columns of those layers
        ("n_blocks", _COUNT),  # weight blocks of all layers
        # data
        ("X", _ADDRESS),
        ("X_row", np.int64),
        ("X_column", np.int64),
        ("X_kind", _CODE),
        ("x_mean", _ADDRESS),  # (n_in,) float64, or 0: the gathered rows become (x - mean) * scale
        ("x_scale", _ADDRESS),
        ("x_narrow", _ADDRESS),  # (3, n_in) float32: mean, what float32 leaves out of it, scale; or 0, see `gather.py`
        ("scan", np.int64),  # look for NaN and infinity in the rows
        ("y", _ADDRESS),  # int64 labels (n,), or numbers (n, n_out) in the dtype of the network, without gaps:
        # targets, or (DELTAS) dJ/dz of the output layer itself
        ("y_kind", _CODE),
        ("row_weights", _ADDRESS),  # (n,) float64 weights of the rows, by row number; or 0: all count the same
        ("order", _ADDRESS),  # (n,) int64 row numbers in the order of the epoch, or 0 for the rows as they stand
        ("subset", _ADDRESS),  # (n,) int64 row numbers that a shuffle starts from, or 0 for all; or the orders GIVEN
        ("n_samples", _COUNT),
        ("n_dropped", _COUNT),  # of these, the last in the order of an epoch that are not trained on
        ("outputs", _ADDRESS),  # FORWARD: (n, n_out) without gaps
        # the steps
        ("batch_size", _COUNT),
        ("n_steps", _COUNT),
        ("position", _COUNT),  # rows of this epoch done
        ("epoch", _COUNT),
        ("shuffle", np.int64),
        ("seed", np.uint64),
        ("block_rows", _COUNT),  # rows that go through all layers together
        ("n_groups", _COUNT),  # 0, or: shares of the batch whose weight gradients are summed apart, see `step.py`
        ("two_pass", np.int64),  # store the gradient, then update: a stop is honoured up to the last moment
        ("copy_weights", np.int64),  # kernels in pairs: the copies of the weights are stale, make them first
        # cost
        ("loss", _CODE),
        ("loss_parameter", np.float64),
        ("loss_columns", _COUNT),  # 1, or n_out where the cost is a mean over elements
        ("loss_factor", np.float64),  # by which the cost is multiplied as it is reported,
        ("slope_factor", np.float64),  # and as it is descended
        ("row_losses", _ADDRESS),  # (batch,)
        ("targets", _ADDRESS),  # (batch, output_row of the last layer)
        ("loss_values", _ADDRESS),  # the same
        ("losses", _ADDRESS),  # (n_steps,) float64: J of every step
        ("mean_weights", _ADDRESS),  # (n_steps,) float64: mean weight of its rows, written where rows have weights
        # descent
        ("optimizer", _CODE),
        ("lr", np.float64),
        ("lrs", _ADDRESS),  # (n_steps,) float64 learning rates that take its place, or 0
        ("momenta", _ADDRESS),  # (n_steps,) float64 in the place of beta1, or 0
        ("lr_scales", _ADDRESS),  # (n_scales,) float64 factors of the learning rate, each of which has its own rates
        ("n_scales", _COUNT),
        ("input_rates", _COUNT),  # bytes from a thread's rates to those of the scales of the inputs
        ("scaled_rates", _COUNT),  # bytes from a thread's rates to those of the first factor
        ("weight_decay", np.float64),  # added to the gradient, times the weight
        ("decoupled", np.float64),  # of the weights themselves, times the learning rate
        ("lr_before", np.float64),  # of the step before this call; 0: momentum is of gradients, not of steps
        ("beta1", np.float64),
        ("beta2", np.float64),
        ("eps", np.float64),
        ("eps_first", np.int64),  # added before the bias correction of the mean square
        ("coefficients", np.float64, (4,)),  # what they are called is said in the rule's line of `optimizers.RULES`
        ("clip_norm", np.float64),  # largest Euclidean norm of the gradient, or 0
        ("clip_value", np.float64),  # largest absolute value of its elements, or 0; either needs two passes
        ("t", _COUNT),  # updates done
        # regularisation
        ("input_noise", np.float64),  # standard deviation
        ("l1", np.float64),  # the cost grows by l1 |w| + l2 w^2, for weights
        ("l2", np.float64),
        ("alpha", np.float64),  # and by alpha / 2 w^2 over the weight of the batch, which the losses include
        ("alpha_rate", np.float64),  # alpha over that weight in the step that is made, see `penalty.py`
        ("max_norm", np.float64),  # of the incoming weights of a unit, or 0
        ("input_scale", _COUNT),  # elements before the scales of the inputs in the parameters, or 0: there are none
        ("scale_partials", _ADDRESS),  # (panels of layer 0, n_in up to a whole vector), see `input_scale.py`
        ("parameters", _ADDRESS),
        ("state1", _ADDRESS),
        ("state2", _ADDRESS),
        ("state3", _ADDRESS),
        # what to go back to after a divergence, see `snapshot.py`
        ("snapshot", _ADDRESS),  # (1 + moments, n_parameters)
        ("snapshot_scalars", _ADDRESS),  # (2, n_scalars)
        ("scalars", _ADDRESS),  # (2, n_scalars) float64: the rule's own after an even and an odd number of updates
        ("n_scalars", _COUNT),
        ("gradient", _ADDRESS),  # as parameters
        ("partials", _ADDRESS),  # (n_groups, n_parameters)
        ("n_parameters", _COUNT),  # elements, padding included
        # threads
        ("scratch", _ADDRESS),
        ("scratch_size", _COUNT),  # bytes a thread: one gradient block
        ("areas", _ADDRESS),  # (parts, batch, input_row of layer 0): the gathered rows of each part, and a gap
        ("area_size", _COUNT),  # bytes a part
        ("zeros", _ADDRESS),  # as many zeros as the widest layer, padded
        ("barrier", _ADDRESS),  # int64 counter on a cache line of its own
        ("claims", _ADDRESS),  # int64 counter on a cache line of its own: shares of work that threads have taken
        ("dynamic", np.int64),  # threads claim their shares one after the other, instead of one fixed share each
        ("stop", _ADDRESS),  # int64 on a cache line of its own: set from outside
        ("status", _ADDRESS),  # int64 on a cache line of its own
        ("watch", _ADDRESS),  # 0, or a record of each thread for the watchdog and the tests, see `team.py`
        ("profile", _ADDRESS),  # 0, or a record of ticks a thread, see `clock.py`
        ("profile_size", _COUNT),  # bytes a thread
        ("profile_from", _COUNT),  # step of a call with which its counting begins
        # results, on a cache line that other threads do not read
        ("apart", _COUNT, (8,)),
        ("steps_done", _COUNT),  # updates of all calls: only ever grows
        ("snapshot_step", _COUNT),  # steps of this call after which the last snapshot was taken, or 0
        ("bad_row", _COUNT),
    ],
    align=True,
)

Layer, Job = from_dtype(LAYER), from_dtype(JOB)

# The rows of a step. start: place of the first in the epoch; rows: their number; weight: sum of their weights, 0 where
# rows have none; key: of dropout and input noise in this step, or 0.
Batch = namedtuple("Batch", "start rows weight key")
# Rows that go through all layers together. row: the first in the buffers; rows: their number; place: of the first in
# the batch.
Block = namedtuple("Block", "row rows place")
# Weight blocks that phase 2 works on: those of some panels of one layer, at some places in each; or, where `panels` is
# 0, those of all layers from one on. layer: its number; panel, block: the first; inputs: address of what the layer
# reads, row 0 of the batch.
Region = namedtuple("Region", "layer panel panels block blocks inputs")
# A buffer of rows. address: of its first element; row: bytes from one row to the next.
Matrix = namedtuple("Matrix", "address row")
Layers = types.Array(Layer, 1, "C")
BatchType = types.NamedTuple((types.uintp, types.uintp, types.float64, types.uintp), Batch)
BlockType = types.NamedUniTuple(types.uintp, 3, Block)
RegionType = types.NamedUniTuple(types.uintp, 6, Region)
MatrixType = types.NamedUniTuple(types.uintp, 2, Matrix)
