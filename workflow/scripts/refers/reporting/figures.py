"""The figures: rules, AUC against label share (Figure 2), class activation maps (Figure 3), ROC, calibration, learning curves.

Lines differ in colour (Okabe and Ito's palette), dash and marker, so that they can be told apart in grey print and with
colour blindness. Text in a PDF stays text, in embedded fonts.
"""

import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from refers.evaluation.localisation import HIT, Maps
from refers.files import atomic_path
from refers.reporting import rule_graph

COLOURS = ["#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8C6D31"]
MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
DASHES = ["-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 2))]
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8,
    "figure.titlesize": 9,
    # long enough to show a dash and a marker
    "legend.handlelength": 3.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "figure.constrained_layout.use": True,
    # Titles are text: a `$` is a dollar.
    "text.parse_math": False,
}
# matplotlib measures wrapped text as mathematics whatever `text.parse_math` says, so every `$` in it is escaped.
WRAPPED: dict[str, Any] = {"wrap": True, "parse_math": True}
# The legend of all panels. Below them it would overlap the axes' labels and the note.
BESIDE = "outside right upper"
# Side of a small panel in inches, and panels per row
PANEL, COLUMNS = 1.9, 4
# False-positive rates at which the ROC curves of several seeds are averaged
POINTS = np.linspace(0, 1, 201)


def style_of(method: dict, place: int) -> dict[str, Any]:
    """The line of a method: that of its place in the study, the same in all figures, or in this figure where none is given."""
    return line_style(method.get("line", place))


def line_style(place: int) -> dict[str, Any]:
    """Colour, dash and marker of the line at `place`, another set for each; the first one, ours, is the heaviest."""
    # a colour that comes again has another dash and marker
    turn, colour = divmod(place, len(COLOURS))
    return {
        "color": COLOURS[colour],
        "linestyle": DASHES[(colour + turn) % len(DASHES)],
        "marker": MARKERS[(colour + 3 * turn) % len(MARKERS)],
        "linewidth": 1.8 if place == 0 else 1.1,
        "markersize": 4,
    }


def equal_share(ratios: Sequence[float], means: Sequence[float], wanted: float) -> float | None:
    """Share of labels in percent at which a method first reaches the AUC `wanted`, interpolated in the log of the share.

    None where it never does; where the smallest measured share suffices, that share, which is then an upper bound.
    """
    order = np.argsort(ratios)
    x, y = np.log(np.asarray(ratios, float)[order]), np.asarray(means, float)[order]
    reached = np.flatnonzero(y >= wanted)
    if not len(reached):
        return None
    right = reached[0]
    left = max(right - 1, 0)
    part = (wanted - y[left]) / (y[right] - y[left]) if right else 0.0
    return float(np.exp(x[left] + part * (x[right] - x[left])))


def ratio_figure(spec: dict, cells: list[dict]) -> Figure:
    """AUC against label share on one dataset, and the share at which the first method equals the others at 100 %.

    Args:
        spec: `title`, `methods` [{id, title, line}], the first being ours.
        cells: contents of auc.json files.
    """
    figure, axes = plt.subplots(figsize=(5.6, 2.9))
    points, handles, titles = {}, [], []
    for place, method in enumerate(spec["methods"]):
        mine = sorted(
            (cell["ratio"], cell["test"]["mean"], cell["test"]["sd"])
            for cell in cells
            if cell["method"] == method["id"] and cell["test"]["mean"] is not None
        )
        if not mine:
            continue
        ratios, means, spreads = zip(*mine, strict=True)
        means = 100 * np.array(means)
        points[method["id"]] = (ratios, means)
        bars = [100 * (spread or 0) for spread in spreads]
        handles.append(axes.errorbar(ratios, means, yerr=bars, capsize=2, **style_of(method, place)))
        titles.append(method["title"])
    if _draw_equal_shares(axes, spec, points):
        ring: dict[str, Any] = {
            "color": "0.4",
            "linewidth": 0.8,
            "linestyle": ":",
            "marker": "o",
            "fillstyle": "none",
        }
        handles.append(Line2D([], [], markersize=5, **ring))
        titles.append(f"labels with which {spec['methods'][0]['title']}\nequals it on all labels")
    axes.set_xscale("log")
    shown = sorted({ratio for ratios, _ in points.values() for ratio in ratios})
    axes.set_xticks(shown, [f"{ratio} %" for ratio in shown])
    axes.minorticks_off()
    axes.set_xlabel("training labels used")
    axes.set_ylabel("mean AUC (%)")
    axes.set_title(spec["title"], loc="left")
    # Wherever there is room within the axes of one study, there are points of another.
    figure.legend(handles, titles, loc=BESIDE)
    return figure


def _draw_equal_shares(axes: Axes, spec: dict, points: dict) -> int:
    """Lines from the AUC of other methods on all labels to ours that equals it, and their number."""
    ours, drawn = spec["methods"][0]["id"], 0
    if ours not in points:
        return drawn
    for place, method in enumerate(spec["methods"][1:], 1):
        ratios, means = points.get(method["id"], ((), ()))
        if not len(ratios) or max(ratios) != 100:
            continue
        wanted = means[list(ratios).index(100)]
        share = equal_share(*points[ours], wanted)
        if share is not None and share < 100:
            drawn += 1
            colour = style_of(method, place)["color"]
            axes.plot([share, 100], [wanted, wanted], color=colour, linewidth=0.8, linestyle=":")
            sign = "\N{LESS-THAN OR EQUAL TO}" if share <= min(points[ours][0]) else ""
            axes.plot(share, wanted, marker="o", markersize=5, color=colour, fillstyle="none")
            axes.annotate(
                f"{sign}{share:.2g} %",
                (share, wanted),
                # Our line rises to the right, so there is room below it.
                xytext=(4, -9),
                textcoords="offset points",
                color=colour,
                path_effects=_halo("white", 2),
            )
    return drawn


def roc_curve(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """True-positive rates (201,) at POINTS, with tied scores as one step; NaN where there is one label only.

    labels: (N,) of 0 and 1; scores: (N,).
    """
    positives, negatives = labels.sum(), (1 - labels).sum()
    if not positives or not negatives:
        return np.full(len(POINTS), np.nan)
    order = np.argsort(-scores, kind="stable")
    last = np.r_[np.flatnonzero(np.diff(scores[order])), len(scores) - 1]
    rates = [
        np.r_[0, np.cumsum(part[order])[last] / total]
        for part, total in ((1 - labels, negatives), (labels, positives))
    ]
    return np.interp(POINTS, *rates)


def roc_figure(
    spec: dict, classes: list[str], curves: dict[str, np.ndarray], aucs: dict[str, np.ndarray]
) -> Figure:
    """One panel per class: the mean curve over seeds of every method, and its mean AUC in percent in the method's colour.

    Args:
        spec: `title`, `methods` [{id, title, line}].
        classes: titles of the panels.
        curves: method id -> (classes, 201).
        aucs: method id -> (classes,), NaN where undefined.
    """

    def draw(panel: Axes, place: int, line: int, method: dict) -> None:
        sparse: dict[str, Any] = {"markersize": 2.5, "markevery": (4 + 6 * line % 50, 50)}
        panel.plot(POINTS, curves[method["id"]][place], **style_of(method, line) | sparse)

    axes = ("false-positive rate", "true-positive rate")
    return _class_figure(spec, classes, axes, draw, "mean AUC (%) in the panels", aucs)


def reliability_figure(
    spec: dict, classes: list[str], points: dict[str, list[dict]], errors: dict[str, np.ndarray], images: int
) -> Figure:
    """One panel per class: share of positives against mean score in bins of the score, a line per method.

    The larger a marker, the more images are in its bin; bins without images have none. In a panel are the mean calibration
    errors in percent in the methods' colours.

    Args:
        spec: `title`, `methods` [{id, title, line}].
        classes: titles of the panels.
        points: method id -> per class the points of all its runs together, as `refers.evaluation.measures.reliability` has them.
        errors: method id -> (classes,), NaN where undefined.
        images: number of test images.
    """

    def area(share: Any) -> Any:
        return 6 + 60 * share

    def draw(panel: Axes, place: int, line: int, method: dict) -> None:
        style, found = style_of(method, line), points[method["id"]][place]
        counts = np.array(found["images"])
        x, y = (np.array(found[key], float)[counts > 0] for key in ("mean_score", "positive"))
        unmarked: dict[str, Any] = style | {"marker": None}
        panel.plot(x, y, **unmarked)
        sizes = area(counts[counts > 0] / counts.sum())
        panel.scatter(x, y, sizes, color=style["color"], marker=style["marker"], linewidths=0, clip_on=False)

    ring: dict[str, Any] = {"color": "0.4", "marker": "o", "linestyle": "none"}
    scale = {
        f"{100 * share:g} % of {images} images": Line2D([], [], markersize=area(share) ** 0.5, **ring)
        for share in (0.01, 0.5)
    }
    axes = ("mean score in the bin", "share of positives")
    about = "mean ECE (%) in the panels;\na marker's area: images in the bin"
    return _class_figure(spec, classes, axes, draw, about, errors, scale)


def _class_figure(
    spec: dict,
    classes: list[str],
    axes: tuple[str, str],
    draw: Callable[[Axes, int, int, dict], None],
    about: str,
    numbers: dict[str, np.ndarray],
    scale: dict[str, Line2D] | None = None,
) -> Figure:
    """One square panel per class, from 0 to 1 with its diagonal, and the number of every method in percent in its colour.

    Args:
        axes: labels of x and y.
        draw: draws what a method has in a panel: draw(panel, place of the class, line, method).
        about: what the numbers are.
        numbers: method id -> (classes,) in [0, 1], NaN where undefined: nothing is drawn there.
        scale: further entries of the legend.
    """
    columns = min(COLUMNS, len(classes))
    rows = -(-len(classes) // columns)
    side = PANEL if len(classes) > 1 else 3.2
    beside = 0.0 if len(classes) < rows * columns else 2.0
    size = (side * columns + beside, side * rows + 0.5)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, sharex=True, sharey=True)
    drawn = [(line, method) for line, method in enumerate(spec["methods"]) if method["id"] in numbers]
    for place, panel in enumerate(panels.flat):
        if place >= len(classes):
            panel.axis("off")
            continue
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=0.6)
        values = [numbers[method["id"]][place] for _, method in drawn]
        for above, ((line, method), value) in enumerate(zip(drawn, values, strict=True), 1):
            if np.isfinite(value):
                draw(panel, place, line, method)
                # in the order of the legend, down to the panel's foot
                height, colour = 0.03 + 0.075 * (len(drawn) - above), style_of(method, line)["color"]
                panel.text(0.98, height, f"{100 * value:.1f}", color=colour, fontsize=5.5, ha="right")
        if not np.isfinite(values).any():
            panel.text(0.5, 0.5, "undefined: one label only", ha="center", fontsize=7)
        panel.set_title(classes[place].replace("_", " "), loc="left")
        panel.set_aspect("equal")
        panel.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        if place % columns == 0:
            panel.set_ylabel(axes[1])
        if place + columns >= len(classes):
            panel.set_xlabel(axes[0])
            panel.tick_params(labelbottom=True)
    scale = scale or {}
    entries = (
        [*(Line2D([], [], **style_of(method, line)) for line, method in drawn), *scale.values()],
        [*(method["title"] for _, method in drawn), *scale],
    )
    head: dict[str, Any] = {"title": about, "title_fontsize": 7}
    if len(classes) < panels.size:
        panels.flat[len(classes)].legend(*entries, loc="upper left", borderaxespad=0, **head)
    else:
        figure.legend(*entries, loc=BESIDE, **head)
    figure.suptitle(spec["title"], x=0.01, ha="left")
    return figure


def curves_figure(spec: dict, records: dict[str, list[dict]]) -> Figure:
    """One panel per encoder: training, held-out and trivial loss against the step. records: method id -> lines of metrics.jsonl."""
    shown = [method for method in spec["methods"] if method["id"] in records]
    columns = max(1, min(COLUMNS, len(shown)))
    rows = max(1, -(-len(shown) // columns))
    size = (PANEL * columns + 0.3, PANEL * 0.8 * rows + 0.5)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for panel, method in zip(panels.flat, shown, strict=False):
        for kind, name, place, marker in (("train", "training", 2, None), ("validation", "held-out", 0, "o")):
            lines = [line for line in records[method["id"]] if kind in line]
            steps, losses = [line["step"] for line in lines], [line[kind]["loss"] for line in lines]
            panel.plot(steps, losses, label=name, **line_style(place) | {"marker": marker, "markersize": 2.5})
            if trivial := lines and lines[-1][kind].get("trivial"):
                panel.axhline(trivial, color="0.5", linestyle=":", linewidth=1, label="trivial predictor")
        panel.set_title(textwrap.fill(method["title"], 24), loc="left", fontsize=7)
        panel.tick_params(labelsize=6)
    for panel in panels.flat[len(shown) :]:
        panel.axis("off")
    for panel in panels[:, 0]:
        panel.set_ylabel("loss")
    for panel in panels[-1]:
        panel.set_xlabel("step")
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc=BESIDE)
    figure.suptitle(spec["title"], x=0.01, ha="left")
    return figure


def pilots_figure(spec: dict, pilots: list[dict]) -> Figure:
    """One panel per method: held-out loss against the peak rate, a line per optimiser.

    The choice is ringed, a diverged candidate is a cross at the top, and the dotted line is the trivial predictor.

    Args:
        spec: `titles` by method.
        pilots: contents of the files of pilot.py.
    """
    columns = max(1, min(COLUMNS, len(pilots)))
    rows = max(1, -(-len(pilots) // columns))
    size = (PANEL * columns + 1.3, PANEL * rows + 0.5)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
    for panel, pilot in zip(panels.flat, pilots, strict=False):
        for place, name in enumerate(("sgd", "adam")):
            style = line_style(2 * place) | {"linewidth": 1.1}
            mine = sorted(
                (each["lr"], each["loss"])
                for each in pilot["candidates"]
                if each["name"] == name and each["loss"] is not None
            )
            label = {"sgd": "SGD", "adam": "Adam"}[name]
            panel.plot([lr for lr, _ in mine], [loss for _, loss in mine], label=label, **style)
            lost = [
                each["lr"] for each in pilot["candidates"] if each["name"] == name and each["loss"] is None
            ]
            # heights are shares of the panel, whatever its losses
            panel.plot(
                lost,
                [0.97] * len(lost),
                "x",
                color=style["color"],
                label="diverged",
                transform=panel.get_xaxis_transform(),
            )
        chosen = next(each for each in pilot["candidates"] if pilot["chosen"].items() <= each.items())
        panel.plot(
            chosen["lr"],
            chosen["loss"],
            "o",
            markersize=10,
            fillstyle="none",
            color=COLOURS[1],
            label="chosen",
            linestyle="none",
        )
        if pilot["trivial"] is not None:
            panel.axhline(
                pilot["trivial"], color="0.5", linestyle=":", linewidth=1, label="trivial predictor"
            )
        panel.set_xscale("log")
        # matplotlib would write powers as mathematics, which is switched off
        panel.xaxis.set_major_formatter(lambda rate, _: f"{rate:.0e}".replace("e-0", "e-"))
        panel.set_title(textwrap.fill(spec["titles"][pilot["method"]], 24), loc="left", fontsize=7)
        panel.tick_params(labelsize=6)
    for panel in panels.flat[len(pilots) :]:
        panel.axis("off")
    for panel in panels[:, 0]:
        panel.set_ylabel("held-out loss")
    for panel in panels[-1]:
        panel.set_xlabel("peak learning rate")
    handles = {
        label: handle
        for panel in panels.flat
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc=BESIDE)
    figure.suptitle("Learning-rate pilots", x=0.01, ha="left")
    return figure


def attention_figure(spec: dict, maps: Maps, ious: np.ndarray) -> Figure:
    """Radiographs with boxes beside their class activation maps, and the distribution of IoU over all boxed findings.

    Args:
        spec: `title` and `threshold`.
        maps: those to draw.
        ious: one per finding.
    """
    facts = maps.facts
    pairs = 3
    rows = -(-len(facts) // pairs)
    figure = plt.figure(figsize=(2 * 1.35 * pairs, 1.6 * rows + 1.5))
    grid = figure.add_gridspec(rows + 1, 2 * pairs, height_ratios=[1.6] * rows + [1.2])
    for place, fact in enumerate(facts):
        row, column = divmod(place, pairs)
        image, heat = maps.images[place], np.asarray(maps.maps[place], float)
        _draw_boxes(figure.add_subplot(grid[row, 2 * column]), image, fact)
        _draw_map(figure.add_subplot(grid[row, 2 * column + 1]), image, heat, spec["threshold"], fact)
    axes = figure.add_subplot(grid[rows, :])
    axes.hist(ious, bins=np.linspace(0, 1, 21).tolist(), color="#0072B2", edgecolor="white", linewidth=0.5)
    axes.axvline(np.median(ious), color="black", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_xlabel(
        f"IoU of {len(ious)} boxed findings; median {np.median(ious):.2f} (dashed), {100 * np.mean(ious > 0.5):.0f} % above 0.5"
    )
    axes.set_ylabel("findings")
    figure.suptitle(
        f"{spec['title']}\nradiologists' boxes red, predicted boxes green and dashed, attention fuchsia, its threshold a white line\n"
        + _choice(facts, ious),
        x=0.01,
        ha="left",
    )
    return figure


def _choice(facts: list[dict], ious: np.ndarray) -> str:
    """How the examples were chosen: at random, hits and misses apart (attend.py)."""
    hits, shown = int((ious >= HIT).sum()), sum(fact["iou"] >= HIT for fact in facts)
    return (
        f"drawn at random: {shown} of the {hits} findings with an IoU of {HIT} or more,"
        f" {len(facts) - shown} of the {len(ious) - hits} others"
    )


def _draw_image(axes: Axes, image: np.ndarray, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=6)


def _draw_boxes(axes: Axes, image: np.ndarray, fact: dict) -> None:
    """The radiologists' boxes in red, the predicted ones in green; dashes and halos tell them apart in grey print."""
    _draw_image(axes, image, fact["class"].replace("_", " "))
    for name, colour, halo, dash in (("red", "#FF3B30", "white", "-"), ("green", "#34C759", "black", "--")):
        style: dict[str, Any] = {
            "fill": False,
            "color": colour,
            "linestyle": dash,
            "path_effects": _halo(halo, 3),
        }
        for x, y, w, h in fact[name]:
            # A pixel's centre has whole coordinates, so its edge is half a pixel before.
            axes.add_patch(plt.Rectangle((x - 0.5, y - 0.5), w, h, clip_on=False, **style))


def _draw_map(axes: Axes, image: np.ndarray, heat: np.ndarray, threshold: float, fact: dict) -> None:
    """The map over the radiograph; the line at the threshold shows in grey print too."""
    _draw_image(axes, image, f"score {fact['score']:.2f}, IoU {fact['iou']:.2f}")
    axes.imshow(_fuchsia(heat))
    if heat.max() > threshold:
        edge = axes.contour(heat, levels=[threshold], colors="white", linewidths=0.6)
        edge.set_path_effects(_halo("black", 1.4))


def _halo(colour: str, width: float) -> list:
    """An outline that sets a line or a word off from any background."""
    return [withStroke(linewidth=width, foreground=colour)]


def _fuchsia(heat: np.ndarray) -> np.ndarray:
    """A map (S, S) in [0, 1] as RGBA (S, S, 4): fuchsia, the more opaque the higher the map."""
    shade = np.empty((*heat.shape, 4))
    shade[..., :3] = (0.85, 0.0, 0.55)
    shade[..., 3] = 0.75 * heat
    return shade


def rules_figure(spec: dict, graph: rule_graph.Graph, stage: dict[str, str]) -> Figure:
    """The rules of a study, from the data down. An arrow leads to a rule that reads the other's output.

    Arrows that others imply are left out.
    """
    places, ways = rule_graph.layout(rule_graph.reduced(graph))
    # Inches: between the centres of neighbours, and half the size of a box
    wide, high, half = 1.35, 0.72, (0.61, 0.18)
    x, y = (np.array(each) for each in zip(*places.values(), strict=True))
    figure = plt.figure(figsize=(wide * np.ptp(x) + 2 * half[0] + 0.3, high * np.ptp(y) + 2 * half[1] + 0.5))
    axes = figure.add_subplot()
    stages = list(dict.fromkeys(stage[rule] for rule in sorted(places, key=lambda rule: places[rule][1])))
    for way in ways:
        centres = [(wide * (across - x.min()), -high * down) for across, down in way]
        # Straight beside the boxes of a layer, curved between layers
        ends = [(across, down + side) for across, down in centres for side in (half[1], -half[1])][1:-1]
        axes.add_patch(PathPatch(_curve(ends), fill=False, color="0.45", linewidth=0.9))
        axes.plot(ends[-1][0], ends[-1][1] + 0.04, marker="v", markersize=4, color="0.45")
    for rule, (across, down) in places.items():
        across, down = wide * (across - x.min()), -high * down
        shade = plt.get_cmap("Pastel1")(stages.index(stage[rule]) % 9)
        corner, size = (across - half[0], down - half[1]), (2 * half[0], 2 * half[1])
        style: dict[str, Any] = {"facecolor": shade, "edgecolor": "0.2"}
        axes.add_patch(FancyBboxPatch(corner, *size, "round,pad=0,rounding_size=0.06", **style))
        axes.text(across, down + 0.05, rule.replace("_", " "), ha="center", va="center", fontsize=7.5)
        axes.text(across, down - 0.09, stage[rule], ha="center", va="center", fontsize=5.5, color="0.3")
    axes.set_aspect("equal")
    axes.margins(0.01)
    axes.autoscale_view()
    axes.axis("off")
    axes.set_title(spec["title"], loc="left")
    return figure


def _curve(points: list[tuple[float, float]]) -> Outline:
    """A line through points, vertical at each of them."""
    corners, codes = [points[0]], [Outline.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (y0 + y1) / 2
        corners += [(x0, middle), (x1, middle), (x1, y1)]
        codes += [Outline.CURVE4] * 3
    return Outline(corners, codes)


def absent_figure(spec: dict) -> Figure:
    """In place of a figure without results: its title and the reasons."""
    figure, axes = plt.subplots(figsize=(5, 1.2))
    axes.axis("off")
    lines = [spec["title"], *dict.fromkeys(method["status"] for method in spec["methods"])]
    axes.text(0, 1, "\n".join(lines).replace("$", r"\$"), va="top", **WRAPPED)
    return figure


def save(figure: Figure, out: Path, note: str) -> None:
    """Write `out` (.pdf) and the same as .png beside it, with `note` in small print below. Equal figures have equal bytes.

    Letters that matplotlib's own font lacks are drawn in an installed font that has them; a line on stderr names those that
    none has.
    """
    if note:
        figure.text(0.005, -0.01, note.replace("$", r"\$"), fontsize=5, color="0.3", va="top", **WRAPPED)
    texts = [each for each in figure.findobj(Text) if isinstance(each, Text)]
    for text in texts:
        if not text.get_wrap():
            text.set_parse_math(False)
    if lacking := _use_other_fonts(texts):
        letters = "".join(sorted(lacking))
        print(
            f"warning: {out}: no installed font has {letters}; install one that has, such as Noto Sans CJK",
            file=sys.stderr,
        )
    formats: list[tuple[Path, dict[str, Any]]] = [
        (out, {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}}),
        (out.with_suffix(".png"), {"dpi": 200, "metadata": {"Software": None}}),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        for target, options in formats:
            with atomic_path(target) as path:
                figure.savefig(path, format=target.suffix[1:], bbox_inches="tight", **options)
    plt.close(figure)


def _use_other_fonts(texts: list[Text]) -> set[str]:
    """Give texts fonts that have the letters which their own lacks; return the letters that no installed font has."""
    letters = {
        letter for text in texts for letter in text.get_text() if letter.isprintable() and letter != " "
    }
    lacking = letters - _letters_of(font_manager.findfont(font_manager.FontProperties()), letters)
    if not lacking:
        return lacking
    chosen = []
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        # This font draws a box for every letter.
        if font.name in chosen or font.name.startswith("Last Resort") or not _letters_of(font.fname, lacking):
            continue
        # A name stands for the regular one of its fonts, which may have fewer letters than this.
        if found := _letters_of(font_manager.findfont(font.name), lacking):
            chosen.append(font.name)
            lacking -= found
    for text in texts:
        text.set_fontfamily([*text.get_fontfamily(), *chosen])
    return lacking


def _letters_of(font: str, wanted: set[str]) -> set[str]:
    """Those of the wanted letters that a font file has."""
    try:
        known = font_manager.get_font(font)
    # A damaged file among the installed fonts is no reason to stop.
    except (OSError, RuntimeError):
        return set()
    return {letter for letter in wanted if known.get_char_index(ord(letter))}
