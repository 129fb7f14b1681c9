"""Features of a frozen encoder for every image of a download: the input of the classifier in fine-tuning, without augmentation.

In: encoder.safetensors, index.parquet, images.npy. Out: features as float32 (N, D), row for row with the store, and their run record
beside them.
"""

import argparse
from pathlib import Path

import numpy as np
from refers import config
from refers.arguments import Arguments
from refers.data.index import SIZES, read_index
from refers.data.store import expect_rows, open_store
from refers.errors import run
from refers.files import atomic_path, file_digest, write_json
from refers.model.encoders import load_encoder
from refers.model.vit import Encoder
from refers.provenance import run_record
from refers.provenance.ties import digest_of
from refers.training.finetuning import LabelledImages, evaluate
from refers.training.precision import Precision
from refers.training.runtime import choose_device, oom_as_user_error
from torch import Tensor, nn

CHUNK = 16384  # images whose features are held before they are written


class Pooled(nn.Module):
    """The encoder's pooled feature alone: (B, 1, S, S) -> (B, D)."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder(images).pooled


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="settings as JSON (refers.config.Features)")
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto")
    parser.add_argument("--out", type=Path, required=True, help="features as npy")
    parser.add_argument("--record", type=Path, required=True, help="their run record")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Features, args.config, "probe.features")
    device = choose_device(args.device)
    index = file_digest(args.index)
    store = open_store(args.store, index)
    inputs = {"encoder": digest_of(args.encoder, "encoder"), "index": index}
    encoder, about = load_encoder(args.encoder)
    size = encoder.settings.image_size
    model = Pooled(encoder).to(device)
    how = config.Augment(evaluation=settings.evaluation)
    frame = read_index(args.index, SIZES)[list(SIZES)]
    expect_rows(args.store, store, args.index, len(frame))
    frame.insert(0, "row", np.arange(len(store)))
    memory = oom_as_user_error("in a forward pass", "lower probe.features.batch_size")
    with atomic_path(args.out) as path, Precision(settings.precision, device).autocast(), memory:
        shape = len(store), encoder.feature_width
        features = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        for start in range(0, len(store), CHUNK):
            part = LabelledImages(store, frame[start : start + CHUNK], [])
            found = evaluate(model, part, how, settings.batch_size, size, device)
            features[start : start + len(part)] = found.numpy()
        features.flush()
    # The manifest has the digest of the store, which `open_store` compared.
    manifest = args.store.with_suffix(".json")
    inputs |= {"manifest": run_record.file_digest(manifest)} if manifest.exists() else {}
    facts = {"encoder": about, "rows": len(store), "width": encoder.feature_width}
    outputs = {"features": args.out}
    record = run_record.run_record(config.to_dict(settings), 0, inputs, outputs, device, **facts)
    write_json(args.record, record)
    print(f"{len(store)} images, {encoder.feature_width} features each")


if __name__ == "__main__":
    run(main)
