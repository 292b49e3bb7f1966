"""Figures for files: without pyplot, which keeps figures and asks for a display."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
FONTS = ("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans", "PingFang SC", "Microsoft YaHei")
"""Tried in this order for each character, as far as they are installed."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path, *, dpi: int = DPI) -> None:
    """Write a figure whole or not at all; the suffix says the format.

    Raises OSError where the file cannot be written, and ValueError for a format that nobody knows.
    """
    from matplotlib.font_manager import fontManager
    from matplotlib.text import Text

    installed = {font.name for font in fontManager.ttflist}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_fontfamily([name for name in FONTS if name in installed])
    temporary = path.with_name(f".{path.name}.tmp{path.suffix}")
    try:
        with warnings.catch_warnings():
            # of a name in a script that no font here has, boxes are drawn; nobody can put that right now
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
            figure.savefig(temporary, dpi=dpi)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
