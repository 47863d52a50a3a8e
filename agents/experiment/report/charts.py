"""Line charts as SVG: no dependency, sharp at any size, in the colours of the page or the viewer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mapgym.agents.experiment.report.markup import Markup, element, joined

WIDTH = 460
"""Of a chart, in pixels."""

_PLOT = 236  # height of the part with the lines, the same however long the legend is
_LEFT, _RIGHT, _BOTTOM = 58, 14, 42
_DOT = 4.5  # radius of a point
_LINE, _LETTER = 17, 6.3  # pixels of a line of text and of a letter in the legend

# Okabe and Ito's palette, which people with colour-blindness can tell apart; the last one is the colour of text.
_COLORS = 7
THEME_CSS = """\
:root { color-scheme: light dark; --ink: #1b1f24; --muted: #59636e; --grid: #d8dee4; --page: #ffffff; --panel: #f6f8fa;
  --accent: #0058a3; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #cc79a7; --c4: #56b4e9; --c5: #b8860b;
  --c6: #1b1f24; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --muted: #9da7b1; --grid: #30363d; --page: #0d1117; --panel: #161b22; --accent: #6cb6ff;
    --c0: #4aa3df; --c1: #ff8c42; --c2: #2fcf9f; --c3: #e39cc5; --c4: #8fd3ff; --c5: #e6b325; --c6: #e6edf3; }
}
"""
CHART_CSS = """\
.chart { font: 12px system-ui, sans-serif; }
.chart text { fill: var(--ink); } .chart .tick { fill: var(--muted); font-size: 11px; }
.chart .title { font-weight: 600; font-size: 13px; }
.chart .grid { stroke: var(--grid); } .chart .frame { stroke: var(--muted); fill: none; }
.chart .dot { stroke: none; }
.chart .line { fill: none; stroke-width: 2; stroke-linejoin: round; } .chart .band { opacity: 0.16; stroke: none; }
""" + "".join(
    f".chart .s{i} {{ stroke: var(--c{i}); }} .chart .band.s{i}, .chart .dot.s{i} {{ fill: var(--c{i}); }}\n"
    for i in range(_COLORS)
)
_DASHES = (None, "7 4", "2 3", "8 3 2 3")


@dataclass(frozen=True)
class Series:
    """One line of a chart.

    Attributes:
        name: for the legend.
        index: of its colour; the same thing has the same in all charts.
        x, y: float64[n]; points that are not finite are left out.
        low, high: float64[n], a band around the line, if any.
        points: names of the n points, which are drawn as dots then, without a line; each shows its name when it is
            pointed at.
    """

    name: str
    index: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    points: Sequence[str] | None = None


@dataclass(frozen=True)
class Axis:
    """One axis of a chart.

    Attributes:
        label: what it shows, with unit.
        low, high: its ends.
        logarithmic: whether equal ratios are equally long.
        text: writes a tick.
    """

    label: str
    low: float
    high: float
    logarithmic: bool = False
    text: Callable[[float], str] = "{:g}".format

    def place(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values are along the axis, 0 to 1; those outside are put at its ends."""
        low, high, values = self.low, self.high, np.clip(values, self.low, self.high)
        if self.logarithmic:
            low, high, values = math.log(low), math.log(high), np.log(values)
        return (values - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values within the ends, at least two where there is room."""
        if self.logarithmic and self.high / self.low > 20:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            return [10.0**exponent for exponent in range(first, last + 1, 1 + (last - first) // 8)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(factor for factor in (1, 2, 5, 10) if (self.high - self.low) / (step * factor) <= 6)
        return [step * i for i in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Chart:
    """A chart of lines and points.

    Attributes:
        title: above it.
        x, y: its axes.
        series: its lines.
        steps: whether lines keep their value until the next point.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    steps: bool = False

    @property
    def height(self) -> int:
        """In pixels."""
        return 26 + _LINE * self._legend()[1] + _PLOT + _BOTTOM

    def to_svg(self) -> Markup:
        """The chart as an ``svg`` element; its colours are those of ``THEME_CSS`` and ``CHART_CSS``."""
        legend, legend_lines = self._legend()
        top = 26 + _LINE * legend_lines
        width, height = WIDTH - _LEFT - _RIGHT, _PLOT
        inner = joined([*self._grid(width, height), *(self._draw(line, width, height) for line in self.series)])
        x_label = element("text", self.x.label, x=_LEFT + width / 2, y=self.height - 6, text_anchor="middle")
        turned = f"translate(13 {top + height / 2}) rotate(-90)"
        y_label = element("text", self.y.label, transform=turned, text_anchor="middle")
        names = ", ".join(line.name for line in self.series)
        return element(
            "svg",
            element("title", f"{self.title}: {self.y.label} against {self.x.label} of {names}"),
            element("text", self.title, class_="title", x=_LEFT, y=15),
            legend,
            element("g", inner, transform=f"translate({_LEFT} {top})"),
            x_label,
            y_label,
            xmlns="http://www.w3.org/2000/svg",
            class_="chart",
            viewBox=f"0 0 {WIDTH} {self.height}",
            width=WIDTH,
            height=self.height,
            role="img",
        )

    def _legend(self) -> tuple[Markup, int]:
        """The legend above the chart, and how many lines it takes."""
        items, x, line = [], float(_LEFT), 0
        for series in self.series:
            needed = 26 + _LETTER * len(series.name) + 10
            if x + needed > WIDTH and x > _LEFT:
                x, line = float(_LEFT), line + 1
            y = 26 + _LINE * line
            sample = element(
                "path", d=f"M{x:.0f} {y}h20", class_=_class("line", series), stroke_dasharray=_dash(series)
            )
            if series.points is not None:
                sample = element("circle", cx=round(x + 10), cy=y, r=_DOT, class_=_class("dot", series))
            items += [sample, element("text", series.name, x=round(x + 26), y=y + 4)]
            x += needed
        return joined(items), line + 1 if items else 0

    def _grid(self, width: float, height: float) -> list[Markup]:
        parts = []
        for tick in self.x.ticks():
            x = round(float(self.x.place(np.array(tick))) * width, 1)
            parts.append(element("path", d=f"M{x} 0v{height}", class_="grid"))
            parts.append(element("text", self.x.text(tick), x=x, y=height + 15, class_="tick", text_anchor="middle"))
        for tick in self.y.ticks():
            y = round((1.0 - float(self.y.place(np.array(tick)))) * height, 1)
            parts.append(element("path", d=f"M0 {y}h{width}", class_="grid"))
            parts.append(element("text", self.y.text(tick), x=-6, y=y + 4, class_="tick", text_anchor="end"))
        return [*parts, element("path", d=f"M0 0V{height}H{width}", class_="frame")]

    def _draw(self, series: Series, width: float, height: float) -> Markup:
        drawn = np.isfinite(series.y)
        if series.high is not None:
            drawn &= np.isfinite(series.high)
        if not drawn.any():
            return Markup()
        x = self.x.place(series.x[drawn]) * width

        def path(values: NDArray[np.float64]) -> list[str]:
            y = (1.0 - self.y.place(values[drawn])) * height
            points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)]
            if self.steps:
                corners = [f"{a:.1f} {b:.1f}" for a, b in zip(x[1:], y[:-1], strict=True)]
                points = [points[0], *(p for pair in zip(corners, points[1:], strict=True) for p in pair)]
            return points

        if series.points is not None:
            y = (1.0 - self.y.place(series.y)) * height
            places = zip(self.x.place(series.x) * width, y, series.points, strict=True)
            return joined(
                element(
                    "circle", element("title", name), cx=f"{a:.1f}", cy=f"{b:.1f}", r=_DOT, class_=_class("dot", series)
                )
                for (a, b, name), is_drawn in zip(places, drawn, strict=True)
                if is_drawn
            )
        line = element(
            "path",
            element("title", series.name),
            d="M" + "L".join(path(series.y)),
            class_=_class("line", series),
            stroke_dasharray=_dash(series),
        )
        if series.low is None or series.high is None:
            return line
        outline = [*path(series.low), *reversed(path(series.high))]
        return joined([element("path", d="M" + "L".join(outline) + "Z", class_=_class("band", series)), line])


def to_file(charts: Sequence[Chart], columns: int = 3) -> str:
    """Charts side by side as a file that stands by itself."""
    columns = min(columns, len(charts))
    rows = math.ceil(len(charts) / columns)
    tallest = max(chart.height for chart in charts)
    width, height = WIDTH * columns, tallest * rows
    placed = [
        element("g", chart.to_svg(), transform=f"translate({WIDTH * (i % columns)} {tallest * (i // columns)})")
        for i, chart in enumerate(charts)
    ]
    svg = element(
        "svg",
        element("style", Markup(THEME_CSS + CHART_CSS)),
        element("rect", width="100%", height="100%", fill="var(--page)"),
        *placed,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
    )
    return f"{svg}\n"


def _class(kind: str, series: Series) -> str:
    return f"{kind} s{series.index % _COLORS}"


def _dash(series: Series) -> str | None:
    # Agents that share a colour differ in their dashes, which also help in print.
    return _DASHES[(series.index + 2 * (series.index // _COLORS)) % len(_DASHES)]
