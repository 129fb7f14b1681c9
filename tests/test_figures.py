"""Figures: the share of labels that suffices, ROC curves, maps and boxes, and files that open."""

import json

import attend
import figure as script
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from refers.evaluation import localisation
from refers.evaluation.localisation import Maps
from refers.files import write_parquet
from refers.reporting import figures
from sklearn.metrics import roc_auc_score

SPEC = {
    "title": "A dataset",
    "note": "made by hand",
    "methods": [
        {"id": "ours", "title": "Ours", "status": ""},
        {"id": "other", "title": "Other", "status": ""},
        {"id": "gone", "title": "Gone", "status": "not run: no weights"},
    ],
}


def cell(method, ratio, mean):
    return {"method": method, "ratio": ratio, "test": {"mean": mean, "sd": 0.01}}


@pytest.mark.parametrize(
    ("means", "wanted", "share"),
    [
        ([70, 80, 90], 80, 10),
        ([70, 80, 90], 75, 10**0.5),
        ([70, 80, 90], 85, 10**1.5),
        ([70, 80, 90], 60, 1),  # reached from the start: the smallest share is an upper bound
        ([70, 80, 90], 95, None),
        ([70, 90, 80], 85, 10**0.75),  # the first crossing counts
    ],
)
def test_the_share_of_labels_that_suffices(means, wanted, share):
    found = figures.equal_share([1, 10, 100], means, wanted)
    assert found == (None if share is None else pytest.approx(share))
    assert figures.equal_share([100, 1, 10], [means[2], means[0], means[1]], wanted) == found


def test_figure_2_names_the_share_and_draws_every_method_that_ran():
    cells = [cell("ours", ratio, mean) for ratio, mean in ((1, 0.7), (10, 0.8), (100, 0.9))]
    cells += [cell("other", ratio, mean) for ratio, mean in ((1, 0.5), (10, 0.6), (100, 0.75))]
    with figures.plt.rc_context(figures.STYLE):
        figure = figures.ratio_figure(SPEC, cells)
    axes, legend = figure.axes[0], figure.legends[0]
    assert [text.get_text() for text in axes.texts] == ["3.2 %"]
    ours, other, share = (text.get_text() for text in legend.get_texts())
    assert (ours, other) == ("Ours", "Other")
    assert "equals" in share, "the dotted line and its ring are explained"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1 %", "10 %", "100 %"]
    figure.canvas.draw()
    assert not legend.get_window_extent().overlaps(axes.get_window_extent()), "it hides no point"


def test_a_study_of_many_rows_has_a_line_for_each():
    count = 20
    methods = [{"id": f"m{place}", "title": f"Row {place}", "status": ""} for place in range(count)]
    cells = [cell("m0", ratio, mean) for ratio, mean in ((1, 0.7), (100, 0.9))]
    cells += [cell(f"m{place}", ratio, 0.75) for place in range(1, count) for ratio in (1, 100)]
    figure = figures.ratio_figure(SPEC | {"methods": methods}, cells)
    assert len(figure.axes[0].texts) + 1 == count
    assert len(figure.legends[0].get_texts()) == count + 1, "and the shares"
    assert len({str(figures.line_style(place)) for place in range(count)}) == count


def test_lines_differ_without_their_colour():
    styles = [figures.line_style(place) for place in range(7)]
    assert len({(str(style["linestyle"]), style["marker"]) for style in styles}) == 7
    grey = [sum(int(style["color"][k : k + 2], 16) for k in (1, 3, 5)) for style in styles]
    assert len(set(grey)) == 7


@pytest.mark.parametrize("decimals", [1, 6])
def test_the_area_under_a_drawn_curve_is_the_auc(decimals):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 4000)
    scores = np.round(rng.normal(labels, 1.5), decimals)
    curve = figures.roc_curve(labels, scores)
    assert np.all(np.diff(curve) >= 0)
    assert np.trapezoid(curve, figures.POINTS) == pytest.approx(roc_auc_score(labels, scores), abs=2e-3)


def test_a_class_with_one_label_has_no_curve():
    assert np.isnan(figures.roc_curve(np.ones(5), np.arange(5.0))).all()
    spec = SPEC | {"methods": SPEC["methods"][:1]}
    curves = {"ours": np.stack([figures.POINTS, np.full(201, np.nan)])}
    figure = figures.roc_figure(spec, ["Mass", "Hernia"], curves, {"ours": np.array([0.5, np.nan])})
    assert "undefined" in figure.axes[1].texts[0].get_text()
    assert [text.get_text() for text in figure.axes[0].texts] == ["50.0"]


def test_a_reliability_curve_has_the_bins_with_images(tmp_path):
    """Of two runs together: 12 images that score 0.05 or 0.07, 3 of them positive, and 8 that score 0.65, 6 of them positive."""
    labels = np.array([1] * 3 + [0] * 9 + [1] * 6 + [0] * 2)
    rows = pd.DataFrame({"split": "test", "image_id": [f"a{row}" for row in range(20)]})
    rows = rows.assign(**{"patient_id": rows["image_id"], "label:A": labels, "label:B": 0})
    paths = [tmp_path / f"{seed}.parquet" for seed in (0, 1)]
    for path, low in zip(paths, (0.05, 0.07), strict=True):
        scores = np.array([low] * 12 + [0.65] * 8, np.float32)
        found = rows.assign(**{"score:A": scores, "score:B": scores})
        write_parquet(path, pd.concat([found, found.assign(split="val")]))
    methods = [{"id": "ours", "title": "Ours", "status": "", "line": 5}]
    spec = {"kind": "reliability", "title": "A", "methods": methods, "sources": ["ours", "ours"]}
    drawn = script.draw(spec | {"measures": {"bins": 10, "specificity": 95}}, paths)
    panel, other = drawn.axes[:2]
    (markers,) = panel.collections
    for points in (markers.get_offsets(), panel.lines[-1].get_xydata()):
        assert np.asarray(points) == pytest.approx(np.array([[0.06, 0.25], [0.65, 0.75]]))
    assert np.diff(markers.get_sizes()) < 0, "the more images, the larger"
    assert panel.lines[-1].get_color() == figures.line_style(5)["color"]
    assert [text.get_text() for text in panel.texts] == ["15.4"], "the mean of 16 and 14.8"
    assert "undefined" in other.texts[0].get_text()
    assert not other.collections
    assert "1 % of 20 images" in {text.get_text() for text in drawn.legends[0].get_texts()}
    figures.plt.close(drawn)


def test_the_legend_of_roc_curves_takes_an_empty_panel_where_there_is_one():
    for count, empty in ((4, False), (5, True)):
        curves = {method["id"]: np.tile(figures.POINTS, (count, 1)) for method in SPEC["methods"]}
        aucs = {name: np.full(count, 0.5) for name in curves}
        figure = figures.roc_figure(SPEC, [f"c{place}" for place in range(count)], curves, aucs)
        assert any(axes.get_legend() for axes in figure.axes[count:]) == empty
        assert len(figure.legends) == (not empty)


def test_a_method_has_one_line_in_all_figures():
    methods = [method | {"line": line} for method, line in zip(SPEC["methods"], (0, 5, 3), strict=True)]
    cells = [cell(name, ratio, 0.8) for name in ("ours", "other") for ratio in (1, 100)]
    axes = figures.ratio_figure(SPEC | {"methods": methods}, cells).axes[0]
    curves = dict.fromkeys(("ours", "other"), figures.POINTS[None])
    panel = figures.roc_figure(
        SPEC | {"methods": methods}, ["Mass"], curves, {name: np.array([0.5]) for name in curves}
    ).axes[0]
    assert panel.lines[2].get_color() == axes.lines[3].get_color() == figures.line_style(5)["color"]


@pytest.mark.parametrize(
    ("hits", "misses", "shown"), [(9, 9, (3, 3)), (1, 9, (1, 5)), (9, 0, (6, 0)), (1, 2, (1, 2))]
)
def test_examples_are_hits_and_misses(hits, misses, shown):
    lists = [
        [(turn, {"iou": iou, "turn": turn}) for turn in range(count)]
        for iou, count in ((0.9, hits), (0.1, misses))
    ]
    found = attend.examples(*lists, 6)
    assert [sum(each["iou"] == iou for each in found) for iou in (0.9, 0.1)] == [*shown]
    assert all(each["turn"] < 6 for each in found), "the first in a random order"


@pytest.mark.parametrize("ground", [0, 90, 120, 160, 200, 255])
@pytest.mark.parametrize("shown", ["red", "green", "map"])
def test_boxes_and_maps_stand_out_from_any_background_in_grey_print(ground, shown):
    fact = {"image_id": "a", "class": "Mass", "score": 0.5, "iou": 0.1, "red": [], "green": []}
    heat = np.zeros((64, 64))
    if shown == "map":
        heat[20:40, 20:40] = 1
    else:
        fact[shown] = [[16, 16, 30, 30]]
    maps = Maps(np.full((1, 64, 64), ground, np.uint8), heat[None], [fact], {})
    figure = figures.attention_figure(SPEC | {"threshold": 0.5}, maps, np.array([0.1]))
    figure.set_dpi(200)
    figure.canvas.draw()
    place = figure.axes[shown == "map"].get_window_extent()
    pixels = np.asarray(figure.canvas.buffer_rgba())[::-1, :, :3] @ [0.299, 0.587, 0.114]
    seen = pixels[int(place.y0) + 2 : int(place.y1) - 2, int(place.x0) + 2 : int(place.x1) - 2]
    figures.plt.close(figure)
    assert np.ptp(seen) > 80


def test_every_kind_becomes_a_pdf_and_a_png_that_open(tmp_path):
    curve = [{"step": 0, "validation": {"loss": 2.0}}, {"step": 5, "train": {"loss": 1.0}}]
    fact = {"image_id": "a", "class": "Mass", "score": 0.5, "iou": 0.1, "red": [[1, 1, 4, 4]], "green": []}
    maps = Maps(np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8)), [fact] * 2, {})
    drawn = {
        "ratios": figures.ratio_figure(SPEC, [cell("ours", 1, 0.7), cell("ours", 100, 0.8)]),
        "curves": figures.curves_figure(SPEC, {"ours": curve, "other": curve}),
        "attention": figures.attention_figure(SPEC | {"threshold": 0.5}, maps, np.array([0.1, 0.6])),
        "absent": figures.absent_figure(SPEC),
    }
    for name, figure in drawn.items():
        with figures.plt.rc_context(figures.STYLE):
            figures.save(figure, tmp_path / f"{name}.pdf", "a note")
        content = (tmp_path / f"{name}.pdf").read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/Type3" not in content
        assert Image.open(tmp_path / f"{name}.png").size[0] > 200


def test_a_test_set_without_boxes_is_a_figure_that_says_so(tmp_path, call):
    """Its few images may hold none that a radiologist outlined; nothing else stops for that."""
    (tmp_path / "iou.csv").write_text("image_id,class,score,iou,area\n")
    spec = json.dumps(SPEC | {"kind": "attention", "sources": ["ours"]})
    inputs = [tmp_path / "maps.npz", tmp_path / "iou.csv"]
    done = call("figure", "--spec", spec, "--inputs", *inputs, "--out", tmp_path / "figure3.pdf")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "figure3.png").exists()


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        figures.save(figures.ratio_figure(SPEC, [cell("ours", 1, 0.7)]), tmp_path / f"{name}.pdf", "")
    for suffix in (".pdf", ".png"):
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_a_map_is_stretched_from_its_weakest_to_its_strongest_place():
    evidence = np.array([[0.0, 1.0], [2.0, 4.0]])
    large = localisation.stretched(evidence, 8)
    assert large.shape == (8, 8)
    assert (large.min(), large.max()) == (0, 1)
    assert np.unravel_index(large.argmax(), large.shape) == (6, 6) or large[7, 7] == 1
    assert not localisation.stretched(np.ones((2, 2)), 8).any()


def test_boxes_surround_the_connected_parts_of_a_map():
    heat = np.zeros((10, 10))
    heat[1:4, 2:7] = 0.9
    heat[8, 9] = 0.6
    assert localisation.predicted_boxes(heat, 0.5).tolist() == [[2, 1, 5, 3], [9, 8, 1, 1]]
    assert localisation.predicted_boxes(heat, 0.7).tolist() == [[2, 1, 5, 3]]
    assert localisation.predicted_boxes(np.zeros((4, 4)), 0.5).shape == (0, 4)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        ([[0, 0, 4, 4]], [[0, 0, 4, 4]], 1.0),
        ([[0, 0, 4, 4]], [[2, 0, 4, 4]], 8 / 24),
        ([[0, 0, 4, 4]], [[6, 6, 2, 2]], 0.0),
        ([[0, 0, 4, 4], [0, 0, 2, 2]], [[0, 0, 4, 4]], 1.0),  # areas, not boxes, are compared
        ([[0, 0, 4, 4]], np.zeros((0, 4)), 0.0),
    ],
)
def test_overlap_of_areas(first, second, value):
    found = localisation.intersection_over_union(np.array(first, float), np.array(second, float), 10)
    assert found == pytest.approx(value)


def test_boxes_follow_resize_and_crop():
    boxes, original = np.array([[512.0, 256.0, 256.0, 128.0]]), np.array([1024.0, 512.0])
    # the whole frame: half way across, half way down, a quarter wide and high
    assert localisation.boxes_on_crop(boxes, original, 1.0, 100).tolist() == [[50, 50, 25, 25]]
    # the central half of the frame at the same number of pixels: twice as large, from the middle on
    assert localisation.boxes_on_crop(boxes, original, 0.5, 100).tolist() == [[50, 50, 50, 50]]
    # of a wide picture the central square: half of its width, all of its height
    sides = np.array([0.5, 1.0])
    assert localisation.boxes_on_crop(boxes, original, sides, 100).tolist() == [[50, 50, 50, 25]]


def test_drawing_needs_no_torch(call):
    assert call("figure", "--help").returncode == 0


def test_a_letter_that_only_another_installed_font_has_is_drawn_in_it(tmp_path, capsys, recwarn):
    """matplotlib brings DejaVu Sans Mono, which has this letter, beside its own font, which has not."""
    figure = figures.ratio_figure(SPEC | {"title": "A \u2312"}, [cell("ours", 1, 0.7)])
    figures.save(figure, tmp_path / "a.pdf", "")
    assert capsys.readouterr().err == ""
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert b"DejaVuSansMono" in (tmp_path / "a.pdf").read_bytes()


def test_letters_that_no_font_has_are_named_on_one_line(tmp_path, capsys, recwarn):
    letter = chr(0x17000)  # of Tangut, a script of the eleventh century
    figure = figures.ratio_figure(SPEC | {"title": f"A {letter}"}, [cell("ours", 1, 0.7)])
    figures.save(figure, tmp_path / "a.pdf", letter)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert letter in error
    assert "a.pdf" in error
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    assert (tmp_path / "a.png").exists()
