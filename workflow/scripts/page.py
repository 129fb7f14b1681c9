"""Write the study's static page: tables, figures, claims, and for each number its target, seeds, commit and device.

In: tables as HTML and as csv, figures, claims.csv, t-tests and the run.json of every training job. Out: index.html in the folder of the
results, one file that opens from disk and can be mailed.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from refers.arguments import Arguments
from refers.claims.claims import read_verdicts
from refers.errors import UserError, run
from refers.evaluation.cell_file import read_test
from refers.files import MAKERS, read_object, read_utf8, write_text
from refers.planning import gpu_report, plan
from refers.reporting.page import FACTS, Picture, facts_of_runs, render, run_row, summary_of
from refers.reporting.table_formats import read_csv
from refers.study import paths


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--title", required=True)
    parser.add_argument("--note", default="")
    parser.add_argument("--command", required=True, help="how to make a target again; TARGET stands for it")
    parser.add_argument("--tables", type=Path, nargs="+", required=True)
    parser.add_argument(
        "--numbers", type=Path, nargs="*", default=[], help="csv of tables, for the page's head"
    )
    parser.add_argument("--latex", type=Path, nargs="*", default=[], help="LaTeX of tables")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="png files")
    parser.add_argument("--captions", type=json.loads, default={}, help="title by figure, as JSON")
    parser.add_argument("--claims", type=Path, help="claims.csv, of a study that checks the paper's claims")
    parser.add_argument("--credits", nargs="*", default=[], help="citation and licence of the images")
    parser.add_argument(
        "--records",
        type=Path,
        nargs="*",
        default=[],
        help="run.json of every fine-tune and probe, below the folder of --out",
    )
    parser.add_argument(
        "--encoders", type=Path, nargs="*", default=[], help="run.json of every encoder that exists"
    )
    parser.add_argument("--ttests", type=Path, nargs="*", default=[], help="JSON files of ttest.py")
    parser.add_argument("--plan", type=Path, help="plan.json; without it the page has no plan")
    parser.add_argument("--gpu-check", type=Path, help="gpu_check.json; without it the page has no GPU check")
    parser.add_argument("--out", type=Path, required=True, help="index.html")
    return parser.parse_args()


def run_of(record: Path, folders: dict[str, str]) -> tuple[str, dict[str, str]]:
    """Target of the cell that a fine-tune or a probe is part of, and the wildcards of its run."""
    for files in paths.PROTOCOLS.values():
        if wildcards := paths.parse(files.record, folders, record):
            return paths.locate(files.cell, folders, **wildcards).as_posix(), dict(wildcards)
    raise UserError(
        f"--records {record}: not a fine-tune's or probe's run.json below {folders['results']}; remove it"
    )


def cells_of(test: Path, folders: dict[str, str]) -> list[str]:
    """Targets of the two cells that a t-test compares."""
    found = read_test(test)
    where = {"dataset": found["dataset"], "ratio": found["ratio"]}
    methods = [found[name] for name in ("reference", "baseline")]
    return [paths.locate(paths.CELL, folders, method=method, **where).as_posix() for method in methods]


def read_record(path: Path) -> dict:
    """A run.json of which the page can show the facts."""
    found = read_object(path, "run record", FACTS)
    try:
        facts_of_runs([found])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__} {error}"
        raise UserError(
            f"{path}: not a run record ({reason}); delete it and rerun the job that wrote it"
        ) from None
    return found


def section(path: Path | None, kind: str, to_html: Callable[[dict], str]) -> str:
    """What the page shows of a file; nothing where it does not exist."""
    if not path or not path.exists():
        return ""
    try:
        return to_html(read_object(path, kind))
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path}: not a {kind} ({type(error).__name__} {error}); delete it and rerun {MAKERS[kind]}"
        ) from None


def main() -> None:
    args = parse_args()
    folders = {"results": args.out.parent.as_posix()}
    runs, records, lines = defaultdict(list), [], []
    for path in args.encoders:
        records.append(read_record(path))
        lines.append(run_row({"method": path.parent.name}, records[-1]))
    for path in args.records:
        target, wildcards = run_of(path, folders)
        records.append(read_record(path))
        runs[target].append(records[-1])
        lines.append(run_row(wildcards, records[-1]))
    claims = read_verdicts(args.claims) if args.claims else []
    figures = [
        Picture(
            args.captions.get(path.stem, path.stem),
            path.read_bytes(),
            path.with_suffix(".pdf").relative_to(args.out.parent).as_posix(),
        )
        for path in args.figures
    ]
    cells = {target: facts_of_runs(found) for target, found in runs.items()}
    text = render(
        args.title,
        args.note,
        [read_utf8(path, MAKERS["table"]) for path in args.tables],
        figures,
        claims,
        cells,
        {
            path.as_posix(): [cell for cell in cells_of(path, folders) if cell in cells]
            for path in args.ttests
        },
        args.command,
        section(args.plan, "plan", plan.to_html),
        section(args.gpu_check, "GPU check", gpu_report.to_html),
        args.credits,
        summary_of([row for path in args.numbers for row in read_csv(path)], records, claims),
        lines,
        {path.stem: read_utf8(path, MAKERS["table"]) for path in args.latex},
    )
    write_text(args.out, text)
    print(
        f"{args.out}: {len(args.tables)} tables, {len(figures)} figures, {len(claims)} claims, {len(cells)} cells"
    )


if __name__ == "__main__":
    run(main)
