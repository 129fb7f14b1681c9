"""Decode every image of an index once into a memory-mapped uint8 store (paper §4: resized to 256 x 256).

In: index.parquet and the source's folder. Out: images.npy (N, size, size), whose row i is row i of the index; a manifest
with count, size, digests, the rows of unreadable images and counts of remarks; and quarantine.csv with the reason for each of these.
With --verify, an existing store is compared with its manifest instead.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, number, whole
from refers.data.index import read_index
from refers.data.store import INDEX_DIGEST, pack, verify
from refers.errors import UserError, run
from refers.files import file_digest, write_json
from refers.workers import progress_bar


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True, help="official download behind the index")
    parser.add_argument("--size", type=whole(8, 2048), default=256, help="side of a stored image in pixels")
    parser.add_argument(
        "--tolerance", type=number(0, 1), default=0.0, help="largest share of unreadable images"
    )
    parser.add_argument("--out", type=Path, required=True, help="images.npy")
    parser.add_argument("--manifest", type=Path, required=True, help="images.json")
    parser.add_argument("--quarantine", type=Path, help="unreadable images [quarantine.csv beside --out]")
    parser.add_argument("--workers", type=whole(1, 1024), default=1, help="processes")
    parser.add_argument("--verify", action="store_true", help="check an existing store; decode nothing")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not 8 <= args.size <= 4096:
        raise UserError(f"--size {args.size} is outside [8, 4096]")
    if not 0 <= args.tolerance <= 1:
        raise UserError(f"--tolerance {args.tolerance} is outside [0, 1]")
    names = read_index(args.index, ["path"])["path"].tolist()
    if args.verify:
        found = verify(args.out, args.manifest)
        if found.get(INDEX_DIGEST) != file_digest(args.index):
            raise UserError(
                f"{args.out}: belongs to another {args.index}; delete it and rerun without --verify"
            )
        print(f"{args.out}: {found['count']} images of {found['size']} pixels, consistent with the manifest")
        return
    if not args.folder.is_dir():
        raise UserError(f"{args.folder}: no such folder; place the official download there")
    # Before the hours of work, in which the index could be replaced.
    index = file_digest(args.index)
    quarantine = args.quarantine or args.out.with_name("quarantine.csv")
    manifest = pack(
        [args.folder / name for name in names],
        args.size,
        args.out,
        quarantine,
        workers=args.workers,
        tolerance=args.tolerance,
        progress=progress_bar(len(names)),
    )
    write_json(args.manifest, manifest | {INDEX_DIGEST: index})
    for remark, count in sorted(manifest["remarks"].items()):
        print(f"{count} images: {remark}")
    if rows := manifest["quarantined"]:
        print(f"warning: {len(rows)} unreadable images are left out from now on; {quarantine} lists them")


if __name__ == "__main__":
    run(main)
