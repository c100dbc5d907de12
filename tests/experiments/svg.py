"""Line and bar charts as SVG texts: axes, linear or logarithmic, error bars, a band that is accepted. Readable on light and dark."""
import math
from dataclasses import dataclass, field

WIDTH, HEIGHT = 640, 380
LEFT, RIGHT, TOP, BOTTOM = 64, 18, 40, 52
STYLE = """
  .back{fill:#ffffff} .ink{fill:#1f2430} .rule{stroke:#1f2430;fill:none} .grid{stroke:#d9dce3;fill:none} .band{fill:#1f2430;opacity:.08}
  .c0{fill:#1f6fb4;stroke:#1f6fb4} .c1{fill:#c8501e;stroke:#c8501e} .c2{fill:#2a8a4a;stroke:#2a8a4a} .c3{fill:#8a4fb0;stroke:#8a4fb0} .c4{fill:#8f7a12;stroke:#8f7a12}
  text{font:12px system-ui,sans-serif;stroke:none} .title{font-weight:600;font-size:14px} .line{fill:none;stroke-width:2}
  @media (prefers-color-scheme: dark){
  .back{fill:#14171d} .ink{fill:#e4e7ee} .rule{stroke:#e4e7ee} .grid{stroke:#343a46} .band{fill:#e4e7ee}
  .c0{fill:#66b0ee;stroke:#66b0ee} .c1{fill:#f0895c;stroke:#f0895c} .c2{fill:#66c98a;stroke:#66c98a} .c3{fill:#c495e6;stroke:#c495e6} .c4{fill:#d8c14e;stroke:#d8c14e}
  .line{fill:none}}
"""


@dataclass
class Series:
    """Points (x, y) or (x, y, half the length of the error bar)."""
    name: str
    points: list
    markers_only: bool = False


@dataclass
class Axis:
    label: str
    log: bool = False
    least: float = None
    most: float = None
    ticks: list = field(default_factory=list)      # (value, text); empty: chosen


def _escape(text):
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _short(value):
    if value != 0 and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


class _Scale:
    def __init__(self, axis, values, begin, end, pad=0.06):
        self.log, self.begin, self.end = axis.log, begin, end
        values = [self._to(v) for v in values if v is not None and math.isfinite(v) and (v > 0 or not axis.log)]
        low = self._to(axis.least) if axis.least is not None else min(values)
        high = self._to(axis.most) if axis.most is not None else max(values)
        margin = pad * ((high - low) or 1)
        self.low = low if axis.least is not None else low - margin
        self.high = high if axis.most is not None else high + margin

    def _to(self, value):
        return math.log10(value) if self.log else value

    def __call__(self, value):
        share = (self._to(value) - self.low) / (self.high - self.low)
        return self.begin + min(max(share, -0.02), 1.02) * (self.end - self.begin)

    def ticks(self):
        if self.log:
            decades = range(math.ceil(self.low), math.floor(self.high) + 1)
            factors = (1,) if len(decades) > 3 else (1, 2, 5)
            values = [m * 10.0 ** d for d in range(math.floor(self.low), math.ceil(self.high) + 1) for m in factors]
            return [(v, _short(v)) for v in values if self.low <= math.log10(v) <= self.high]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (m * step) <= 7)
        first = math.ceil(self.low / step)
        return [(i * step, _short(round(i * step, 10))) for i in range(first, math.floor(self.high / step) + 1)]


def _frame(title, x_axis, y_axis, x, y, x_ticks):
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{_escape(title)}">',
             f"<style>{STYLE}</style>", f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
             f'<text class="ink title" x="{LEFT}" y="22">{_escape(title)}</text>']
    for value, text in y_axis.ticks or y.ticks():
        parts.append(f'<path class="grid" d="M{LEFT} {y(value):.1f}H{right}"/><text class="ink" text-anchor="end" x="{LEFT - 6}" y="{y(value) + 4:.1f}">{text}</text>')
    for value, text in x_ticks:
        parts.append(f'<text class="ink" text-anchor="middle" x="{x(value):.1f}" y="{bottom + 17}">{_escape(text)}</text>')
    parts.append(f'<path class="rule" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    parts.append(f'<text class="ink" text-anchor="middle" x="{(LEFT + right) / 2}" y="{HEIGHT - 12}">{_escape(x_axis.label)}</text>')
    parts.append(f'<text class="ink" text-anchor="middle" transform="translate(15 {(TOP + bottom) / 2}) rotate(-90)">{_escape(y_axis.label)}</text>')
    return parts


def _legend(parts, names, at_bottom):
    top = HEIGHT - BOTTOM - 14 - 16 * (len(names) - 1) if at_bottom else TOP + 12
    width = 26 + 6.6 * max(len(name) for name in names)
    left = WIDTH - RIGHT - width - 4
    parts.append(f'<rect class="back" opacity=".85" x="{left - 4:.0f}" y="{top - 13}" width="{width + 6:.0f}" height="{16 * len(names) + 4}"/>')
    for i, name in enumerate(names):
        parts.append(f'<rect class="c{i}" x="{left:.0f}" y="{top + 16 * i - 8}" width="12" height="8"/>'
                     f'<text class="ink" x="{left + 18:.0f}" y="{top + 16 * i}">{_escape(name)}</text>')


def _error_bar(parts, colour, x, low, high):
    parts.append(f'<path class="c{colour} line" d="M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {low:.1f}h8M{x - 4:.1f} {high:.1f}h8"/>')


def lines(title, x_axis, y_axis, series, legend_at_bottom=False):
    points = [p for s in series for p in s.points]
    x = _Scale(x_axis, [p[0] for p in points], LEFT, WIDTH - RIGHT, 0.04)
    y = _Scale(y_axis, [v for p in points for v in (p[1] - (p[2] if len(p) > 2 else 0), p[1] + (p[2] if len(p) > 2 else 0))], HEIGHT - BOTTOM, TOP)
    parts = _frame(title, x_axis, y_axis, x, y, x_axis.ticks or x.ticks())
    for i, s in enumerate(series):
        if not s.markers_only:
            parts.append(f'<path class="c{i} line" d="M' + "L".join(f"{x(p[0]):.1f} {y(p[1]):.1f}" for p in s.points) + '"/>')
        for p in s.points:
            parts.append(f'<circle class="c{i}" cx="{x(p[0]):.1f}" cy="{y(p[1]):.1f}" r="{4 if s.markers_only else 3}"/>')
            if len(p) > 2 and p[2] > 0:
                _error_bar(parts, i, x(p[0]), y(p[1] - p[2]), y(p[1] + p[2]))
    if len(series) > 1:
        _legend(parts, [s.name for s in series], legend_at_bottom)
    return "\n".join(parts + ["</svg>\n"])


def bars(title, y_axis, groups, series, band=None):
    """`series`: one Series each with points (index of the group, y, error); from zero, or from the axis's least. `band`: (low, high)."""
    x_axis = Axis("", least=-0.5, most=len(groups) - 0.5)
    values = [v for s in series for p in s.points for v in (p[1], p[1] + (p[2] if len(p) > 2 else 0), p[1] - (p[2] if len(p) > 2 else 0))]
    x = _Scale(x_axis, [0], LEFT, WIDTH - RIGHT)
    y = _Scale(y_axis, values + ([0] if y_axis.least is None and not y_axis.log else []), HEIGHT - BOTTOM, TOP)
    parts = _frame(title, x_axis, y_axis, x, y, list(enumerate(groups)))
    if band:
        high, low = y(band[1]), y(band[0])
        parts.append(f'<rect class="band" x="{LEFT}" y="{high:.1f}" width="{WIDTH - LEFT - RIGHT}" height="{low - high:.1f}"/>')
    ground = HEIGHT - BOTTOM if y_axis.least is not None or y_axis.log else y(0)
    width = 0.8 / len(series)
    for i, s in enumerate(series):
        for p in s.points:
            left, right = x(p[0] - 0.4 + i * width), x(p[0] - 0.4 + (i + 0.9) * width)
            top, bottom = min(ground, y(p[1])), max(ground, y(p[1]))
            parts.append(f'<rect class="c{i}" opacity=".8" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{max(bottom - top, 0.5):.1f}"/>')
            if len(p) > 2 and p[2] > 0:
                _error_bar(parts, i, (left + right) / 2, y(p[1] - p[2]), y(p[1] + p[2]))
    parts.append(f'<path class="rule" d="M{LEFT} {ground:.1f}H{WIDTH - RIGHT}"/>')
    if len(series) > 1:
        _legend(parts, [s.name for s in series], False)
    return "\n".join(parts + ["</svg>\n"])
