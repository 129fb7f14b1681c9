"""Find the visual words that TransVW learns to classify: places in images that look alike (compared in the paper's §4).

In: index.parquet and images.npy of MIMIC, with tokens.npz, or of a pool of other images. Out: words.csv, one row per instance of a word.
"""

import argparse
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.data.mimic_studies import MimicStudies
from refers.data.visual_words import discover
from refers.errors import run
from refers.files import write_text


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Words)")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument(
        "--manifest", type=Path, required=True, help="images.json, which names unreadable images"
    )
    parser.add_argument("--tokens", type=Path, help="tokens.npz, of images that have reports")
    parser.add_argument("--out", type=Path, required=True, help="words.csv")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Words, args.config, "words")
    found = discover(MimicStudies(args.index, args.store, args.tokens, args.manifest), settings)
    write_text(args.out, found.to_csv(index=False))
    print(f"{settings.count} visual words, {len(found)} crops of {found['image_id'].nunique()} images")


if __name__ == "__main__":
    run(main)
