"""AUC of one table cell by sex, age and projection, and the gaps between such groups.

In: predictions.parquet of every run, and the characteristics of the images of the dataset's download. Out: subgroups.json; see
`refers.evaluation.subgroups`. The resamples of the test images are those of cell.py. Does not need torch.
"""

import argparse
from pathlib import Path

from refers.arguments import Arguments, whole
from refers.cells import runs
from refers.errors import UserError, run
from refers.evaluation.subgroups import Settings, read_characteristics, summarise_groups
from refers.files import file_digest, write_json
from refers.measure_names import CHARACTERISTICS


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    runs.add_options(parser)
    parser.add_argument("--characteristics", type=Path, required=True, help="file of characteristics.py")
    parser.add_argument("--names", nargs="+", choices=CHARACTERISTICS, required=True)
    parser.add_argument("--ages", type=whole(1, 120), nargs="*", default=[], help="first year of each band")
    parser.add_argument("--patients", type=whole(1), required=True, help="fewest with each label in a group")
    parser.add_argument("--out", type=Path, required=True, help="subgroups.json")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found = runs.read(args)
    values = read_characteristics(args.characteristics, args.names)
    for name, of_image in values.items():
        if not any(image in of_image for each in found.tests for image in each.ids):
            raise UserError(
                f"{args.characteristics}: has no {name} of any test image of {args.predictions[0]}; delete it and rerun characteristics.py"
            )
    settings = Settings(args.ages, args.patients)
    content = found.facts
    content["characteristics_sha256"] = file_digest(args.characteristics)
    content["settings"] = vars(settings)
    content["absent"] = [name for name in args.names if name not in values]
    content["bootstrap"] = found.bootstrap.about
    content["characteristics"] = summarise_groups(
        found.tests, found.classes, values, settings, found.bootstrap
    )
    write_json(args.out, content)
    texts = [
        f"{name} gap {each['gap']['difference']:.4f}"
        if each["gap"]["undefined"] is None
        else f"{name} gap undefined"
        for name, each in content["characteristics"].items()
    ] + [f"{name} absent" for name in content["absent"]]
    print(f"{found.name}: {', '.join(texts)}")


if __name__ == "__main__":
    run(main)
