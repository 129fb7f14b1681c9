"""Tables of other numbers than a cell's AUC: measures of its predictions, AUC by group of test images, and external tests.

A column has a `measure` (see `refers.evaluation.measures`), a `group_of` (sex, age or projection) and a `subgroup` or the gap
between its groups (see `refers.evaluation.subgroups`), or a `test` (external, own or other) and a `finding`, "" for their mean
(see `refers.cells.external`). Of a row with several methods the one is printed that the table of AUCs
prints. All numbers but gaps are in percent, and every one has its interval over test images.
"""

from typing import Any

from refers.errors import UserError
from refers.evaluation.statistics import LEVEL
from refers.measure_names import ERRORS, GAP
from refers.reporting.build_table import Builder, Results, in_one_line
from refers.reporting.published import Reported
from refers.reporting.table import Entry, Table

INTERVAL = (
    f"with the {100 * LEVEL:g} % interval of a bootstrap of the test images, by patient where known, whose resamples are"
    " those of the AUC"
)


def build_measured(spec: dict[str, Any], cells: Results, measured: Results, reported: Reported) -> Table:
    """Join a spec with results.

    Args:
        cells: auc.json files, as for `refers.reporting.build_table.build`.
        measured: `index_results(..., "method")` of measures.json, subgroups.json or on_{other}.json files.

    Raises:
        UserError: the spec lacks a key, a result is malformed, or one is of other predictions than its auc.json.
    """
    return in_one_line(lambda: MeasuredBuilder(spec, cells, measured, reported).build())


class MeasuredBuilder(Builder):
    """Fills in measures and subgroups where the other builder fills in AUCs."""

    def __init__(self, spec: dict[str, Any], cells: Results, measured: Results, reported: Reported) -> None:
        super().__init__(spec, cells, {}, reported)
        self.measured = measured

    def _fill(self, entry: Entry, cell: dict[str, Any]) -> None:
        column, auc = entry.column, entry.target
        path, found = self.measured.get(self._key(entry.method, column), ("", None))
        if not found:
            absent, place = (
                self.spec.get("absent", {}),
                f"{entry.method}/{column['dataset']}/{column['ratio']}",
            )
            reason = absent.get(place) or absent.get(column["dataset"], "not run: its file was not given")
            self.reasons.setdefault(reason, {})[column["dataset_title"]] = None
            entry.status, entry.target = reason, ""
            return
        if found["predictions_sha256"] != cell.get("predictions_sha256"):
            raise UserError(f"{path}: of other predictions than {auc}; delete the older one and rerun")
        entry.target = path
        if "measure" in column:
            # its classes, labels and what is undefined are those of the AUC
            super()._fill(entry, cell)
            self._set(entry, found["measures"][column["measure"]], found["bootstrap"])
        elif "test" in column:
            self._fill_test(entry, found)
        else:
            self._fill_group(entry, found)

    def _fill_test(self, entry: Entry, found: dict[str, Any]) -> None:
        finding, test = entry.column["finding"], found["tests"].get(entry.column["test"])
        if test is None:
            entry.status, entry.target = "not run: the cell of the other dataset is not available", ""
            self.reasons.setdefault(entry.status, {})[entry.title] = None
            return
        values = test["per_finding"][finding] if finding else test["mean"]
        entry.positives, entry.negatives = values["positives"], values["negatives"]
        entry.splits = 1
        self._set(entry, values, test["bootstrap"])
        if entry.mean is None and finding:
            entry.status = entry.note = "undefined: the test set holds one label only"
        elif entry.mean is None:
            entry.status = entry.note = "undefined: no finding has both labels in every test set"
        elif not finding and len(found["findings"]) < len(found["settings"]["findings"]):
            named = ", ".join(found["findings"])
            entry.note = f"over {len(found['findings'])} of {len(test['per_finding'])} findings: {named}"
            entry.status = f"ok: {entry.note}"

    def _fill_group(self, entry: Entry, found: dict[str, Any]) -> None:
        name, subgroup = entry.column["group_of"], entry.column["subgroup"]
        if name in found["absent"]:
            entry.status = entry.note = f"undefined: the download's table has no {name}"
            return
        of = found["characteristics"][name]
        about = of[GAP] if subgroup == GAP else of["groups"][subgroup]
        for count in ("images", "patients", "positives", "negatives"):
            setattr(entry, count, about.get(count))
        if about["undefined"]:
            entry.status = entry.note = about["undefined"]
            return
        values = about | {"mean": about.get("difference"), "sd": None, "sd_splits": None, "se": None}
        self._set(entry, values if subgroup == GAP else about, found["bootstrap"])
        facts = f"{about['largest']} minus {about['smallest']}" if subgroup == GAP else ""
        facts = facts or f"{about['images']} images of {about['patients']} patients"
        if len(of["classes"]) < len(found["classes"]):
            entry.note = (
                f"over {len(of['classes'])} of {len(found['classes'])} classes: {', '.join(of['classes'])}"
            )
        entry.status = "; ".join(filter(None, [f"ok: {facts}", entry.note]))

    def _set(self, entry: Entry, values: dict[str, Any], bootstrap: dict[str, Any]) -> None:
        entry.mean, entry.sd, entry.sd_splits = (
            None if values[key] is None else 100 * values[key] for key in ("mean", "sd", "sd_splits")
        )
        entry.error, entry.low, entry.high = values.get("se"), None, None
        if entry.mean is not None:
            self._set_interval(entry, bootstrap | values)

    def _mark_best(self, column: dict[str, Any]) -> None:
        if column.get("subgroup") == GAP:
            return
        found = [(entry, entry.mean) for entry in self._column(column) if entry.mean is not None]
        choose = min if column.get("measure") in ERRORS else max
        for entry, mean in found:
            best = choose(each for _, each in found)
            entry.best = len(found) > 1 and f"{mean:.1f}" == f"{best:.1f}"

    def _notes(self) -> list[str]:
        shown = {
            "measures": self._notes_on_measures,
            "subgroups": self._notes_on_groups,
            "external": self._notes_on_tests,
        }[self.spec["shows"]]
        found = [entry for entry in self.table.entries.values() if entry.mean is not None]
        notes = shown(next(iter(self.measured.values()))[1]["settings"], found) if found else []
        without = self.spec.get("without", [])
        said = f"Without sex, age and projection in their tables: {', '.join(without)}." if without else ""
        return [*(notes or ["None of our cells is available yet."]), *self._unknown(), *filter(None, [said])]

    def _notes_on_tests(self, settings: dict[str, Any], found: list[Entry]) -> list[str]:
        there, here = self.spec["tested_on"], found[0].column["dataset_title"]
        joined = [
            f"{finding} is {' or '.join(classes)} of {title}: an image has it where it has any, and the highest score counts."
            for finding, of in self.spec["joined"].items()
            for title, classes in of.items()
        ]
        bold = "; bold: the best of ours" if any(entry.best for entry in found) else ""
        several = self.spec["first_split"]
        return [
            f"Test AUC × 100 of the findings that {here} and {there} both label, averaged over seeds, {INTERVAL}{bold}. n+ and n-:"
            " positive and negative test labels. Mean: over the findings that have both labels in every test set here.",
            f"On {there}: the {here} classifiers on the test images of {there}, of which they saw nothing in training. On {here}:"
            f" the same classifiers on their own test images. Trained there: the {there} classifiers of the same label ratio on the"
            f" same test images of {there}.",
            *([" ".join(joined)] if joined else []),
            *([f"The first split of {', '.join(several)}."] if several else []),
        ]

    def _averaged(self, found: list[Entry]) -> str:
        runs = ", seeds and splits" if any(entry.splits > 1 for entry in found) else " and seeds"
        bold = "; bold: the best of ours" if any(entry.best for entry in found) else ""
        return f"averaged over classes{runs}, {INTERVAL}{bold}."

    def _notes_on_measures(self, settings: dict[str, Any], found: list[Entry]) -> list[str]:
        return [
            f"Measures of the test set × 100, {self._averaged(found)} n+ and n-: positive and negative test labels, summed"
            " over classes.",
            "Average precision (AUPRC): by chance it is the share of positives. Brier score, and expected calibration error"
            f" over {settings['bins']} bins of equal width: the smaller, the better. The calibration error of few images is"
            " biased upwards, and that of a resample once more, so that its interval may lie above the number."
            f" Sensitivity at {settings['specificity']:g} % specificity: a point of the test set's ROC curve; no threshold is"
            " chosen or carried.",
        ]

    def _notes_on_groups(self, settings: dict[str, Any], found: list[Entry]) -> list[str]:
        least = settings["patients"]
        return [
            f"Test AUC × 100 of groups of test images, {self._averaged(found)} Gap: the largest minus the smallest AUC of the"
            " groups with one, in points; its interval is that of these two groups over the paired resamples, and does not"
            " count that the two are chosen by the same images.",
            f"A group counts for a class where {least} of its patients have it and {least} have an image without it, in every"
            " split; one that counts for fewer than half as many classes as another is too small. The AUCs are over the"
            " classes that all others count for.",
        ]

    def _unknown(self) -> list[str]:
        """How many test images have no value, by dataset and characteristic."""
        titles = {column["dataset"]: column["dataset_title"] for column in self.table.columns}
        texts: dict[str, None] = {}
        for (_, dataset, _), (_, found) in self.measured.items():
            for name, about in found.get("characteristics", {}).items() if dataset in titles else ():
                images = about["unknown"] + len_of_groups(about)
                if about["unknown"]:
                    texts[f"{titles[dataset]} {name} of {about['unknown']} of {images} test images"] = None
        return [f"Not known, and in no group: {', '.join(texts)}."] if texts else []


def len_of_groups(about: dict[str, Any]) -> int:
    """Images with a value of a characteristic; an image has the same one in every split."""
    return sum(group["images"] for group in about["groups"].values())
