"""Tables of made-up results: contents of auc.json and t-tests, joined as the table script joins them."""

import subprocess
from pathlib import Path

import numpy as np
from refers.evaluation.statistics import compare
from refers.reporting.build_table import build, index_results

COLUMNS = [
    {"id": "nih/1", "dataset": "nih", "ratio": 1, "group": "NIH", "title": "1%"},
    {"id": "nih/100", "dataset": "nih", "ratio": 100, "group": "NIH", "title": "100%"},
    {"id": "shenzhen/100", "dataset": "shenzhen", "ratio": 100, "group": "SZ", "title": "All"},
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
RULE = {"within_sd": 1.0, "within_points": 1.0}


def auc_of(method, column, means, validation=0.5, undefined=(), per_class=None, counts=COUNTS):
    """Content of auc.json with the given per-seed means, and per-seed AUCs by class where they matter."""
    place = next(each for each in COLUMNS if each["id"] == column)
    there = None not in means
    test = {
        "mean_auc": means,
        "mean": float(np.mean(means)) if there else None,
        "sd": float(np.std(means, ddof=1)) if there and len(means) > 1 else None,
        "undefined": list(undefined),
    }
    about = {"method": method, "dataset": place["dataset"], "ratio": place["ratio"]}
    classes = CLASSES
    test["per_class"] = {
        name: dict(zip(("positives", "negatives"), counts[name], strict=True)) for name in classes
    }
    for name, values in (per_class or {}).items():
        defined = None not in values
        test["per_class"][name] |= {
            "auc": values,
            "mean": float(np.mean(values)) if defined else None,
            "sd": float(np.std(values, ddof=1)) if defined else None,
        }
    seeds = list(range(len(means)))
    return about | {"classes": classes, "seeds": seeds, "test": test, "validation": {"mean": validation}}


def ttest_of(reference, baseline, undefined=0, **of_class):
    """What ttest.py says of two cells, with a paired comparison by hand; `of_class` replaces what a class has."""
    samples = {"reference_auc": reference["test"]["mean_auc"], "baseline_auc": baseline["test"]["mean_auc"]}
    about = {"reference": reference["method"], "baseline": baseline["method"]}
    place = {key: reference[key] for key in ("dataset", "ratio")}
    found = compare(*samples.values())
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
