"""Labels at the ends of lines: in a figure of many, a legend has to be looked up."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def apart(values: Sequence[float], gap: float) -> np.ndarray:
    """
    :param values: ascending
    :param gap: that labels need
    :return: where labels go: no two nearer to each other than that, and as a whole where the values are
    """
    steps = gap * np.arange(len(values))
    pushed = np.maximum.accumulate(np.asarray(values) - steps) + steps
    return pushed - np.mean(pushed - values)  # type: ignore[no-any-return]


def label_ends(axes: Axes, x: float, ends: Sequence[tuple[str, float, str]], gap: float, fontsize: float = 8) -> None:
    """
    Write names to the right of the axes, at the heights at which their lines end, with a leader where one had to give way.

    :param axes: with its limits as they will be
    :param x: where the lines end, in data
    :param ends: name, height in data, and colour of each line
    :param gap: between labels, as a share of the axes' height
    :param fontsize: in points
    """
    low, high = axes.get_ylim()
    ends = sorted(ends, key=lambda end: end[1])
    places = apart([height for _, height, _ in ends], gap * (high - low))
    for (name, height, color), place in zip(ends, places, strict=True):
        axes.annotate(
            name,
            (x, height),
            (1.045, place),
            xycoords="data",
            textcoords=axes.get_yaxis_transform(),
            fontsize=fontsize,
            color=color,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": color,
                "linewidth": 0.6,
                "shrinkA": 0,
                "shrinkB": 2,
                "relpos": (0, 0.5),
            },
        )
