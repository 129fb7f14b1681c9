"""Write the model card of an encoder: its training, data digests, terms of the data, input, and how to load it.

In: encoder.safetensors, run.json beside it, facts of the config. Out: README.md.
"""

import argparse
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.errors import run
from refers.files import read_json, write_text
from refers.model.encoder_file import read_encoder
from refers.sharing.model_card import model_card, of_encoder


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True, help="run.json")
    parser.add_argument("--facts", required=True, help="JSON: method, title, note, checkpoint, sources")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    _, settings, _ = read_encoder(args.encoder)
    facts, record = config.parse_json(args.facts, "--facts"), read_json(args.record)
    write_text(
        args.out, model_card(facts, record, settings, of_encoder(args.encoder, settings["image_size"]))
    )


if __name__ == "__main__":
    run(main)
