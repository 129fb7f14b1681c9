"""One of the paper's tables as csv, Markdown, LaTeX and HTML, ours beside the printed numbers; prints the Markdown.

In: the table's spec, auc.json files, t-tests (matched by their content) and the paper's numbers. The spec is JSON:
  protocol, comparable        `probe` for a linear probe; false where the paper has no such table
  name, label, title, note    label: `Table 1`; note: sentences under the table
  reference, baseline         rows that are tested; baseline "best" is the best other row; without them no tests
  rows                        [{id, title, methods, note, marks}]; of several methods the one with the best validation
                              AUC is printed; marks become leading columns of check marks, in this order
  columns                     [{id, dataset, dataset_title, ratio, group, title, comparable, same_images, own}]; with a `class` the
                              column is that class of the cell; comparable: whether ours is judged against the printed number;
                              same_images: whether that is of the same test images; own: a dataset that the paper has not
  verdict                     {level, margin}: see refers.evaluation.verdict
  per_seed                    whether every seed has a label subset of its own
  undefined_resamples         largest share of undefined resamples with which an interval is still printed
  status                      {method or dataset: "short form: why it has no cells"}
  independent                 {source: {title, citation, differs, numbers, listed}}: publications whose numbers are printed below
                              the methods; numbers are of the same test images, and judged; `listed` takes those of the csv
  shows                       `auc`; `measures`, `subgroups` or `external`, of whose files columns have a `measure`, `group_of` and
                              `subgroup`, or `test` and `finding`
  without, absent             of subgroups: titles of datasets without any, and {dataset: why it has no file}
  tested_on, joined, first_split, absent
                              of external tests: title of the other dataset, {finding: {title of a dataset: its several classes}},
                              titles of datasets with several splits, and {method/dataset/ratio: why it has no file}
  against                     {id, title, status}: print the difference of each row to this method instead of its AUC
"""

import argparse
import json
import sys
from pathlib import Path

from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.evaluation.cell_file import read_cell, read_measured, read_test
from refers.files import write_text
from refers.reporting.build_table import build, index_results
from refers.reporting.measured import build_measured
from refers.reporting.published import read_independent, read_reported
from refers.reporting.table_formats import to_csv, to_html, to_latex, to_markdown


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spec", required=True, help="JSON, see above")
    parser.add_argument("--cells", type=Path, nargs="*", default=[], help="auc.json files")
    parser.add_argument(
        "--measured",
        type=Path,
        nargs="*",
        default=[],
        help="measures.json, subgroups.json or on_{other}.json of the same cells",
    )
    parser.add_argument("--ttests", type=Path, nargs="*", default=[])
    parser.add_argument("--reported", type=Path, required=True, help="numbers printed in the paper (csv)")
    parser.add_argument("--out-csv", type=Path, required=True)
    parser.add_argument("--out-md", type=Path, required=True)
    parser.add_argument("--out-tex", type=Path, required=True)
    parser.add_argument("--out-html", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    try:
        spec = json.loads(args.spec)
    except ValueError as error:
        raise UserError(f"--spec: not JSON ({error})") from None
    cells = index_results([(str(path), read_cell(path)) for path in args.cells], "method")
    tests = index_results([(str(path), read_test(path)) for path in args.ttests], "reference", "baseline")
    shows = spec.get("shows", "auc")
    measured = [(str(path), read_measured(path, shows)) for path in args.measured]
    asked = {name: about for name, about in spec.get("independent", {}).items() if about.get("listed")}
    others = read_independent(args.reported, spec.get("protocol", "finetune"), asked) if asked else {}
    reported = read_reported(args.reported)
    if shows == "auc":
        table = build(spec, cells, tests, reported, others)
    else:
        table = build_measured(spec, cells, index_results(measured, "method"), reported)
    texts = to_csv(table), to_latex(table), to_html(table), (markdown := to_markdown(table))
    for path, text in zip((args.out_csv, args.out_tex, args.out_html, args.out_md), texts, strict=True):
        write_text(path, text)
    print(markdown)
    methods = {method for row in table.rows for method in row.get("methods", [])}
    columns = {(column["dataset"], str(column["ratio"])) for column in table.columns}
    for kind, given in (("cells", cells), ("t-tests", tests)):
        outside = sum(not (methods.issuperset(key[:-2]) and key[-2:] in columns) for key in given)
        if outside:
            print(
                f"{outside} of {len(given)} {kind} belong to no row or column of {table.name}",
                file=sys.stderr,
            )


if __name__ == "__main__":
    run(main)
