"""A network in words and figures."""

from __future__ import annotations

from fastbp.engine.layout import Layout
from fastbp.io.overview import Overview
from fastbp.spec import NetworkSpec

HEAD = ("layer", "shape", "activation", "parameters")


def _layers(spec: NetworkSpec, layout: Layout) -> list[tuple[str, str, str, str]]:
    """A row a layer: number, shape, activation, parameters."""
    rows = []
    if layout.scale_offset:
        rows.append(("scale", f"{layout.sizes[0]}", "", f"{layout.sizes[0]:,}"))
    for k, layer in enumerate(layout.layers):
        shape, parameters = f"{layer.n_in} x {layer.n_out}", f"{(layer.n_in + 1) * layer.n_out:,}"
        rows.append((str(k), shape, spec.layer_activations[k], parameters))
    return rows


def overview(spec: NetworkSpec, layout: Layout, title: str) -> Overview:
    """The layers, and what regularises them."""
    penalties = str(spec.regularization)
    return Overview(title, HEAD, _layers(spec, layout), [penalties] if penalties else [])


def summary(spec: NetworkSpec, layout: Layout) -> str:
    """A table of layers, parameters and flops, and the memory that training takes."""
    rows = [HEAD, *_layers(spec, layout)]
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if penalties := str(spec.regularization):
        lines.append(penalties)
    flops = sum(2 * layer.n_in * layer.n_out for layer in layout.layers)
    lines.append(
        f"{spec.n_parameters:,} parameters, {flops:,} flops a row forward, {layout.flops_per_row:,} a training row"
    )
    plain, adam = (layout.memory(0, n_moments) for n_moments in (0, 2))
    row = layout.memory(1, 0) - plain
    if spec.dtype == "float32" and any(layer.paired for layer in layout.layers):
        more = layout.memory(0, 0, in_pairs=True) - plain
        of_a_row = (layout.memory(2, 0, in_pairs=True) - layout.memory(2, 0) - more) // 2
        lines.append(
            f"products in bfloat16: {more / 1e6:,.3g} MB more, and {of_a_row / 1e3:,.3g} kB for each row of a batch"
        )
    lines.append(
        f"memory of fit: {plain / 1e6:,.3g} MB with SGD, {adam / 1e6:,.3g} MB with Adam, and {row / 1e3:,.3g} kB "
        "for each row of a batch"
    )
    return "\n".join(lines)
