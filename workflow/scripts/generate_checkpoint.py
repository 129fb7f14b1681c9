"""Write a random checkpoint in the layout of Google's ViT-B_16.npz, sized by the config.

It replaces ImageNet's weights in the demo, the trial and the tests, where those are not available. It is untrained.
"""

import argparse
from pathlib import Path

import numpy as np
from refers import config
from refers.arguments import SEED, Arguments
from refers.errors import run
from refers.files import atomic_path


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="architecture as JSON (refers.config.Transformer)")
    parser.add_argument("--seed", type=SEED, default=0)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def random_arrays(settings: config.Transformer, seed: int) -> dict[str, np.ndarray]:
    """Arrays by their JAX names, float32."""
    rng = np.random.default_rng(seed)
    width, hidden, heads, patch = settings.width, settings.mlp_width, settings.heads, settings.patch_size
    tokens = (settings.image_size // patch) ** 2 + 1
    shapes = {
        "cls": (1, 1, width),
        "Transformer/posembed_input/pos_embedding": (1, tokens, width),
        "embedding/kernel": (patch, patch, 3, width),
        "embedding/bias": (width,),
        "Transformer/encoder_norm/scale": (width,),
        "Transformer/encoder_norm/bias": (width,),
        "head/kernel": (width, 10),
        "head/bias": (10,),
    }
    for block in range(settings.depth):
        prefix = f"Transformer/encoderblock_{block}/"
        for part in ("query", "key", "value"):
            shapes[f"{prefix}MultiHeadDotProductAttention_1/{part}/kernel"] = (width, heads, width // heads)
            shapes[f"{prefix}MultiHeadDotProductAttention_1/{part}/bias"] = (heads, width // heads)
        shapes[f"{prefix}MultiHeadDotProductAttention_1/out/kernel"] = (heads, width // heads, width)
        shapes[f"{prefix}MultiHeadDotProductAttention_1/out/bias"] = (width,)
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{prefix}{norm}/scale": (width,), f"{prefix}{norm}/bias": (width,)}
        shapes |= {
            f"{prefix}MlpBlock_3/Dense_0/kernel": (width, hidden),
            f"{prefix}MlpBlock_3/Dense_0/bias": (hidden,),
        }
        shapes |= {
            f"{prefix}MlpBlock_3/Dense_1/kernel": (hidden, width),
            f"{prefix}MlpBlock_3/Dense_1/bias": (width,),
        }

    def values(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("scale"):
            return 1 + 0.02 * rng.standard_normal(shape)
        # fan-in scaling: for every kernel but the output projection's, the last axes are the outputs
        fan_in = width if name.endswith("out/kernel") else shape[0]
        fan_in = patch * patch * 3 if name == "embedding/kernel" else fan_in
        return rng.standard_normal(shape) * (fan_in**-0.5 if name.endswith("kernel") else 0.02)

    return {name: values(name, shape).astype(np.float32) for name, shape in shapes.items()}


def main() -> None:
    args = parse_args()
    settings = config.load_json(config.Transformer, args.config, "model")
    with atomic_path(args.out) as path, open(path, "wb") as opened:
        np.savez(opened, **random_arrays(settings, args.seed))
    print(f"random checkpoint in ViT npz layout, written to {args.out}")


if __name__ == "__main__":
    run(main)
