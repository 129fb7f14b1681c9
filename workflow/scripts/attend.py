"""Class activation maps of test images with radiologists' boxes, and the overlap of both (paper, Figure 3).

In: the classifier of one fine-tune; split, index and image store of the dataset; its download, for the boxes.
Out: maps.npz (images, maps and boxes of those to draw) and iou.csv (one row per image and class with boxes).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from refers.arguments import SEED, Arguments, number, whole
from refers.columns import LABEL
from refers.config import Augment
from refers.data.adapters import read_boxes
from refers.data.index import aspects, read_index
from refers.data.splits import read_split
from refers.data.store import index_of, open_store
from refers.errors import UserError, run
from refers.evaluation import class_activation, localisation
from refers.files import file_digest, write_text
from refers.provenance.ties import expect_inputs, record_of
from refers.training import augment
from refers.training.runtime import choose_device

BATCH = 64


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--classifier", type=Path, required=True)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--download", type=Path, required=True, help="folder of the official download")
    parser.add_argument("--layout", required=True, help="adapter that reads its boxes")
    parser.add_argument(
        "--augment", type=json.loads, default={}, help="as in fine-tuning; says how an image is cropped"
    )
    parser.add_argument("--images", type=whole(1), required=True, help="images to draw")
    parser.add_argument(
        "--threshold", type=number(0, 1, above=True), required=True, help="of a map from 0 to 1"
    )
    parser.add_argument("--seed", type=SEED, required=True, help="of the draw")
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="maps.npz; iou.csv is written beside it")
    return parser.parse_args()


def examples(hits: list[tuple[int, dict]], misses: list[tuple[int, dict]], count: int) -> list[dict]:
    """`count` findings to draw, half of them hits where there are enough of both; each list is in a random order."""
    shown = hits[: max(count // 2, count - len(misses))]
    return [entry for _, entry in [*shown, *misses[: count - len(shown)]]]


def main() -> None:
    args = parse_args()
    device = choose_device(args.device)
    model = class_activation.load_classifier(args.classifier).to(device)
    side = model.encoder.settings.image_size
    made_from = {"classifier": file_digest(args.classifier), "split": file_digest(args.split)}
    record = record_of(args.classifier, "classifier")
    expect_inputs(args.classifier, record, {"split": args.split, "manifest": args.store.with_suffix(".json")})
    if predictions := record.get("outputs", {}).get("predictions"):
        made_from["predictions"] = predictions
    index = read_index(args.index, ("image_id", "width", "height"))
    store = open_store(args.store, file_digest(args.index), index_of(args.split))
    frame = read_split(args.split, len(store))
    classes = [name.removeprefix(LABEL) for name in frame.columns if name.startswith(LABEL)]
    boxes = read_boxes(args.layout, args.download, index)
    test = frame[frame["split"] == "test"].set_index("image_id")
    boxes = boxes[boxes["image_id"].isin(test.index) & boxes["class"].isin(classes)]
    pairs = list(boxes.groupby(["image_id", "class"], sort=True))

    how = Augment(**{key: tuple(v) if isinstance(v, list) else v for key, v in args.augment.items()})
    turn = np.random.default_rng(args.seed).permutation(len(pairs))
    sizes = index.set_index("image_id")[["width", "height"]]
    rows, kept = [], {True: [], False: []}
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        names = [name for (name, _), _ in part]
        images = torch.from_numpy(store[test.loc[names, "row"].to_numpy()])
        aspect = torch.from_numpy(aspects(sizes.loc[names])).to(device)
        params = augment.identity_params(how, len(part), store.shape[1], side, device, aspect)
        scales = torch.stack([params.scale_x, params.scale_y], 1).cpu().numpy()
        pixels = augment.apply(params, images.to(device), side)
        maps = class_activation.class_activation(model, pixels).cpu().numpy()
        if maps.shape[1] != len(classes):
            raise UserError(
                f"{args.classifier}: of {maps.shape[1]} classes, but {args.split} has {len(classes)}; rerun finetune.py"
            )
        grey = ((pixels.cpu() * augment.STD + augment.MEAN) * 255).round().byte().numpy()[:, 0]
        for place, ((name, label), outlined) in enumerate(part):
            evidence = maps[place, classes.index(label)]
            red = localisation.boxes_on_crop(
                outlined[["x", "y", "w", "h"]].to_numpy(),
                sizes.loc[name].to_numpy(float),
                scales[place],
                side,
            )
            heat = localisation.stretched(evidence, side)
            green = localisation.predicted_boxes(heat, args.threshold)
            value = localisation.intersection_over_union(red, green, side)
            score = 1 / (1 + np.exp(-float(evidence.mean())))
            area = localisation.covered(red, side).mean()
            rows.append({"image_id": name, "class": label, "score": score, "iou": value, "area": area})
            of_kind = kept[bool(value >= localisation.HIT)]
            shown = {"image": grey[place], "map": heat, "red": red, "green": green}
            of_kind.append((turn[start + place], shown | rows[-1]))
            of_kind.sort(key=lambda each: each[0])
            del of_kind[args.images :]
    table = pd.DataFrame(rows, columns=localisation.OVERLAP)
    overlap = args.out.with_name("iou.csv")
    write_text(overlap, table.to_csv(index=False))
    drawn = examples(kept[True], kept[False], args.images)
    facts = [
        {name: each[name] for name in ("image_id", "class", "score", "iou")}
        | {name: each[name].tolist() for name in ("red", "green")}
        for each in drawn
    ]
    localisation.write_maps(
        args.out,
        localisation.Maps(
            np.array([entry["image"] for entry in drawn], np.uint8).reshape(-1, side, side),
            np.array([entry["map"] for entry in drawn], np.float16).reshape(-1, side, side),
            facts,
            made_from | {"overlap": file_digest(overlap)},
        ),
    )
    found = f"median IoU {table['iou'].median():.2f}, above 0.5: {100 * (table['iou'] > 0.5).mean():.0f} %"
    print(
        f"{len(table)} boxed findings of {table['image_id'].nunique()} test images, {found if rows else localisation.NO_BOX}"
    )


if __name__ == "__main__":
    run(main)
