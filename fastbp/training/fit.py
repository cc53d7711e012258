"""The arguments of `MLP.fit`, checked before anything is changed, and what carries it out."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from fastbp import optimizers, schedules, validation
from fastbp.data import sample_weights, splits
from fastbp.training import checkpoints, feeds, lbfgs, loop
from fastbp.training.history import History

if TYPE_CHECKING:
    from fastbp.network import MLP


def fit(
    net: MLP, X: Any, y: Any, epochs: int, batch_size: int, optimizer: Any, schedule: Any, validation_data: Any,
    validation_split: float, sample_weight: Any, class_weight: Any, shuffle: bool, callbacks: Any, resume: Any,
    steps_per_epoch: int | None, threads: int | None, progress: bool,
) -> History:  # fmt: skip
    """See `MLP.fit`."""
    if y is None:
        if sample_weight is not None or class_weight is not None:
            raise ValueError("with chunks, weights come with them: make each chunk (X, y, sample_weight)")
        return fit_chunks(
            net, X, epochs, batch_size, optimizer, schedule, validation_data, validation_split, shuffle, callbacks,
            resume, steps_per_epoch, threads, progress,
        )  # fmt: skip
    if steps_per_epoch is not None:
        raise ValueError(f"steps_per_epoch={steps_per_epoch!r} is for chunks: with X and y, the rows tell")
    recipe, plan = optimizers.get(optimizer), schedules.get(schedule)
    epochs, batch_size, shuffle, threads, progress = check_settings(epochs, batch_size, shuffle, threads, progress)
    watching = validation.check_callbacks(callbacks)
    samples, targets, weights, _ = net.session.check_batch(X, y, sample_weight, scan=True)
    saved = checkpoints.find(resume, watching)
    rows = held = held_out = None
    if validation_split:
        if validation_data is not None:
            raise ValueError(f"give validation_data or validation_split={validation_split!r}, not both")
        validation_split = validation.check_fraction("validation_split", validation_split)
        seed = net.seed if saved is None else saved.seed
        rows, held, rare = splits.hold_out(
            net.session.spec, net.class_labels, y, targets, validation_split, seed, in_order=not shuffle
        )
        if rare:
            warnings.warn(f"validation_split={validation_split:g}: {rare}", UserWarning, stacklevel=4)
        sample_weights.check_total(None if weights is None else weights[held], what="held-out rows")
        held_out = samples, targets, weights  # of which only the held rows are read
    elif validation_data is not None:
        names = "validation X", "validation y", "validation sample_weight"
        held_out = net.session.check_batch(*sample_weights.parts(validation_data), scan=True, names=names)[:3]
        sample_weights.check_total(held_out[2], what="validation rows")
    if held_out is None:
        loop.check_no_validation_needed(watching, schedules.plateau_of(plan))
    weights = sample_weights.apply_class_weight(class_weight, net.session.spec, y, targets, weights, rows)
    sample_weights.check_total(weights, rows, "training rows")
    if sample_weight is not None or class_weight is not None:
        sample_weights.check_effect(weights, rows, batch_size)
    recipe.check_fit(len(samples) if rows is None else len(rows), batch_size, plan, net.regularization)
    with net.session.lock:
        run = lbfgs.FullBatchFit if recipe.full_batch else loop.Fit
        fit = run(
            net, samples, targets, rows, epochs, batch_size, recipe, held_out, shuffle, threads, progress,
            plan, watching, weights, held=held, saved=saved,
        )  # fmt: skip
        return fit.run()


def check_settings(
    epochs: int, batch_size: int, shuffle: bool, threads: int | None, progress: bool
) -> tuple[int, int, bool, int | None, bool]:
    """Those that arrays and chunks have in common, as plain values."""
    return (
        validation.check_positive_int("epochs", epochs),
        validation.check_positive_int("batch_size", batch_size),
        validation.check_flag("shuffle", shuffle),
        loop.check_threads(threads),
        validation.check_flag("progress", progress),
    )


def fit_chunks(
    net: MLP, chunks: Any, epochs: int, batch_size: int, optimizer: Any, schedule: Any, validation_data: Any,
    validation_split: float, shuffle: bool, callbacks: Any, resume: Any, steps_per_epoch: int | None,
    threads: int | None, progress: bool,
) -> History:  # fmt: skip
    """`fit` on chunks."""
    recipe, plan = optimizers.get(optimizer), schedules.get(schedule)
    epochs, batch_size, shuffle, threads, progress = check_settings(epochs, batch_size, shuffle, threads, progress)
    watching = validation.check_callbacks(callbacks)
    recipe.check_step()  # chunks come one after the other: there is no full batch
    steps_per_epoch = feeds.check(plan, steps_per_epoch, validation_split, watching)
    source = feeds.source_of(chunks, epochs)
    if validation_data is None:
        loop.check_no_validation_needed(watching, schedules.plateau_of(plan))
    else:
        names = "validation X", "validation y", "validation sample_weight"
        validation_data = net.session.check_batch(*sample_weights.parts(validation_data), scan=True, names=names)[:3]
        sample_weights.check_total(validation_data[2], what="validation rows")
    saved = checkpoints.find(resume, watching)
    with net.session.lock:
        return feeds.StreamFit(
            net, source, epochs, batch_size, recipe, validation_data, shuffle, threads, progress, plan, watching,
            steps_per_epoch, saved,
        ).run()  # fmt: skip
