"""Shares of work: rows of a batch, and the weight blocks that phase 2 works on. The kernels' page has their order."""

from __future__ import annotations

import numpy as np

from fastbp.kernels.jit import jit
from fastbp.kernels.records import Region
from fastbp.kernels.simd import ONE, TWO, ZERO, in_pairs, lanes
from fastbp.kernels.tuning import CLAIM_PERCENT, MAX_RUN

CLAIM_ROUNDS = np.uint64(len(CLAIM_PERCENT))


@jit
def share(n, part, parts):
    """Number of the first of n things in a part, of `parts` even ones. A part ends where the next one begins."""
    if np.uintp(parts) == ONE:  # without a division: a step of one row takes 400 ns
        return np.uintp(n) if np.uintp(part) != ZERO else ZERO
    return np.uintp(n) * np.uintp(part) // np.uintp(parts)


@jit
def cut(n, number, parts):
    """Where claim `number` of n things begins: the claims of a round are of one size, those of the next are smaller."""
    turn, place = number // parts, number % parts
    begin, size = np.uintp(0), np.uintp(CLAIM_PERCENT[0])
    if turn == ONE:
        begin, size = np.uintp(CLAIM_PERCENT[0]), np.uintp(CLAIM_PERCENT[1])
    elif turn == np.uintp(2):
        begin, size = np.uintp(CLAIM_PERCENT[0] + CLAIM_PERCENT[1]), np.uintp(CLAIM_PERCENT[2])
    elif turn == np.uintp(3):
        begin, size = np.uintp(100 - CLAIM_PERCENT[3]), np.uintp(CLAIM_PERCENT[3])
    elif turn > np.uintp(3):  # where the last claim ends
        begin, size = np.uintp(100), np.uintp(0)
    return n * (begin * parts + size * place) // (np.uintp(100) * parts)


@jit
def even_blocks(n, limit):
    """Rows a block, at most `limit`, so that n rows fall into blocks of one size, or nearly so."""
    if n <= limit:
        return max(ONE, n)
    blocks = max(ONE, (n + limit - ONE) // limit)
    return max(ONE, (n + blocks - ONE) // blocks)


@jit
def from_pair(row, rows, tag):
    """Where a share of `rows` rows that would begin at `row` does begin: in pairs, no pair is cut."""
    return min(np.uintp(rows), np.uintp(row) + (np.uintp(row) & ONE)) if in_pairs(tag) else row


@jit
def all_from(k):
    """The weight blocks of all layers from k on."""
    return Region(np.uintp(k), ZERO, ZERO, ZERO, ZERO, ZERO)


@jit
def panel_vectors(n, panel, size):
    """1 or 2: the vectors in a panel of n columns."""
    wide = TWO * size
    return TWO if n - panel * wide > size else ONE


@jit
def blocks_per_panel(layer, tag):
    """Weight blocks, each 2 vectors high, in a panel of a layer."""
    wide = TWO * lanes(tag)
    return (layer.n_in + wide - ONE) // wide


@jit
def blocks_at(panels, blocks, local):
    """(panel, block, blocks that go on from there in one run) of weight block number `local` of some panels.

    Blocks count along a run, then from panel to panel, then from run to run: the activations that a run reads stay in
    the cache while all panels of deltas pass by.
    """
    run = np.uintp(MAX_RUN)
    # Without a division, of 20 cycles, where there is one panel or run, or one block in a panel.
    band = local // (run * panels) if local >= run * panels else ZERO
    rest = local - band * run * panels
    in_run = min(run, blocks - band * run)
    panel = rest if in_run == ONE else (rest // in_run if rest >= in_run else ZERO)
    place = rest - panel * in_run
    return panel, band * run + place, in_run - place


@jit
def blocks_place(layer, panel, block, count, tag):
    """(first element, elements) of some blocks of a panel in the flat parameters, where they lie together."""
    size = lanes(tag)
    wide = TWO * size
    width = panel_vectors(layer.n_out, panel, size) * size
    i0 = block * wide
    n = min(count * wide, layer.n_in - i0)
    if i0 + n == layer.n_in:
        n += ONE
    return layer.offset + panel * wide * (layer.n_in + ONE) + i0 * width, n * width


@jit
def weights_in(layer, panel, block, count, tag):
    """Elements of some blocks of a panel that are weights, not biases: those come last."""
    size = lanes(tag)
    wide = TWO * size
    return min(count * wide, layer.n_in - block * wide) * panel_vectors(layer.n_out, panel, size) * size
