"""Descriptions of the tables and figures of a study, as table.py and figure.py read them, and the cells behind each."""

from dataclasses import dataclass

from refers.config.study import Table
from refers.measure_names import GAP, MEASURES, group_names
from refers.study import paths
from refers.study.availability import Availability
from refers.study.study import Cell, Study

OF_PREDICTIONS = ("roc", "reliability")  # kinds of figures


@dataclass(frozen=True, eq=False)
class Specs:
    """Tables and figures with the cells that are available."""

    availability: Availability

    @property
    def study(self) -> Study:
        return self.availability.study

    # ---- tables

    def table(self, name: str) -> dict:
        """The table's description, as table.py reads it."""
        entry = self.study.table(name)
        groups = self.study.config.groups
        rows = []
        for row in self.study.table_rows(name):
            about = groups[row] if row in groups else self.study.method(row)
            rows.append(
                {
                    "id": row,
                    "title": about.title,
                    "methods": self.study.row_methods(row),
                    "note": about.note,
                    "marks": entry.marks.get(row, []),
                }
            )
        status = {method: self.availability.row_status(method) for row in rows for method in row["methods"]}
        status |= {cell.dataset: self.availability.dataset_status(cell.dataset) for cell in self.study.cells}
        return {
            "name": name,
            "title": entry.title,
            "label": entry.label,
            "note": self.study.config.note,
            "protocol": entry.protocol,
            "against": self._against(entry.against),
            "comparable": entry.comparable and entry.protocol == "finetune" and entry.shows == "auc",
            "shows": entry.shows,
            **(self._grouped(name) if entry.shows == "subgroups" else {}),
            **(self._external(name) if entry.shows == "external" else {}),
            **entry.model_dump(include={"reference", "baseline"}, exclude_none=True),
            "rows": rows,
            "columns": [column for cell in self.table_columns(name) for column in self._columns(cell, entry)],
            "verdict": self.study.config.verdict.model_dump(),
            "independent": self._independent(name),
            "undefined_resamples": self.study.config.study.bootstrap.undefined,
            "per_seed": self.study.config.subset.per_seed,
            "status": {key: reason for key, reason in status.items() if reason},
        }

    def _against(self, method: str | None) -> dict[str, str] | None:
        """The method that the rows of a table are compared with, and why it cannot run."""
        if method is None:
            return None
        status = self.availability.row_status(method)
        return {"id": method, "title": self.study.method(method).title, "status": status}

    def _independent(self, name: str) -> dict[str, dict]:
        """What a table says of the publications whose numbers it prints.

        Those of config/reported.csv are of the paper's columns: they count (`listed`) where the data are the paper's.
        """
        config = self.study.config
        if not self.study.table(name).independent:
            return {}
        return {
            source: entry.model_dump() | {"listed": config.comparable}
            for source, entry in config.reported.items()
            if config.comparable or entry.numbers
        }

    def _grouped(self, name: str) -> dict:
        """Of a table of subgroups: columns without any (`without`), and why the others may have no file (`absent`)."""
        datasets = dict.fromkeys(cell.dataset for cell in self.table_columns(name))
        status = {each: self.availability.characteristics_status(each) for each in datasets}
        has = {each: bool(self._characteristics(each)) for each in datasets}
        return {
            "without": [self.study.dataset(each).title for each in datasets if not has[each]],
            "absent": {each: reason for each, reason in status.items() if reason and has[each]},
        }

    def _external(self, name: str) -> dict:
        """Of a table of external tests: the other dataset, which findings are several classes, and why a method has no file."""
        entry, config = self.study.table(name), self.study.config
        datasets = dict.fromkeys([*(cell.dataset for cell in self.table_columns(name)), entry.tested_on])
        joined = {
            finding: {
                config.datasets[each].title: config.datasets[each].findings[finding]
                for each in datasets
                if len(config.datasets[each].findings.get(finding, [])) > 1
            }
            for cell in self.table_columns(name)
            for finding in self.study.shared_findings(cell.dataset, entry.tested_on)
        }
        status = {
            f"{method}/{cell}": self.availability.external_status(method, cell, entry.tested_on)
            for method, cell in self.table_cells(name)
        }
        several = [self.study.dataset(each).title for each in datasets if len(self.study.splits(each)) > 1]
        return {
            "tested_on": self.study.dataset(entry.tested_on).title,
            "joined": {finding: of for finding, of in joined.items() if of},
            "first_split": several,
            "absent": {place: reason for place, reason in status.items() if reason},
        }

    def _characteristics(self, dataset: str) -> list[str]:
        return list(self.study.source(self.study.dataset(dataset).source).characteristics)

    def _columns(self, cell: Cell, entry: Table) -> list[dict]:
        """One column of a cell, or one for each of its classes, measures, groups of test images, or external tests."""
        ratios = [other.ratio for other in self.study.cells if other.dataset == cell.dataset]
        dataset, title = self.study.dataset(cell.dataset), "All" if ratios == [100] else f"{cell.ratio}%"
        about = {**cell._asdict(), "dataset_title": dataset.title, "group": dataset.title, "title": title}
        about["comparable"] = self.study.config.comparable and dataset.comparable
        about["same_images"] = dataset.split.kind != "random"
        about["own"] = dataset.own
        if entry.shows == "auc" and entry.per_class is None:
            return [{"id": str(cell), **about}]
        about["group"] = f"{about['group']} {title}"
        if entry.shows == "measures":
            specificity = self.study.config.measures.specificity
            heads = ("AUPRC", "Brier", "ECE", f"Sensitivity at {specificity:g} % specificity")
            return [
                about | {"id": f"{cell}/{name}", "title": head, "measure": name}
                for name, head in zip(MEASURES, heads, strict=True)
            ]
        if entry.shows == "subgroups":
            ages = self.study.config.subgroups.ages
            return [
                about
                | {"id": f"{cell}/{name}/{group}", "title": f"{name.capitalize()}, {group}"}
                | {"group_of": name, "subgroup": group}
                for name in self._characteristics(cell.dataset)
                for group in (*group_names(name, ages), GAP)
            ]
        if entry.shows == "external":
            return self._external_columns(cell, entry.tested_on, about)
        return [
            about | {"id": f"{cell}/{name}", "title": name.replace("_", " "), "class": name}
            for name in dataset.classes
        ]

    def _external_columns(self, cell: Cell, other: str, about: dict) -> list[dict]:
        """Columns of an external test: of the mean and of each finding the number on the other dataset, and those beside it."""
        there = self.study.dataset(other).title
        tests = {"external": f"on {there}", "own": f"on {about['dataset_title']}"}
        if Cell(other, cell.ratio) in self.study.cells:
            tests["other"] = f"on {there}, trained there"
        about = about | {"group": f"{about['group']} on {there}"}
        return [
            about
            | {"id": f"{cell}/{other}/{finding or 'mean'}/{test}", "title": f"{finding or 'Mean'}, {title}"}
            | {"finding": finding, "test": test}
            for finding in ("", *self.study.shared_findings(cell.dataset, other))
            for test, title in tests.items()
        ]

    def table_columns(self, name: str) -> list[Cell]:
        """Cells behind a table's columns: those that it names, those of its `per_class` dataset, or all of the study."""
        entry = self.study.table(name)
        return [
            cell
            for cell in self.study.cells
            if str(cell) in (entry.columns or [str(cell)])
            and cell.dataset == (entry.per_class or cell.dataset)
        ]

    def table_cells(self, name: str) -> list[tuple[str, Cell]]:
        """(method, cell) pairs that a table prints, by its protocol, and that can run."""
        entry = self.study.table(name)
        rows = [*self.study.table_rows(name), *filter(None, [entry.against])]
        methods = dict.fromkeys(method for row in rows for method in self.study.row_methods(row))
        return [
            (method, cell)
            for method in methods
            for cell in self.table_columns(name)
            if self.availability.can_run(method, cell, entry.protocol)
        ]

    def table_measured(self, name: str) -> list[tuple[str, Cell]]:
        """(method, cell) pairs whose measures, subgroups or external test a table prints, and that can run."""
        entry, availability = self.study.table(name), self.availability
        reason_of = {
            "auc": lambda method, cell: "its cells are all that it prints",
            "measures": lambda method, cell: "",
            "subgroups": lambda method, cell: availability.characteristics_status(cell.dataset),
            "external": lambda method, cell: availability.external_status(method, cell, entry.tested_on),
        }[entry.shows]
        return [pair for pair in self.table_cells(name) if not reason_of(*pair)]

    def table_tests(self, name: str) -> list[tuple[str, str, Cell]]:
        """(reference, baseline, cell) triples whose t-tests a table may print; those of single classes table.py makes."""
        entry, can_run = self.study.table(name), self.availability.can_run
        if entry.against:
            return [
                (method, entry.against, cell)
                for method, cell in self.table_cells(name)
                if method != entry.against and can_run(entry.against, cell)
            ]
        if not (entry.reference and entry.baseline):
            return []
        reference = entry.reference
        others = [row for row in self.study.table_rows(name) if row != reference]
        return [
            (reference, method, cell)
            for row in (others if entry.baseline == "best" else [entry.baseline])
            for method in self.study.row_methods(row)
            for cell in self.table_columns(name)
            if can_run(method, cell) and can_run(reference, cell)
        ]

    # ---- figures

    def figure(self, name: str) -> dict:
        """The figure's description, as figure.py reads it; `sources` names the method behind each of its inputs."""
        entry, cells = self.study.figure(name), self.figure_cells(name)
        kind = entry.kind
        of_predictions = kind in OF_PREDICTIONS
        methods = [
            {
                "id": method,
                "title": self.study.method(method).title,
                "status": self._line_status(name, method),
                "line": [*self.study.config.methods].index(method),
            }
            for method in entry.methods or self.study.methods
            if kind != "curves" or self.study.is_pretrained(method)
        ]
        cell = {"dataset": entry.dataset, "ratio": entry.ratio}
        if kind == "curves":
            sources = [method["id"] for method in methods if not method["status"]]
        else:
            copies = len(self.study.seeds) if of_predictions else 1
            sources = [method for method, _ in cells for _ in range(copies)]
        return {
            "kind": kind,
            "title": entry.title,
            "note": " ".join(
                filter(None, [self._first_split(name), self._credit(name), self.study.config.note])
            ),
            **({"threshold": entry.threshold} if kind == "attention" else {}),
            **({"seeds": self.study.seeds, "cell": cell} if of_predictions else {}),
            **({"measures": self.study.config.measures.model_dump()} if kind == "reliability" else {}),
            "methods": methods,
            "sources": sources[:1] if kind == "attention" else sources,
        }

    def _first_split(self, name: str) -> str:
        """What a figure of a single split says where there are several: each has other test images."""
        entry = self.study.figure(name)
        splits = len(self.study.splits(entry.dataset)) if entry.dataset else 1
        return (
            f"The first of {splits} splits."
            if splits > 1 and entry.kind in (*OF_PREDICTIONS, "attention")
            else ""
        )

    def _credit(self, name: str) -> str:
        """Citation and licence of the images that a figure shows."""
        entry = self.study.figure(name)
        shows = entry.kind == "attention" and entry.dataset
        return self.study.source(self.study.dataset(entry.dataset).source).credit if shows else ""

    def credits(self) -> list[str]:
        """Citations and licences of the images of the study's columns."""
        sources = [self.study.dataset(name).source for name in self.study.datasets]
        return list(dict.fromkeys(filter(None, (self.study.source(name).credit for name in sources))))

    def _line_status(self, name: str, method: str) -> str:
        """Empty when a figure shows the method; otherwise why not."""
        entry, availability = self.study.figure(name), self.availability
        if method in self.study.methods:
            metrics = paths.fill(paths.ENCODER_METRICS, method=method)
            if any(method == shown for shown, _ in self.figure_cells(name)):
                return ""
            if entry.kind == "curves" and availability.results_exist(metrics):
                return ""
        reason = availability.row_status(method)
        if entry.dataset:
            reason = reason or availability.dataset_status(entry.dataset)
        if entry.kind == "attention":
            reason = reason or availability.maps_status(name)
        return reason

    def figure_cells(self, name: str) -> list[tuple[str, Cell]]:
        """(method, cell) pairs that a figure shows and that can run."""
        entry, availability = self.study.figure(name), self.availability
        if not (entry.dataset and entry.methods) or (
            entry.kind == "attention" and availability.maps_status(name)
        ):
            return []
        cells = [cell for cell in self.study.cells if cell.dataset == entry.dataset]
        if entry.ratio:
            cells = [cell for cell in cells if cell.ratio == entry.ratio]
        found = [
            (method, cell) for method in entry.methods for cell in cells if availability.can_run(method, cell)
        ]
        maps = paths.fill(paths.MAPS, figure=name)
        if entry.kind == "attention" and not availability.results_exist(maps):
            # predictions of an earlier run are enough for a table, but only a trained classifier gives maps
            found = [pair for pair in found if not availability.training_status(*pair)]
        return found
