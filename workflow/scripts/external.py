"""AUC of one table cell's classifiers on the test images of another dataset, for the findings that both label.

In: predictions.parquet of every run; the predictions of the other dataset's test images by the classifiers of the first split
(predict.py), and those of the classifiers that were trained there. Out: on_{other}.json; see `refers.cells.external`. Does not
need torch.
"""

import argparse
import json
from pathlib import Path

from refers.arguments import Arguments
from refers.cells import runs
from refers.cells.external import expect_same_images, of_findings, read_external, summarise_external
from refers.errors import UserError, run
from refers.evaluation.predictions import read_seeds
from refers.files import file_digest, write_json


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    runs.add_options(parser)
    parser.add_argument("--other", required=True, help="name of the other dataset")
    parser.add_argument("--external", type=Path, nargs="+", required=True, help="one file per seed")
    parser.add_argument(
        "--trained-there",
        type=Path,
        nargs="*",
        default=[],
        help="predictions of the other dataset's own runs",
    )
    parser.add_argument(
        "--findings", required=True, help='JSON: {finding: {"here": classes, "other": classes}}'
    )
    parser.add_argument("--out", type=Path, required=True, help="on_{other}.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found, findings = runs.read(args), json.loads(args.findings)
    classes, seeds = found.classes, len(set(args.seeds))
    if len(args.external) != seeds:
        raise UserError(
            f"{len(args.external)} files of external predictions for {seeds} seeds; give one per seed"
        )
    external, labelled = read_external(args.external, args.predictions[:seeds], classes)
    for name, known in (("here", classes), ("other", labelled)):
        for finding, of in findings.items():
            if absent := [each for each in of[name] if each not in known]:
                raise UserError(f"--findings {finding}: no class {absent[0]!r}; known are {', '.join(known)}")
    here, there = ([each[name] for each in findings.values()] for name in ("here", "other"))
    sets = {
        "external": of_findings(external, labelled, classes, list(zip(there, here, strict=True))),
        "own": of_findings(found.tests[0], classes, classes, list(zip(here, here, strict=True))),
    }
    if args.trained_there:
        other = read_seeds(args.trained_there)
        sets["other"] = of_findings(
            other.test, other.classes, other.classes, list(zip(there, there, strict=True))
        )
        expect_same_images(sets["external"], sets["other"], other.path)
    summary = summarise_external(sets, [*findings], args.resamples, args.bootstrap_seed)
    content = found.facts | {
        "other": args.other,
        "external_sha256": [file_digest(path) for path in args.external],
        "trained_there_sha256": [file_digest(path) for path in args.trained_there],
        "settings": {"findings": findings},
        "bootstrap": summary["tests"]["external"]["bootstrap"],
        **summary,
    }
    write_json(args.out, content)
    means = {name: each["mean"]["mean"] for name, each in summary["tests"].items()}
    texts = [f"{name} {'undefined' if mean is None else f'{100 * mean:.2f}'}" for name, mean in means.items()]
    print(f"{found.name} on {args.other}: AUC {', '.join(texts)}, over {len(summary['findings'])} findings")


if __name__ == "__main__":
    run(main)
