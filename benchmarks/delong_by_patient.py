"""Standard errors of AUC on the authors' released predictions: DeLong's, by image and by patient, over the bootstrap's.

    PYTHONPATH=workflow/scripts python benchmarks/delong_by_patient.py --released data/refers-released

Prints minimum, median and maximum of the ratios over all classes and methods of a dataset, for single AUCs and for the
differences between the first method and the others.
"""

import argparse
from pathlib import Path

import numpy as np
import yaml
from refers.audit.released import ResultFolder, read, read_lists
from refers.evaluation.predictions import SplitPredictions
from refers.evaluation.statistics import Bootstrap, delong
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--released", type=Path, required=True, help="folder of the released files and lists")
    parser.add_argument("--results", default="Results_of_fine-tuning.tar.xz", help="below it")
    parser.add_argument("--lists", default="DataProcessed", help="below it")
    parser.add_argument("--config", type=Path, default=Path("config/config.yaml"))
    parser.add_argument("--dataset", default="nih")
    parser.add_argument("--resamples", type=int, default=4000)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    spec = check(yaml.safe_load(args.config.read_text(encoding="utf-8"))).audit
    cells = [
        ResultFolder(each["folder"], each["dataset"], each["ratio"], tuple(each["classes"]))
        for each in spec["cells"]
        if each["dataset"] == args.dataset
    ]
    entry = spec["lists"][args.dataset]
    wanted = {args.dataset: (entry["list"], entry["patient"], entry["classes"])}
    lists = read_lists(args.released / args.lists, spec["folders"][1], wanted)
    released = read(args.released / args.results, spec["folders"][0], cells, spec["methods"], lists)
    ratios: dict[str, list[np.ndarray]] = {"AUC": [], "difference": []}
    for cell in cells:
        first = None
        for each in released.methods:
            if each.cell != cell or each.patients is None:
                continue
            bootstrap = Bootstrap([each.patients], args.resamples, 0)
            sets = [
                _test_set(each, patients)
                for patients in (np.arange(len(each.labels)).astype(str), each.patients)
            ]
            drawn = bootstrap.resample(sets[1:]).auc[:, 0, 0]
            kinds = {"AUC": (drawn, None)}
            if first and first[1] == each.files.keys():
                kinds["difference"] = (drawn - first[2], first[0])
            for kind, (samples, other) in kinds.items():
                baselines = [[one] for one in other] if other else [(), ()]
                errors = [
                    np.sqrt(delong([own], baseline)[1]) for own, baseline in zip(sets, baselines, strict=True)
                ]
                ratios[kind].append(np.stack(errors) / np.nanstd(samples, axis=0, ddof=1))
            first = first or (sets, each.files.keys(), drawn)
            print(
                f"{cell} {each.method}: {len(each.labels)} images, {bootstrap.about['units']} patients",
                flush=True,
            )
    for kind, parts in ratios.items():
        for name, values in zip(("by image", "by patient"), np.hstack(parts), strict=True):
            near = np.mean(np.abs(values - 1) <= 0.05)
            print(
                f"{kind}, DeLong {name} / bootstrap: min {values.min():.3f}, median {np.median(values):.3f},"
                f" max {values.max():.3f}; {100 * near:.1f} % of {len(values)} within 0.95 to 1.05"
            )


def _test_set(each, patients: np.ndarray) -> SplitPredictions:
    ids = np.arange(len(each.labels)).astype(str)
    return SplitPredictions(ids, patients, each.labels.astype(np.int8), [each.scores])


if __name__ == "__main__":
    main()
