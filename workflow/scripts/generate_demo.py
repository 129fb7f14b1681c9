"""Write five small generated datasets with a planted signal, in the official layouts, for the demo.

In: only a seed. Out: OUT/{mimic,nih,vinbigdata,shenzhen,covid}/ and, last of all, OUT/demo.json with the seed, the counts
and a hash over the content of all files. The same seed and scale give the same bytes for any number of workers. A source
folder that the generator did not write is never changed.
"""

import argparse
from pathlib import Path

from refers.arguments import SEED, Arguments, number, whole
from refers.demo.generate import generate
from refers.errors import UserError, run


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="data root")
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument(
        "--scale",
        type=number(0, 1000, above=True),
        default=1.0,
        help="size of the datasets, 1 for the demo's",
    )
    parser.add_argument("--workers", type=whole(1, 1024), default=2)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must not be negative")
    if not 0.01 <= args.scale <= 100:
        raise UserError(f"--scale {args.scale}: must be between 0.01 and 100")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: must be at least 1")
    content = generate(args.out, args.seed, args.scale, args.workers)
    for source, counts in content["sources"].items():
        print(f"{source}: {counts['images']} images")
    print(f"{args.out / 'demo.json'}: {content['files']} files, sha256 {content['sha256']}")


if __name__ == "__main__":
    run(main)
