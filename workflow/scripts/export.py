"""Export the encoders that exist as networks that timm loads; one that timm cannot compute is a line that says why.

In: encoder.safetensors and run.json of every method. Out: a folder for each with config.json, model.safetensors and a model
card, and README.md with a row for each.
"""

import argparse
from pathlib import Path

from refers import config
from refers.arguments import Arguments
from refers.errors import UserError, run
from refers.files import read_json, write_text
from refers.formatting import markdown_table
from refers.model.encoders import load_encoder
from refers.sharing.export import export_encoder, loading
from refers.sharing.model_card import model_card, of_export, shown


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--facts", required=True, help="JSON: for each method what model_card.py takes, and `encoder`"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rows, encoders = [], config.parse_json(args.facts, "--facts")
    if not encoders:
        raise UserError(f"{args.out}: no encoder exists yet; make some first, with the target encoders")
    for method, facts in encoders.items():
        source, folder = Path(facts["encoder"]), args.out / method
        encoder, _ = load_encoder(source)
        record = read_json(source.with_name("run.json"))
        try:
            code = loading(shown(folder), export_encoder(encoder, folder))
        except UserError as error:
            rows.append([method, str(error)])
            print(f"{method}: {error}")
            continue
        settings = config.to_dict(encoder.settings)
        write_text(folder / "README.md", model_card(facts, record, settings, of_export(code)))
        rows.append([method, f"`{folder.name}/`"])
        print(f"{method}: {folder}")
    write_text(args.out / "README.md", markdown_table(["Method", "Export"], rows) + "\n")


if __name__ == "__main__":
    run(main)
