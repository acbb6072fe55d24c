"""Plots as SVG text: lines, points and bars. Every text is escaped here; nothing is loaded and no script is needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 36, 28, 44
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_MOST_LINES = len(_COLOURS)
_ROW = 22

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from ``low`` to ``high`` on a length of ``room`` pixels from ``at``; ``log``: decades are equally long."""

    low: float
    high: float
    at: float
    room: float
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies; values beyond an end lie at it."""
        value = min(max(value, self.low), self.high)
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.at + share * self.room, 1)

    def ticks(self) -> list[float]:
        """Round values along it."""
        if self.log:
            first, last = round(math.log10(self.low)), round(math.log10(self.high))
            return [10.0**power for power in range(first, last + 1)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
        while (self.high - self.low) / step > 8:
            step *= 2.5 if round(math.log10(step) % 1, 1) == 0.3 else 2
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [number * step for number in range(first, last + 1)]


def linear(values: Iterable[float], at: float, room: float) -> Axis:
    """From 0 to a little more than the largest."""
    return Axis(0.0, 1.05 * max([*values, 1e-9]), at, room)


def decades(values: Iterable[float], at: float, room: float, least: float) -> Axis:
    """Whole decades around the values; what is below ``least`` lies at its beginning."""
    found = [max(value, least) for value in values] or [least]
    low = 10.0 ** math.floor(math.log10(min(found)))
    high = 10.0 ** math.ceil(math.log10(max(found)))
    return Axis(low, high if high > low else low * 10, at, room, log=True)


def lines(
    title: str, series: Mapping[str, Points], *, x: str, y: str, log_x: bool = False, level: float | None = None
) -> str:
    """One line for each series, of the first few; ``level``: a dashed line across."""
    shown = dict(list(series.items())[:_MOST_LINES])
    xs = [point[0] for points in shown.values() for point in points]
    ys = [point[1] for points in shown.values() for point in points]
    across = decades(xs, _LEFT, _WIDE, 0.1) if log_x else linear(xs, _LEFT, _WIDE)
    up = linear([*ys, *([level] if level is not None else [])], HEIGHT - _BOTTOM, -_TALL)
    body = [_frame(across, up, x, y)]
    if level is not None:
        at = up.place(level)
        body.append(f'<line class="level" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
    for (name, points), colour in zip(shown.items(), _COLOURS, strict=False):
        path = " ".join(f"{across.place(a)},{up.place(b)}" for a, b in points)
        body.append(f'<polyline stroke="{colour}" points="{path}"><title>{escape(name)}</title></polyline>')
    return _svg(title, HEIGHT, body, list(shown))


def scatter(title: str, series: Mapping[str, Points], *, x: str, y: str, least: float) -> str:
    """Points on two logarithmic axes of one scale, with the diagonal on which both are equal."""
    every = [value for points in series.values() for point in points for value in point]
    across = decades(every, _LEFT, _WIDE, least)
    up = Axis(across.low, across.high, HEIGHT - _BOTTOM, -_TALL, log=True)
    body = [_frame(across, up, x, y)]
    ends = (across.place(across.low), across.place(across.high), up.place(up.low), up.place(up.high))
    body.append(f'<line class="level" x1="{ends[0]}" x2="{ends[1]}" y1="{ends[2]}" y2="{ends[3]}"/>')
    for (_, points), colour in zip(series.items(), _COLOURS, strict=False):
        body += [f'<circle fill="{colour}" r="2" cx="{across.place(a)}" cy="{up.place(b)}"/>' for a, b in points]
    return _svg(title, HEIGHT, body, list(series))


def bars(title: str, rows: Sequence[tuple[str, float]], *, x: str, level: float) -> str:
    """A bar for each row; ``level``: a dashed line down."""
    height = _TOP + _BOTTOM + _ROW * max(1, len(rows))
    across = linear([*(value for _, value in rows), level], 2.5 * _LEFT, WIDTH - 2.5 * _LEFT - _RIGHT)
    body = []
    for number, (name, value) in enumerate(rows):
        top, right = _TOP + number * _ROW, across.place(value)
        body.append(
            f'<rect fill="{_COLOURS[0]}" x="{across.at}" y="{top + 4}" width="{right - across.at:.1f}" height="14"/>'
        )
        body.append(f'<text class="end" x="{across.at - 6}" y="{top + 15}">{escape(name[:28])}</text>')
        body.append(f'<text x="{right + 4}" y="{top + 15}">{value:.2f}</text>')
    bottom, at = height - _BOTTOM, across.place(level)
    body.append(f'<line class="level" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>')
    body += [_tick_below(across.place(tick), bottom, tick) for tick in across.ticks()]
    body.append(f'<text class="mid" x="{across.at + across.room / 2}" y="{height - 6}">{escape(x)}</text>')
    return _svg(title, height, body, [])


_WIDE = WIDTH - _LEFT - _RIGHT
_TALL = HEIGHT - _TOP - _BOTTOM


def _frame(across: Axis, up: Axis, x: str, y: str) -> str:
    bottom = HEIGHT - _BOTTOM
    parts = [f'<rect class="frame" x="{_LEFT}" y="{_TOP}" width="{_WIDE}" height="{_TALL}"/>']
    parts += [_tick_below(across.place(tick), bottom, tick) for tick in across.ticks()]
    for tick in up.ticks():
        at = up.place(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="end" x="{_LEFT - 6}" y="{at + 4}">{_number(tick)}</text>')
    parts.append(f'<text class="mid" x="{_LEFT + _WIDE / 2}" y="{HEIGHT - 6}">{escape(x)}</text>')
    turn = f"rotate(-90 14 {_TOP + _TALL / 2})"
    parts.append(f'<text class="mid" transform="{turn}" x="14" y="{_TOP + _TALL / 2}">{escape(y)}</text>')
    return "".join(parts)


def _tick_below(at: float, bottom: float, value: float) -> str:
    mark = f'<line class="tick" x1="{at}" x2="{at}" y1="{bottom}" y2="{bottom + 5}"/>'
    return f'{mark}<text class="mid" x="{at}" y="{bottom + 18}">{_number(value)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 else f"{value:g}"


def _svg(title: str, height: int, body: Iterable[str], names: Sequence[str]) -> str:
    legend = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in zip(names, _COLOURS, strict=False)
    )
    label = escape(title)
    return (
        f'<figure><figcaption>{label}</figcaption><svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
        f'{"".join(body)}</svg><p class="legend">{legend}</p></figure>'
    )
