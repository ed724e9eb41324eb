"""Words and boxes of the pictures that are drawn here as SVG."""

from __future__ import annotations

from html import escape

INK, FAINT, GRID = "#222", "#777", "#e3e3e3"
STYLE = (
    f"text{{font:12px system-ui,sans-serif;fill:{INK}}}.faint{{fill:{FAINT}}}.title{{font-size:18px;font-weight:600}}"
    ".head{font-weight:600}.small{font-size:10px}"
)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """`kind` is a class of the style."""
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, opacity: float = 1.0) -> str:
    """A filled rectangle."""
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}" fill-opacity="{opacity:g}"/>'
    )


def document(width: int, height: int, *parts: str) -> str:
    """A picture on white."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{STYLE}</style>{box(0, 0, width, height, '#fff')}{''.join(parts)}</svg>\n"
    )
