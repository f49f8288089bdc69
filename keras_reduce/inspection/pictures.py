"""SVG picture of an architecture: a box for each layer, and lines from its inputs."""

from __future__ import annotations

import html

from ..core.report_tree import plain
from .models import Layer, Model

__all__ = ["picture"]

_WIDTH, _HEIGHT, _GAP, _STEP = 190, 44, 24, 74
_MOST = 300  # layers in a picture


def picture(model: Model) -> str:
    """Return an SVG picture of the layers of a model; empty without layers."""
    layers = model.layers[:_MOST]
    if not layers:
        return ""
    names = {layer.name: number for number, layer in enumerate(layers)}
    inputs = [_inputs(number, layer, names, model) for number, layer in enumerate(layers)]
    ranks: list[int] = []
    for above in inputs:
        ranks.append(1 + max((ranks[each] for each in above), default=-1))
    columns: list[int] = []
    filled: dict[int, int] = {}
    for rank in ranks:
        columns.append(filled.get(rank, 0))
        filled[rank] = columns[-1] + 1
    width = max(filled.values()) * (_WIDTH + _GAP) + _GAP
    height = (max(ranks) + 1) * _STEP + _GAP

    def place(number: int) -> tuple[float, float]:
        offset = (width - filled[ranks[number]] * (_WIDTH + _GAP) + _GAP) / 2
        return offset + columns[number] * (_WIDTH + _GAP), _GAP / 2 + ranks[number] * _STEP

    parts = []
    for number, above in enumerate(inputs):
        x, y = place(number)
        for each in above:
            from_x, from_y = place(each)
            parts.append(
                f'<line x1="{from_x + _WIDTH / 2:.0f}" y1="{from_y + _HEIGHT:.0f}" '
                f'x2="{x + _WIDTH / 2:.0f}" y2="{y:.0f}" stroke="#888"/>'
            )
    parts += [_box(layer, *place(number)) for number, layer in enumerate(layers)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="12">'
        f"{''.join(parts)}</svg>"
    )


def _inputs(number: int, layer: Layer, names: dict[str, int], model: Model) -> list[int]:
    """Return the numbers of the inbound layers of a layer; in a chain, the previous one."""
    inbound = [names[name] for name in layer.inputs if names.get(name, number) < number]
    is_chain = not any(each.inputs for each in model.layers)
    return inbound or ([number - 1] if is_chain and number else [])


def _box(layer: Layer, x: float, y: float) -> str:
    colour = {"keras": "#eef3fb", "by reference": "#fdf3dc"}.get(layer.origin, "#fbe1e1")
    head = html.escape(plain(layer.cls)[:28])
    rest = html.escape(plain(f"{layer.name}  {layer.parameters:,}")[:32])
    return (
        f'<g><rect x="{x:.0f}" y="{y:.0f}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="{colour}" stroke="#778"/>'
        f'<text x="{x + 10:.0f}" y="{y + 18:.0f}" font-weight="bold">{head}</text>'
        f'<text x="{x + 10:.0f}" y="{y + 35:.0f}" fill="#555">{rest}</text></g>'
    )
