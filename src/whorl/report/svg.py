"""Elements of SVG as escaped text: what goes in as a name can't come out as markup."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Caption", "Scale", "drawing", "element", "steps", "text"]


@dataclass(frozen=True)
class Scale:
    """Values ``low`` to ``high`` onto pixels ``start`` to ``end``, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        """Pixel of a value."""
        low, high, value = (math.log(v) if self.logarithmic else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Caption:
    """What a picture is called and shows, for those who cannot see it. ``key`` is unique in its page."""

    title: str
    description: str
    key: str


def element(name: str, *children: str, **attributes: str | float) -> Markup:
    """One element. ``class_`` stands for class, ``stroke_width`` for stroke-width; children that are text are escaped.

    Numbers are written to a hundredth of a pixel: what is finer can't be seen, and costs bytes.
    """
    written = (
        f' {key.rstrip("_").replace("_", "-")}="{escape(value if isinstance(value, str) else _short(value))}"'
        for key, value in attributes.items()
    )
    return Markup(f"<{name}{''.join(written)}>{''.join(map(escape, children))}</{name}>")


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Markup:
    """A line of text with its baseline at ``y``."""
    return element("text", content, x=x, y=y, class_=class_, text_anchor=anchor)


def steps(scale_x: Scale, scale_y: Scale, x: Sequence[float], y: Sequence[float]) -> str:
    """Path data of a step function that is ``y[i]`` on each (x[i-1], x[i]]."""
    points = [f"M{_short(scale_x(x[0]))} {_short(scale_y(y[1]))}"]
    for i in range(1, len(x)):
        points.append(f"V{_short(scale_y(y[i]))}H{_short(scale_x(x[i]))}")
    return "".join(points)


def drawing(size: tuple[float, float], caption: Caption, *children: str, style: str = "", margin: float = 0) -> Markup:
    """A whole picture.

    Parameters:
        size: width and height in pixels.
        style: CSS of a picture that stands alone; a page brings its own.
        margin: empty pixels left and right of ``size``.
    """
    width, height, key = size[0] + 2 * margin, size[1], caption.key
    head = [
        element("title", caption.title, id=f"{key}-title"),
        element("desc", caption.description, id=f"{key}-desc"),
    ]
    if style:
        head.append(element("style", Markup(style)))
    return element(
        "svg",
        *head,
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"{_short(-margin)} 0 {_short(width)} {_short(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
    )


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
