"""Line and bar charts as SVG elements, for `report.py`: axes with round ticks, a title at every point.

Colours are the page's variables `--s0` to `--s5`; lines differ in their dashes as well.
"""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

Number = float | int  # steps are whole, losses are not; the tests' type checker tells them apart
Point = tuple[Number, Number]
Bar = tuple[Number, Number, Number]  # value, low, high

WIDTHS = {"wide": 760, "narrow": 360}
PLOT_HEIGHT = 300
REFERENCE_HEIGHT = 15  # of the line that names a reference
BAR_HEIGHT = 30
LETTER_WIDTH = 6.6  # of the charts' 12 px letters, on average
MAX_POINTS = 400  # drawn a series; more are thinned to the extremes of each stretch
DASHES = ("", "7 4", "2 3", "9 3 2 3", "4 2", "1 4")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A stretch of numbers laid on a stretch of the drawing, with round ticks."""

    low: Number
    high: Number
    start: Number  # where `low` is drawn
    end: Number

    def place(self, value: Number) -> float:
        """Where a number is drawn."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, count: int) -> list[tuple[Number, str]]:
        """About `count` round numbers inside, with their text."""
        step = _round_step((self.high - self.low) / max(1, count))
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        values = [index * step for index in range(first, last + 1)]
        return [(value, _tick_text(value, decimals)) for value in values]


def padded_range(values: Sequence[Number], *, share: float = 0.06) -> Point:
    """The least and greatest of some numbers with air around; a constant gets a stretch of its own size."""
    low, high = min(values), max(values)
    if math.isclose(low, high, rel_tol=1e-9, abs_tol=1e-12):
        air = abs(low) * 0.1 or 1.0
        return low - air, high + air
    air = (high - low) * share
    return (0.0 if low >= 0 > low - air else low - air), high + air


def draw_lines(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str, width: int) -> Iterator[str]:
    """The inside of a line chart's SVG."""
    finite = [point for points in series.values() for point in points if is_finite(point)]
    xs, ys = [x for x, _ in finite], [y for _, y in finite]
    low, high = padded_range(ys)
    bottom = PLOT_HEIGHT - (42 if x_label else 24)
    y_scale = Scale(low=low, high=high, start=bottom, end=26 if y_label else 10)
    y_ticks = y_scale.ticks(5)
    left = 10 + LETTER_WIDTH * max(len(text) for _, text in y_ticks)
    x_low, x_high = (min(xs), max(xs)) if min(xs) < max(xs) else padded_range(xs)
    x_scale = Scale(low=x_low, high=x_high, start=left, end=width - 12)
    for value, text in y_ticks:
        y = y_scale.place(value)
        yield f'<line class="grid" x1="{left:.1f}" x2="{width - 12}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text x="{left - 7:.1f}" y="{y + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    yield f'<line class="axis" x1="{left:.1f}" x2="{width - 12}" y1="{bottom}" y2="{bottom}"/>'
    for value, text in x_scale.ticks(width // 90):
        x = x_scale.place(value)
        yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 19}" text-anchor="middle">{escape(text)}</text>'
    if y_label:
        yield f'<text x="0" y="12">{escape(y_label)}</text>'
    if x_label:
        yield f'<text x="{width - 12}" y="{PLOT_HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>'
    for i, (name, points) in enumerate(series.items()):
        yield from _line(i, name, points, x_scale, y_scale)


def _line(index: int, name: str, points: Sequence[Point], x_scale: Scale, y_scale: Scale) -> Iterator[str]:
    """One series: its stretches without gaps, a dot at its end, and a hidden dot with a title at every point."""
    colour = f"var(--s{index % 6})"
    for stretch in _stretches(points):
        placed = [(x_scale.place(x), y_scale.place(y)) for x, y in stretch]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in placed)
        yield f'<path class="line" d="{path}" stroke="{colour}" stroke-dasharray="{DASHES[index % 6]}"/>'
        for (x, y), (at_x, at_y) in zip(stretch, placed, strict=True):
            is_end = (x, y) == stretch[-1]
            hidden = "dot" if is_end else "dot hit"
            yield f'<circle class="{hidden}" cx="{at_x:.1f}" cy="{at_y:.1f}" r="4" fill="{colour}">'
            yield f"<title>{escape(name)}: {escape(figure(y))} at {escape(figure(x))}</title></circle>"


def _stretches(points: Sequence[Point]) -> list[list[Point]]:
    """The runs of finite points, thinned to the extremes when there are too many to draw."""
    stretches: list[list[Point]] = [[]]
    for point in points:
        if is_finite(point):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [_thinned(stretch) for stretch in stretches if stretch]


def _thinned(points: list[Point]) -> list[Point]:
    if len(points) <= MAX_POINTS:
        return points
    size = math.ceil(len(points) / (MAX_POINTS / 2))
    kept = [points[0]]
    for start in range(0, len(points), size):
        bucket = range(start, min(start + size, len(points)))
        least, greatest = min(bucket, key=lambda i: points[i][1]), max(bucket, key=lambda i: points[i][1])
        kept += [points[i] for i in sorted({least, greatest})]
    return [*kept, points[-1]]


def bars_height(count: int, num_references: int, width: int) -> int:
    """How high a bar chart is drawn."""
    return count * (BAR_HEIGHT + _name_height(width)) + REFERENCE_HEIGHT * num_references + 30


def draw_bars(
    bars: Mapping[str, Bar], known: Mapping[str, Bar], references: Mapping[str, Number], width: int
) -> Iterator[str]:
    """The inside of a bar chart's SVG: names beside the bars (above them when narrow), values right, a scale below."""
    ends = [end for bar in known.values() for end in bar] + list(references.values())
    above = _name_height(width)
    names_width = 1 if above else min(max(map(len, bars)) * (LETTER_WIDTH + 0.4) + 12, width * 0.34)
    top = REFERENCE_HEIGHT * len(references) + (4 if references else 0)
    bottom = top + len(bars) * (BAR_HEIGHT + above)
    low, high = min(0.0, *ends), max(0.0, *ends)
    scale = Scale(low=low, high=high if high > low else low + 1, start=names_width, end=width - 66)
    for value, text in scale.ticks((width - 66 - round(names_width)) // 70):
        x = scale.place(value)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{escape(text)}</text>'
    tops = [top + i * (BAR_HEIGHT + above) for i in range(len(bars))]
    for y, label in zip(tops, bars, strict=True):
        if label in known:
            yield _one_bar(label, known[label], scale, y + above)
    for number, (name, value) in enumerate(references.items(), 1):  # each name on a line of its own
        x, y = scale.place(value), REFERENCE_HEIGHT * number
        anchor, shift = ("end", -5) if x > width * 0.6 else ("start", 5)
        yield f'<line class="reference" x1="{x:.1f}" x2="{x:.1f}" y1="{y - 10}" y2="{bottom}"/>'
        text = f"{escape(name)} {figure(value)}"
        yield f'<text class="reference-name" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{text}</text>'
    for y, (label, bar) in zip(tops, bars.items(), strict=True):
        shown = _shortened(label, int((width if above else names_width - 10) / (LETTER_WIDTH + 0.4)))
        yield f'<text class="bar-name" x="0" y="{y + 19}">{escape(shown)}<title>{escape(label)}</title></text>'
        value_text = escape(figure(bar[0]))
        yield f'<text class="bar-value" x="{width}" y="{y + above + 19}" text-anchor="end">{value_text}</text>'


def _name_height(width: int) -> int:
    """What a name needs above its bar; nothing where the names stand beside the bars."""
    return 18 if width < 500 else 0


def _one_bar(label: str, bar: Bar, scale: Scale, y: Number) -> str:
    value, low, high = bar
    zero, end = scale.place(0.0), scale.place(value)
    left, right, middle = scale.place(low), scale.place(high), y + BAR_HEIGHT / 2
    whisker = f"M{left:.1f} {middle - 4}v8m0 -4H{right:.1f}m0 -4v8" if high > low else ""
    return (
        f'<g><rect x="{min(zero, end):.1f}" y="{y + 6}" width="{abs(end - zero):.1f}" height="{BAR_HEIGHT - 12}"'
        f' rx="2" fill="var(--s0)" fill-opacity=".75"/><path class="whisker" d="{whisker}"/>'
        f"<title>{escape(label)}: {figure(value)}, interval {figure(low)} to {figure(high)}</title></g>"
    )


def figure(value: object) -> str:
    """A value for people: `figure(1234567) -> '1,234,567'`, `figure(0.123456) -> '0.1235'`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if not math.isfinite(value):
        return "—"
    if isinstance(value, int) or (value.is_integer() and abs(value) < 1e15):
        return f"{value:,.0f}"
    return (
        f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if 1e-4 <= abs(value) < 1e6 else f"{value:.3g}"
    )


def swatch(index: int) -> str:
    """A short piece of a series' line, for the legend."""
    line = f'<line x1="0" x2="26" y1="5" y2="5" stroke="var(--s{index % 6})" stroke-width="2.5"'
    return f'<svg aria-hidden="true" viewBox="0 0 26 10">{line} stroke-dasharray="{DASHES[index % 6]}"/></svg>'


def span(points: Sequence[Point]) -> str:
    """Where a series begins and ends, in words."""
    return f"{figure(points[0][1])} at {figure(points[0][0])} to {figure(points[-1][1])} at {figure(points[-1][0])}"


def _tick_text(value: Number, decimals: int) -> str:
    if value == 0:
        return "0"
    return f"{value:.3g}" if decimals > 4 or abs(value) >= 1e6 else f"{value:,.{decimals}f}"


def _round_step(rough: Number) -> float:
    """The least of 1, 2, 5 times a power of ten that is not below `rough`."""
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def _shortened(text: str, letters: int) -> str:
    return text if len(text) <= letters else text[: max(1, letters - 1)] + "…"


def is_finite(point: Point) -> bool:
    """Whether a point can be drawn."""
    return math.isfinite(point[0]) and math.isfinite(point[1])


def escape(text: str) -> str:
    """Text that cannot become markup."""
    return html.escape(text, quote=True)
