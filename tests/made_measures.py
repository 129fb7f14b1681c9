"""Made-up contents of measures.json and subgroups.json, and the tables of them."""

from made_tables import COLUMNS, ROWS, RULE, auc_of
from refers.measure_names import MEASURES
from refers.reporting.build_table import index_results
from refers.reporting.measured import build_measured

BOOTSTRAP = {"level": 0.95, "resamples": 1000, "seed": 0, "unit": "patient", "units": 90}
CELL = {"classes": ["Mass", "Nodule"], "predictions_sha256": ["1"], "bootstrap": BOOTSTRAP}


def summary(mean, low, high, lost=0):
    about = {"mean": mean, "sd": 0.01, "sd_splits": None, "se": None, "interval": [low, high]}
    return about | {"undefined_resamples": lost}


def measures_of(method, *means, lost=0):
    """Content of measures.json with these means, and intervals of 0.02 to either side."""
    found = {
        name: summary(mean, mean - 0.02, mean + 0.02, lost)
        for name, mean in zip(MEASURES, means, strict=True)
    }
    about = {"method": method, "dataset": "nih", "ratio": 1, "settings": {"bins": 10, "specificity": 95}}
    return CELL | about | {"measures": found}


def groups_of(method, **characteristics):
    about = {"method": method, "dataset": "nih", "ratio": 1, "settings": {"ages": [40], "patients": 10}}
    return CELL | about | {"absent": ["age"], "characteristics": characteristics}


def group(mean, images=50):
    about = {"images": images, "patients": 40, "positives": 9, "negatives": 41, "undefined": None}
    return about | summary(mean, mean - 0.1, mean + 0.1)


def cell_of(method):
    return auc_of(method, "nih/1", [0.8, 0.81], undefined=["Hernia"]) | {"predictions_sha256": ["1"]}


def table_of(columns, measured, methods=("refers", "c2l"), **spec):
    default = {
        "name": "t",
        "title": "A table",
        "note": "",
        "comparable": False,
        "verdict": RULE,
        "status": {},
    }
    default |= {
        "shows": "measures" if "measure" in columns[0] else "subgroups",
        "rows": ROWS[:2],
        "columns": columns,
        "undefined_resamples": 0.05,
        "per_seed": False,
    }
    cells = [(f"{method}/auc.json", cell_of(method)) for method in methods]
    files = [(f"{each['method']}/measured.json", each) for each in measured]
    return build_measured(default | spec, index_results(cells, "method"), index_results(files, "method"), {})


def of_measures():
    return [
        COLUMNS[0] | {"id": f"nih/1/{name}", "title": name, "group": "NIH 1%", "measure": name}
        for name in MEASURES
    ]


def of_groups(name, *groups):
    about = COLUMNS[0] | {"group": "NIH 1%", "group_of": name}
    return [about | {"id": f"nih/1/{name}/{each}", "title": each, "subgroup": each} for each in groups]
