"""Tables of made-up results: contents of auc.json and t-tests, joined as the table script joins them."""

import subprocess
from pathlib import Path

import numpy as np
from refers.evaluation.statistics import compare, over_splits, spread, standard_error
from refers.reporting.build_table import build, index_results

JUDGED = {"comparable": True, "same_images": True}
COLUMNS = [
    {"id": f"{dataset}/{ratio}", "dataset": dataset, "ratio": ratio, "title": title}
    | {"dataset_title": group, "group": group}
    | JUDGED
    for dataset, ratio, group, title in (
        ("nih", 1, "NIH", "1%"),
        ("nih", 100, "NIH", "100%"),
        ("shenzhen", 100, "SZ", "All"),
    )
]
ROWS = [
    {"id": "refers", "title": "Our REFERS", "methods": ["refers"], "note": ""},
    {"id": "c2l", "title": "C2L", "methods": ["c2l"]},
    {"id": "imagenet", "title": "ImageNet Pre-training", "methods": ["imagenet"]},
    {"id": "lsp_convnet", "title": "LSP (ConvNet)", "methods": ["lsp_resnet18", "lsp_resnet50"]},
]
REPORTED = {
    ("t", "refers", "nih/1"): "76.7",
    ("t", "c2l", "nih/1"): "71.0",
    ("t", "p_value", "nih/1"): "8.35e-4",
}


CLASSES = ["Mass", "Nodule", "Hernia"]
COUNTS = {"Mass": (30, 70), "Nodule": (40, 60), "Hernia": (1, 99)}
RULE = {"level": 0.95, "margin": 1.0}


def measured(values, images, splits):
    """Mean, spreads and standard error of AUCs per run, with a bootstrap whose standard deviation is `images`."""
    if None in values:
        return dict.fromkeys(("mean", "sd", "sd_splits", "se"))
    values = np.reshape(values, (splits, -1))
    # Resamples of one deviation to either side; the same in every split.
    samples = values + np.array([-1, 1])[:, None, None] * images / np.sqrt(2)
    return spread(values) | {"se": standard_error(values, samples, 1000)}


def auc_of(
    method, column, means, validation=0.5, undefined=(), per_class=None, counts=COUNTS, images=0.001, splits=1
):
    """Content of auc.json with the given means per run, and AUCs by class and run where they matter."""
    place = next(each for each in COLUMNS if each["id"] == column)
    test = {"mean_auc": means, "undefined": list(undefined), **measured(means, images, splits)}
    about = {"method": method, "dataset": place["dataset"], "ratio": place["ratio"]}
    classes = CLASSES
    test["per_class"] = {
        name: dict(zip(("positives", "negatives"), counts[name], strict=True)) for name in classes
    }
    for name, values in (per_class or {}).items():
        test["per_class"][name] |= {"auc": values, **measured(values, images, splits)}
    seeds = len(means) // splits
    about |= {
        "splits": [split for split in range(splits) for _ in range(seeds)],
        "seeds": [*range(seeds)] * splits,
    }
    selected = {"mean": validation, "images_per_split": [10815] * splits}
    return about | {"classes": classes, "test": test, "validation": selected}


def ttest_of(reference, baseline, undefined=0, **of_class):
    """What ttest.py says of two cells, with a paired comparison by hand; `of_class` replaces what a class has."""
    samples = {"reference_auc": reference["test"]["mean_auc"], "baseline_auc": baseline["test"]["mean_auc"]}
    about = {"reference": reference["method"], "baseline": baseline["method"]}
    place = {key: reference[key] for key in ("dataset", "ratio")}
    per_seed = [over_splits(each["test"]["mean_auc"], each["seeds"]) for each in (reference, baseline)]
    found = compare(*per_seed)
    drawn = {"resamples": 1000, "undefined_resamples": undefined, "interval": [-0.012, 0.1], "p": 0.04}
    each = {"difference": 0.05, "interval": [-0.01, 0.11], "undefined_resamples": undefined} | of_class
    each = {"delong": {"z": 2.0, "p": 0.0455}} | each
    return about | place | samples | found | {"bootstrap": drawn, "per_class": dict.fromkeys(CLASSES, each)}


def table_of(cells, tests="all", reports=None, **spec):
    """A table of the given cells; t-tests of refers against every other one unless they are given. reports: numbers of others."""
    if tests == "all":
        ours = {(each["dataset"], each["ratio"]): each for each in cells if each["method"] == "refers"}
        others = [each for each in cells if each["method"] != "refers"]
        places = [(each["dataset"], each["ratio"]) for each in others]
        tests = [
            ttest_of(ours[place], each) for place, each in zip(places, others, strict=True) if place in ours
        ]
    default = {"name": "t", "title": "A table", "note": "", "reference": "refers", "baseline": "best"}
    default |= {"rows": ROWS, "columns": COLUMNS, "status": {}, "verdict": RULE, "undefined_resamples": 0.05}
    default |= {"per_seed": False}
    files = [(f"cells/{number}.json", each) for number, each in enumerate(cells)]
    checks = [(f"ttests/{number}.json", each) for number, each in enumerate(tests)]
    indexed = index_results(files, "method"), index_results(checks, "reference", "baseline")
    return build(default | spec, *indexed, REPORTED, reports)


REFERS = auc_of("refers", "nih/1", [0.80, 0.81, 0.82])
C2L = auc_of("c2l", "nih/1", [0.70, 0.72, 0.71])


def compare_golden(name, text, request):
    """Compare with tests/golden/`name`; `pytest --renew` writes it anew, and the commit says why."""
    path = Path(__file__).with_name("golden") / name
    if request.config.getoption("--renew"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def compiled(folder, body):
    """What pdflatex says of a document with this float."""
    document = [
        "\\documentclass{article}",
        "\\usepackage{booktabs}",
        "\\begin{document}",
        body,
        "\\end{document}",
    ]
    (folder / "table.tex").write_text("\n".join(document), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout
