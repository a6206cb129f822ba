"""Small SVG charts for the README: horizontal bars and lines.

Colours are neutral and follow the reader's light or dark mode where the viewer tells; without it they are
readable on both.
"""

import math
from xml.sax.saxutils import escape

WIDTH = 760
LABEL = 230          # room for the bars' names
VALUE = 120          # room for the numbers behind them
BAR = 20
GAP = 8

STYLE = """<style>
text { font: 13px -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a; }
.title { font-size: 15px; font-weight: 600; }
.small { font-size: 11px; }
.axis { stroke: #8c959f; stroke-width: 1; fill: none; }
.grid { stroke: #8c959f; stroke-width: 1; stroke-opacity: 0.25; fill: none; }
.ours { fill: #2da44e; } .other { fill: #8c959f; }
.line-ours { stroke: #2da44e; stroke-width: 2.5; fill: none; }
.line-other { stroke: #8c959f; stroke-width: 2.5; fill: none; }
.range { stroke: #24292f; stroke-width: 1.5; }
@media (prefers-color-scheme: dark) {
  text { fill: #adbac7; } .ours { fill: #46954a; } .other { fill: #768390; }
  .line-ours { stroke: #46954a; } .line-other { stroke: #768390; } .range { stroke: #cdd9e5; }
}
</style>"""


def frame(title, caption, height, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">\n{STYLE}\n'
            f'<text class="title" x="10" y="24">{escape(title)}</text>\n'
            f'<text class="small" x="10" y="42">{escape(caption)}</text>\n' + "\n".join(body) + "\n</svg>\n")


def number(value):
    if value == 0:
        return "0"
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}"


def bars(title, caption, groups):
    """groups: [(heading, [(name, (first quartile, median, third quartile), is ours), ...]), ...]"""
    most = max(quartiles[2] for _, rows in groups for _, quartiles, _ in rows) or 1
    scale = (WIDTH - LABEL - VALUE) / most
    body = []
    y = 58
    for heading, rows in groups:
        if heading:
            body.append(f'<text x="10" y="{y + 14}">{escape(heading)}</text>')
            y += 24
        for name, (first, median, third), ours in rows:
            middle = y + BAR / 2
            body.append(f'<text x="{LABEL - 8}" y="{middle + 4}" text-anchor="end">{escape(name)}</text>')
            body.append(f'<rect class="{"ours" if ours else "other"}" x="{LABEL}" y="{y}" '
                        f'width="{max(median * scale, 1):.1f}" height="{BAR}" rx="2"/>')
            body.append(f'<line class="range" x1="{LABEL + first * scale:.1f}" x2="{LABEL + third * scale:.1f}" '
                        f'y1="{middle}" y2="{middle}"/>')
            body.append(f'<text x="{LABEL + max(median, third) * scale + 8:.1f}" y="{middle + 4}">'
                        f'{number(median)}</text>')
            y += BAR + GAP
        y += GAP
    return frame(title, caption, y + 4, body)


def round_step(most):
    """The round number that divides 0..most into at most five parts."""
    step = 10 ** math.floor(math.log10(most))
    while most / step < 2.5:
        step /= 2
    while most / step > 5:
        step *= 2
    return step


def lines(title, caption, x_name, names, series):
    """series: [(name, [value at names[0], ...], is ours), ...]"""
    left, right, top, bottom = 70, 150, 62, 300
    grid = round_step(max(max(values) for _, values, _ in series))
    parts = math.ceil(max(max(values) for _, values, _ in series) / grid)
    most = parts * grid
    step = (WIDTH - left - right) / max(len(names) - 1, 1)
    body = []

    def at(i, value):
        return f"{left + i * step:.1f},{bottom - value / most * (bottom - top):.1f}"

    for part in range(parts + 1):
        value = part * grid
        y = bottom - (bottom - top) * part / parts
        body.append(f'<line class="{"axis" if part == 0 else "grid"}" x1="{left}" x2="{WIDTH - right}" '
                    f'y1="{y:.1f}" y2="{y:.1f}"/>')
        body.append(f'<text class="small" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{number(value)}</text>')
    for i, name in enumerate(names):
        body.append(f'<text class="small" x="{left + i * step:.1f}" y="{bottom + 18}" '
                    f'text-anchor="middle">{escape(str(name))}</text>')
    body.append(f'<text class="small" x="{(left + WIDTH - right) / 2:.1f}" y="{bottom + 36}" '
                f'text-anchor="middle">{escape(x_name)}</text>')
    for name, values, ours in series:
        points = " ".join(at(i, v) for i, v in enumerate(values))
        kind = "ours" if ours else "other"
        body.append(f'<polyline class="line-{kind}" points="{points}"/>')
        end = bottom - values[-1] / most * (bottom - top)
        body.append(f'<text x="{WIDTH - right + 8}" y="{end + 4:.1f}">{escape(name)}</text>')
    return frame(title, caption, bottom + 48, body)
