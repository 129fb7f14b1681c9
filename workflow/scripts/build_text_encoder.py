"""Build a small BERT for runs without a downloaded one: WordPiece vocabulary from the reports, random weights.

In: reports.parquet. Out: a folder with config.json, model.safetensors and the tokenizer, as transformers reads it.
The published study never runs this; it reads the BERT checkpoint that `text.encoder` names. The files are made in a folder
inside that one, whose vocabulary is that of reports, and every one is put in place whole.
"""

import argparse
import json
import shutil
from collections import Counter
from pathlib import Path

import torch
from refers.arguments import Arguments
from refers.errors import run
from refers.files import atomic_path

# sets the offline switches before transformers is imported
from refers.model.text_encoder import load_tokenizer
from refers.text.report_files import read_cleaned

UNFINISHED = ".part"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument(
        "--config", type=json.loads, required=True, help="vocabulary, width, depth, heads, max_length, seed"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    return parser.parse_args()


def write_vocabulary(texts: list[str], size: int, folder: Path) -> None:
    """Save a lower-casing WordPiece tokenizer: every character alone and as a continuation, then the most frequent words.

    Ties are broken by alphabetical order; the trainer of `tokenizers` breaks them by a hash that differs between runs.
    """
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from transformers import BertTokenizerFast

    normalizer, splitter, counts = BertNormalizer(lowercase=True), BertPreTokenizer(), Counter()
    for text in texts:
        counts.update(word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)))
    characters = sorted(set("".join(counts)))
    words = sorted((word for word in counts if len(word) > 1), key=lambda word: (-counts[word], word))
    entries = [*SPECIAL, *characters, *("##" + character for character in characters), *words][:size]
    (folder / "vocab.txt").write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    BertTokenizerFast(vocab=str(folder / "vocab.txt"), do_lower_case=True).save_pretrained(folder)


def main() -> None:
    args = parse_args()
    from transformers import BertConfig, BertModel

    sizes = args.config
    texts = read_cleaned(args.reports)["text"].tolist()
    # Always the same name, so that the next build removes what a killed one left.
    folder = args.out / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        write_vocabulary(texts, sizes["vocabulary"], folder)
        torch.manual_seed(sizes["seed"])
        model = BertModel(
            BertConfig(
                vocab_size=len(load_tokenizer(folder)),
                hidden_size=sizes["width"],
                num_hidden_layers=sizes["depth"],
                num_attention_heads=sizes["heads"],
                intermediate_size=4 * sizes["width"],
                max_position_embeddings=sizes["max_length"],
                # BERT's 0.02 is of width 768: in a narrow one all reports would begin with nearly the same feature
                initializer_range=sizes["width"] ** -0.5,
                hidden_dropout_prob=sizes["dropout"],
                attention_probs_dropout_prob=sizes["dropout"],
            )
        )
        model.save_pretrained(folder)
        for source in sorted(folder.iterdir()):
            with atomic_path(args.out / source.name) as path:
                shutil.copyfile(source, path)
    finally:
        shutil.rmtree(folder)
    print(f"BERT with {sum(p.numel() for p in model.parameters()):,} parameters, written to {args.out}")


if __name__ == "__main__":
    run(main)
