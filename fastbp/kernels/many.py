"""Trainings of networks of any kinds in one native call, on one thread: each has its own job, bound as `fit` binds it.

A job goes on for so many steps, or for some epochs with a validation or a copy of the parameters after each. The jobs
of one call share buffers, so these stay in the core's cache. Nothing here is compiled a second time: it is `run.py`
that does the work.
"""

from __future__ import annotations

import numpy as np
from numba import from_dtype, types

from fastbp.kernels.atomics import atomic_load
from fastbp.kernels.clock import now
from fastbp.kernels.jit import jit, leaf, plain
from fastbp.kernels.records import EVALUATE, GO_ON, RUNNING, TRAIN, Job, Layer
from fastbp.kernels.run import run
from fastbp.kernels.simd import ONE, TWO, ZERO, itemsize, lanes, view
from fastbp.kernels.snapshot import is_ruined, save
from fastbp.kernels.sweep import clear

_ADDRESS = _COUNT = np.uint64

TRAINEE = np.dtype(
    [
        ("wanted", _COUNT),  # steps that this call is to make, or 0: none
        ("rounds", _COUNT),  # 0, or: epochs of so many steps each
        ("validates", np.int64),  # after each of these
        ("copies", np.uint64),  # 0, or: where the parameters after each of them go, one behind the other
        ("keep", np.int64),  # begin by a snapshot
        ("mirror", np.int64),  # and by the transposed copy of the weights
        # What the call leaves:
        ("made", _COUNT),  # steps
        ("done", _COUNT),  # rounds, their validation included, if there is one
        ("kept", _COUNT),  # steps of this call up to the last snapshot
        ("kept_any", np.int64),  # there was one in this call
        ("status", np.int64),  # of the training, or of a validation that met bad rows
        ("validating", np.int64),  # the status is that of a validation
        ("bad_row", _COUNT),
        ("ticks", np.int64),  # spent on steps
        ("ruined", np.int64),  # after the last step, a parameter is not finite
    ],
    align=True,
)

Trainee = from_dtype(TRAINEE)
TRAINING, VALIDATION = 0, 1  # columns of the array of jobs


@jit
def mirror(layers, n_layers, tag):
    """Write the transposed copy of all weights but those of layer 0, as `engine.layout` has it."""
    size = lanes(tag)
    wide = TWO * size
    for k in range(ONE, n_layers):
        layer = layers[k]
        n_in, n_out = layer.n_in, layer.n_out
        rows, columns = (n_out + size - ONE) // size * size, (n_in + size - ONE) // size * size
        source, target = view(layer.weights, (n_in + ONE) * rows, tag), view(layer.transposed, rows * columns, tag)
        for j in range(n_out):
            first = j // wide * wide
            width = size if n_out - first <= size else wide
            start = first * (n_in + ONE) + j - first
            for i in range(n_in):
                panel = i // wide * wide
                padded = size if n_in - panel <= size else wide
                target[panel * rows + j * padded + i - panel] = source[start + i * width]


@jit
def make_steps(jobs, layers, one, n, tag):
    """Make n more steps of a training; its losses, rates and place in the data follow those of the steps made."""
    job = jobs[0]
    job.mode, job.n_threads, job.n_steps, job.snapshot_step = TRAIN, 1, n, ZERO
    before = job.steps_done
    clear(job)
    since = now()
    run(jobs, layers, 0, tag)
    job.copy_weights = 0
    one.ticks += now() - since
    made = job.steps_done - before
    if job.snapshot_step != ZERO:
        one.kept, one.kept_any = one.made + job.snapshot_step, 1
    one.made += made
    one.status = atomic_load(job.status)
    one.bad_row = job.bad_row
    eights = made * np.uint64(8)
    job.t += made
    job.losses += eights
    job.mean_weights += eights
    if job.lrs != ZERO:
        job.lrs += eights
    if job.momenta != ZERO:
        job.momenta += eights


@jit
def validate(jobs, layers, one, tag):
    """Score the rows held out: outputs and losses of rows, behind those of the validations before."""
    check = jobs[0]
    check.mode, check.n_threads = EVALUATE, 1
    clear(check)
    run(jobs, layers, 0, plain(tag))
    status = atomic_load(check.status)
    if status != RUNNING:
        one.status, one.validating, one.bad_row = status, 1, check.bad_row
        return
    check.row_losses += check.n_samples * itemsize(tag)
    check.outputs += check.n_samples * layers[check.n_layers - ONE].n_out * itemsize(tag)


@jit
def copy_parameters(job, one, tag):
    """Copy the parameters behind those of the epochs before."""
    source, target = view(job.parameters, job.n_parameters, tag), view(one.copies, job.n_parameters, tag)
    for i in range(job.n_parameters):
        target[i] = source[i]
    one.copies += job.n_parameters * itemsize(tag)


@leaf(
    types.Array(Job, 3, "C"), types.Array(Layer, 2, "C"), types.Array(Trainee, 1, "C"), types.int64, types.int64,
    calls=[run], pairs=(),
)  # fmt: skip
def train_many(jobs, layers, trainees, first, end, tag):
    """Train those of these numbers, one after the other; a stop that is asked for ends the call within a step.

    jobs: (n, 2, 1), for training and for validation; layers: (n, n_layers), of the deepest.
    """
    for number in range(first, end):
        one, own = trainees[number], layers[number]
        training, validation = jobs[number, TRAINING], jobs[number, VALIDATION]
        job = training[0]
        one.made, one.done, one.kept, one.kept_any, one.ticks = ZERO, ZERO, ZERO, 0, 0
        one.status, one.validating = RUNNING, 0
        if one.wanted == ZERO or atomic_load(job.stop) != GO_ON:
            continue
        if one.mirror != 0:
            mirror(own, job.n_layers, tag)
        job.copy_weights = 1  # those at hand are of another network
        if one.keep != 0:
            job.n_threads = 1
            save(job, 0, tag)
        if one.rounds == ZERO:
            make_steps(training, own, one, one.wanted, tag)
        for _ in range(one.rounds):
            make_steps(training, own, one, one.wanted, tag)
            if one.status != RUNNING:
                break
            job.epoch += ONE
            if one.validates != 0:
                validate(validation, own, one, tag)
                if one.status != RUNNING:
                    break
            one.done += ONE
            if one.copies != ZERO:
                copy_parameters(job, one, tag)
        one.ruined = is_ruined(job, 0, tag)
