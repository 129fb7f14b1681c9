"""Config files as they are written by hand, merged or damaged: what is read, and what is refused before any work."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from refers.config.read import read_files
from refers.reporting.figures import plt
from refers.study.availability import AssumeAvailable, Availability
from refers.study.check import check
from refers.study.specs import Specs
from refers.study.study import Study

from field import Case, refused

CONFIG = Path(__file__).parents[2] / "config/config.yaml"
HUGE = "9" * 5000
LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def overlay(*texts: str | bytes) -> Callable[[Path], list[Path]]:
    """The published config and overlays of these contents."""

    def make(folder: Path) -> list[Path]:
        paths = [folder / f"overlay{place}.yaml" for place, _ in enumerate(texts)]
        for path, text in zip(paths, texts, strict=True):
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [CONFIG, *paths]

    return make


def pipe(folder: Path) -> list[Path]:
    os.mkfifo(folder / "a.yaml")
    return [CONFIG, folder / "a.yaml"]


def study(files: list[Path]) -> Study:
    """The study of these files; every table and figure of it can be described."""
    found = check(read_files(files))
    specs = Specs(Availability(found, AssumeAvailable()))
    for name in found.config.tables:
        specs.table(name)
    for name in found.config.figures:
        specs.figure(name)
    return found


def rejected(name: str, text: str | bytes, *words: str) -> Case:
    return Case(name, overlay(text), study, refused(*words))


def accepted(name: str, expect: Callable[[Study], Any], *texts: str) -> Case:
    return Case(name, overlay(*texts), study, expect)


def has_cells(*names: str) -> Callable[[Study], None]:
    def expect(found: Study) -> None:
        assert [str(cell) for cell in found.cells] == list(names)

    return expect


def has_lost_table3(found: Study) -> None:
    """The table had one column, which an overlay took away; the settings of nih/1 wait for theirs."""
    assert [str(cell) for cell in found.cells] == ["covid_t2/10", "nih/10"]
    assert "table3" not in found.config.tables
    assert "table1" in found.config.tables
    assert found.finetune_settings("refers", "nih", 10).training.steps == 10_000


def has_a_fifth(found: Study) -> None:
    assert found.finetune_settings("refers", "nih", 5).training.steps == 123


def has_narrowed(found: Study) -> None:
    """Settings of nih/5 were set for a column that a later overlay takes away, a reported number of it too."""
    assert found.config.reported["other"].numbers == []
    assert "nih/5" not in found.config.finetune.cells
    assert found.config.tables["table1"].columns == ["nih/100"]


def draws(title: str) -> Callable[[Study], None]:
    def expect(found: Study) -> None:
        assert found.config.tables["table1"].title == title
        figure = plt.figure()
        text = figure.suptitle(title)
        text.set_parse_math(False)
        figure.draw_without_rendering()
        plt.close(figure)

    return expect


FIFTH = """
study: {cells: [{dataset: nih, ratios: [5, 100]}]}
finetune: {cells: {nih/5: {training: {steps: 123, warmup_steps: 1}}}}
tables: {table1: {columns: [nih/5, nih/100]}}
reported:
  other: {title: a, citation: b, differs: c, numbers: [{row: refers, column: nih/5, auc: 70}]}
"""

MAPS = [
    rejected(f"{key} of settings is {value}", text % value, f"config.{where}", "map of settings")
    for key, where, text in (
        ("a cell", "finetune.cells.nih/1", "finetune: {cells: {nih/1: %s}}"),
        ("a dataset", "finetune.datasets.nih", "finetune: {datasets: {nih: %s}}"),
        ("fine-tuning", "finetune", "finetune: %s"),
        ("a method", "methods.refers", "methods: {refers: %s}"),
        ("pre-training", "pretrain", "pretrain: %s"),
        ("the study", "study", "study: %s"),
        ("a training", "pretrain.training", "pretrain: {training: %s}"),
    )
    for value in ("true", "[1]", "3", "text", *(() if key == "a method" else ("~",)))
]
PAIRS = [
    rejected(f"{key} reversed", text, f".{key}", "below its start")
    for key, text in (
        ("area", "pretrain: {training: {augment: {area: [1.0, 0.1]}}}"),
        ("ratio", "finetune: {defaults: {training: {augment: {ratio: [2, 1]}}}}"),
        ("zoom", "methods: {transvw: {pretrain: {settings: {zoom: [1.2, 0.8]}}}}"),
        ("patch", "methods: {context_restoration: {pretrain: {settings: {patch: [0.3, 0.1]}}}}"),
        ("area", "methods: {c2l: {pretrain: {settings: {area: [0.9, 0.2]}}}}"),
    )
]
NUMBERS = [
    rejected(f"{key} is {value}", f"{key}: {{{of}: {value}}}", f"config.{key}.{of}", word)
    for key, of, value, word in (
        ("images", "size", "true", "whole number"),
        ("images", "size", "3.0", "whole number"),
        ("images", "tolerance", "false", "number"),
        ("images", "tolerance", ".nan", "finite"),
        ("plan", "tflops", ".inf", "finite"),
        ("plan", "tflops", "1e400", "finite"),
        ("plan", "studies", "9" * 18, "at most"),
        ("study", "splits", "1000000000", "at most"),
        ("study", "seeds", "[true]", "whole number"),
        ("study", "seeds", "[-1]", "at least 0"),
        ("verdict", "margin", "-1", "above 0"),
    )
]
PUBLISHED = (
    "reported: {a: {title: A, citation: b, differs: c, numbers:"
    " [{row: refers, column: nih/1, auc: 77}, {row: refers, column: nih/1, auc: 78}]}}"
)
TWICE = [
    rejected(name, text, *words, "keep one of the two")
    for name, text, *words in (
        ("a dataset listed twice", "study: {cells: [{dataset: nih, ratios: [1]}, {dataset: nih, ratios: [1]}]}", "nih/1"),
        ("a ratio listed twice", "study: {cells: [{dataset: nih, ratios: [1, 1]}]}", "ratios"),
        ("a method listed twice", "study: {methods: [refers, c2l, refers]}", "study.methods", "refers"),
        ("a row listed twice", "tables: {table1: {rows: [refers, refers]}}", "tables.table1.rows"),
        ("a column listed twice", "tables: {table1: {columns: [nih/1, nih/1]}}", "tables.table1.columns"),
        ("a line listed twice", "figures: {roc_nih: {methods: [refers, refers]}}", "figures.roc_nih"),
        ("a seed listed twice", "study: {seeds: [0, 0]}", "study.seeds"),
        ("a member listed twice", "groups: {a: {title: a, best_of: [refers, refers]}}", "groups.a"),
        ("a published number twice", PUBLISHED, "reported.a", "numbers"),
        ("a GPU count twice", "plan: {gpus: [1, 1]}", "plan.gpus"),
    )
]  # fmt: skip
TITLES = [
    rejected(name, text, *words, "title")
    for name, text, *words in (
        ("two methods of one title", "methods: {c2l: {title: Our  REFERS}}", "methods.c2l", "methods.refers"),
        ("a method and a group of one title", "groups: {a: {title: C2L, best_of: [c2l]}}", "groups.a", "methods.c2l"),
        ("two datasets of one title", "datasets: {shenzhen: {title: NIH}}", "datasets.shenzhen", "datasets.nih"),
        ("two tables of one title", "tables: {table2: {title: An ablation study of REFERS by removing or replacing individual modules}}", "tables.table2", "tables.table3"),
        ("two figures of one title", "figures: {figure2a: {title: Figure 2b. VinBigData}}", "figures.figure2a", "figures.figure2b"),
    )
]  # fmt: skip
FILES = [
    rejected(name, text, *words)
    for name, text, *words in (
        ("a list", "- 1", "not a map"),
        ("a word", "true", "not a map"),
        ("nothing", "", "not a map"),
        ("two documents", "note: a\n---\nnote: b\n", "line 2"),
        ("a key that is a number", "methods:\n  1: {}\n", "line 2", "key 1"),
        ("a key that is nothing", "~: 1", "line 1", "key None"),
        ("a key that is true", "note: a\non: b", "line 2", "key True"),
        ("a key that is a list", "? [a, b]\n: 1", "line 1", "quotes"),
        ("a key twice", "note: a\nmethods:\n  refers: {title: a, title: b}\n", "line 3", "'title'", "twice"),
        ("a key twice, once in quotes", '"note": a\nnote: b', "line 2", "twice"),
        ("a map inside itself", "methods: &a {refers: *a}", "line 1", "alias"),
        ("a list inside itself", "note: a\nmethods: &a [*a]", "line 2", "alias"),
        ("aliases of a billion", LAUGHS, "line 6", "aliases"),
        ("a million brackets", "note: " + "[" * 1_000_000, "line 1", "inside each other"),
        ("a tag of Python", "note: !!python/object/apply:os.system [ls]", "line 1", "tag"),
        ("a set", "note: !!set {a, b}", "line 1", "tag"),
        ("a number by tag", "note: !!bool abc", "line 1", "'abc'"),
        ("a number of 5,000 digits", f"note: a\nplan: {{studies: {HUGE}}}", "line 2", "5000 digits"),
        ("a NUL", b"note: \x00", "cannot be read as YAML"),
    )
]
REFERENCES = [
    rejected(name, text, *words)
    for name, text, *words in (
        ("a reference without a baseline", "tables: {table1: {baseline: ~}}", "tables.table1", "baseline"),
        ("a baseline that is no row", "tables: {table1: {baseline: random}}", "tables.table1", "rows"),
        ("a title that rings", 'methods: {refers: {title: "a\\x07b"}}', "methods.refers.title", "invisible"),
        ("a row against itself", "tables: {table1: {baseline: refers}}", "tables.table1", "both refers"),
        ("settings of no ratio", "finetune: {cells: {nih/2: {}}}", "no cell 'nih/2'"),
        ("settings of no dataset", "finetune: {cells: {nhi/1: {}}}", "no dataset 'nhi'"),
        ("settings of no column, in the layer that narrows", "study: {cells: [{dataset: nih, ratios: [100]}]}\nfinetune: {cells: {nih/3: {}}}", "no cell 'nih/3'"),
        ("a blank title", "methods: {refers: {title: ' '}}", "methods.refers.title", "blank"),
        ("an architecture that is a list", "methods: {refers: {model: {architecture: [1]}}}", "methods.refers.model", "architecture"),
        ("a pattern of another folder", "sources: {nih: {images: ../**}}", "sources.nih.images", "below"),
        ("a pattern from the root", "sources: {nih: {files: [/etc/passwd]}}", "sources.nih.files", "below"),
        ("a pattern that no folder has", "sources: {nih: {boxes: 'a**b'}}", "sources.nih.boxes", "**"),
        ("a group named like a method", "groups: {refers: {title: a, best_of: [c2l]}}", "groups.refers"),
    )
]  # fmt: skip
CASES = [
    *MAPS,
    *(case._replace(name=f"{place}: {case.name}") for place, case in enumerate(PAIRS)),
    *NUMBERS,
    *TWICE,
    *TITLES,
    *FILES,
    *REFERENCES,
    Case("a config that is a pipe", pipe, study, refused("a.yaml", "not a regular file")),
    accepted("an overlay with fewer ratios", has_cells("nih/100"), "study: {cells: [{dataset: nih, ratios: [100]}]}"),
    accepted(
        "an overlay with other ratios",
        has_lost_table3,
        "study: {cells: [{dataset: covid_t2, ratios: [10]}, {dataset: nih, ratios: [10]}]}",
    ),
    accepted("an overlay with a ratio more", has_a_fifth, FIFTH),
    accepted(
        "an overlay without the ratio of another",
        has_narrowed,
        FIFTH,
        "study: {cells: [{dataset: nih, ratios: [100]}]}",
    ),
    accepted(
        "a column that comes and goes and comes",
        has_a_fifth,
        FIFTH,
        "study: {cells: [{dataset: nih, ratios: [100]}]}",
        "study: {cells: [{dataset: nih, ratios: [5]}]}",
    ),
    accepted("a title that is half a formula", draws("$\\frac$"), "tables: {table1: {title: '$\\frac$'}}"),
]  # fmt: skip
