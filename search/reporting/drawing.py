"""A figure as the page holds it, and how it looks in light and in dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from search.reporting.facts import Fact

if TYPE_CHECKING:
    import plotly.graph_objects as go

ACCENT = "#3b7dc4"
COLOURS = {
    "complete": ACCENT,
    "pruned": "#9aa4af",
    "diverged": "#c8645a",
    "infeasible": "#c9a557",
    "failed": "#8d5a86",
    "unfinished": "#63a088",
}
"""By outcome; readable on white and on black."""
PHASES = {"search": ACCENT, "confirm": "#63a088", "refit": "#c9a557"}
LABEL = 28
"""Most characters of a name in a figure."""


@dataclass(frozen=True)
class Figure:
    """One figure, or why there is none."""

    name: str
    """Of its element in the page."""
    title: str
    text: tuple[str | Fact, ...] = ()
    """What stands below it: sentences, with the values in them as facts."""
    plot: go.Figure | None = None
    """None where it cannot be drawn: then `text` says why."""
    wide: bool = False
    """Whether it scrolls inside itself on a telephone instead of shrinking."""

    @property
    def height(self) -> int:
        """In pixels."""
        assert self.plot is not None
        return int(self.plot.layout.height)

    @property
    def json(self) -> Markup:
        """Data and layout, to stand inside a script element."""
        assert self.plot is not None
        document = self.plot.to_plotly_json()
        document["layout"].pop("template", None)  # the page has its own, for light and for dark
        return script_json({"data": document["data"], "layout": document["layout"]})


def script_json(document: Any) -> Markup:
    """JSON that no HTML parser mistakes for markup."""
    from plotly.io.json import to_json_plotly  # knows what plotly figures are made of

    escaped = str(to_json_plotly(document))
    for sign in "<>&\u2028\u2029":
        escaped = escaped.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(escaped)  # noqa: S704  without <, > and & a script element stays one


def plain_figure(*, height: int, **layout: Any) -> go.Figure:
    """An empty figure in the style of the page."""
    import plotly.graph_objects as go

    figure = go.Figure()
    restyle(figure, height=height, **layout)
    return figure


def restyle(figure: go.Figure, *, height: int, **layout: Any) -> None:
    """Give a figure, Optuna's too, the style of the page: its title stands above it as text."""
    figure.update_layout(
        title=None,
        height=height,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        plot_bgcolor=None,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "title": None},
        **layout,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)


def label(name: object, width: int = LABEL) -> str:
    """A name for plotly, which would draw some HTML: shortened and escaped."""
    text = " ".join(str(name).split())
    text = text if len(text) <= width else f"{text[: width - 1]}…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def labels(names: Sequence[object], width: int = LABEL) -> list[str]:
    """Names for plotly, each different from the others."""
    found: list[str] = []
    for position, name in enumerate(names):
        short = label(name, width)
        found.append(short if short not in found else f"{label(name, width - 6)} ({position + 1})")
    return found


def templates() -> Markup:
    """Plotly's templates for the two colour schemes, as JSON by name."""
    return script_json(
        {
            "light": _template("#1d2329", "#5b6570", "#e6e9ec", "#ffffff", "#f6f8fa", dark=False),
            "dark": _template("#e7eaee", "#a3adb8", "#2c333b", "#171b20", "#1d2228", dark=True),
        }
    )


def _template(text: str, soft: str, lines: str, ground: str, low: str, *, dark: bool) -> dict[str, Any]:
    axis = {
        "gridcolor": lines,
        "zerolinecolor": lines,
        "linecolor": lines,
        "tickfont": {"color": soft},
        "title": {"font": {"color": soft, "size": 13}, "standoff": 10},
    }
    strong = "#7db2ea" if dark else "#1f5c9f"
    return {
        "layout": {
            "font": {"family": "system-ui, sans-serif", "size": 12, "color": text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"bgcolor": ground, "bordercolor": lines, "font": {"color": text}},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": soft, "activecolor": ACCENT},
        },
        # steep at the low end: few mistakes among many images are what one looks for
        "data": {"heatmap": [{"colorscale": [[0, low], [0.02, lines], [0.2, ACCENT], [1, strong]]}]},
    }
