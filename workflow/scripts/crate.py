"""Pack the finished study for an archive or a reviewer: an RO-Crate of results, workflow, config, software and runs.

In: the study's config with its `publication`, and the files of its results. Out: a folder with ro-crate-metadata.json.
Nothing that holds report text, images or image ids of MIMIC-CXR is read.
"""

import argparse
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path

from refers.arguments import Arguments
from refers.config import parse_json
from refers.errors import UserError, run
from refers.sharing.crate import Results, publication_of, write_crate
from refers.study.check import check


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="the study's config as JSON")
    for kind in fields(Results):
        parser.add_argument(
            f"--{kind.name}", type=Path, nargs="*", default=[], help="files below the folder of the results"
        )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the crate; an earlier one is replaced"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    study = check(parse_json(args.config, "config"))
    publication_of(study.config)
    results = Results(**{kind.name: getattr(args, kind.name) for kind in fields(Results)})
    args.out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=args.out.parent, prefix=".crate.") as temporary:
            folder = Path(temporary) / "crate"
            folder.mkdir()
            notes = write_crate(study, results, folder)
            shutil.rmtree(args.out, ignore_errors=True)
            folder.rename(args.out)
    except OSError as error:
        raise UserError(
            f"{args.out}: cannot be written ({error.strerror or error}); free space or choose a writable folder"
        ) from None
    for note in notes:
        print(note)
    size = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {len(results.records)} runs, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    run(main)
