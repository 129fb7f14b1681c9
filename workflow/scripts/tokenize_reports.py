"""Tokenize the cleaned reports once, as they are and with left and right swapped for flipped studies (paper §4).

In: reports.parquet; the text encoder's folder (its WordPiece tokenizer).
Out: tokens.npz with study_id (N,), tokens and swapped (N, T), lengths (N,), vocabulary. Since tokens can be
decoded to text, they stay in the interim folder as the reports do.
"""

import argparse
from pathlib import Path

import numpy as np
from refers.arguments import Arguments, whole
from refers.errors import UserError, run
from refers.files import atomic_path
from refers.model.text_encoder import check_sizes, load_tokenizer
from refers.text.laterality import swap_sides
from refers.text.report_files import read_cleaned

# Reports of a language or of letters that the vocabulary does not have show above it, rare words stay far below.
MOST_UNKNOWN = 0.5


def parse_args() -> argparse.Namespace:
    parser = Arguments(description=__doc__.splitlines()[0])
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--text-encoder", type=Path, required=True, help="folder of a BERT checkpoint")
    parser.add_argument(
        "--max-length", type=whole(4, 512), default=100, help="tokens kept, start and end included"
    )
    parser.add_argument("--swap", choices=["word", "substring"], default="word")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def encode(tokenizer, texts: list[str], max_length: int) -> tuple[np.ndarray, np.ndarray]:
    """Token ids (N, max_length) padded with 0, and the number of real ones (N,).

    A special token that is written in a report, such as [PAD], is text like any other.
    """
    width = np.uint16 if len(tokenizer) <= 2**16 else np.int32
    ids, lengths = np.zeros((len(texts), max_length), width), np.zeros(len(texts), np.int16)
    for start in range(0, len(texts), 4096):
        # "[SEP]" or "[MASK]" in a report is text.
        encoded = tokenizer(
            texts[start : start + 4096], truncation=True, max_length=max_length, split_special_tokens=True
        )["input_ids"]
        for row, tokens in enumerate(encoded, start):
            ids[row, : len(tokens)] = tokens
            lengths[row] = len(tokens)
    return ids, lengths


def unknown_share(tokenizer, tokens: np.ndarray, lengths: np.ndarray) -> float:
    """Share of [UNK] among the real tokens but start and end; 0 where there are none."""
    pieces = int((lengths - 2).clip(0).sum(dtype=np.int64))
    return int((tokens == tokenizer.unk_token_id).sum()) / pieces if pieces else 0.0


def main() -> None:
    args = parse_args()
    tokenizer = load_tokenizer(args.text_encoder)
    frame = read_cleaned(args.reports)
    check_sizes(args.text_encoder, len(tokenizer), args.max_length)
    texts = frame["text"].tolist()
    tokens, lengths = encode(tokenizer, texts, args.max_length)
    unknown = unknown_share(tokenizer, tokens, lengths)
    if unknown > MOST_UNKNOWN:
        raise UserError(
            f"{args.text_encoder}: {unknown:.0%} of the reports' tokens are [UNK]; check that its vocabulary is that of the"
            f" weights, and the language and letters of {args.reports}"
        )
    swapped, swapped_lengths = encode(
        tokenizer, [swap_sides(text, args.swap) for text in texts], args.max_length
    )
    with atomic_path(args.out) as path, open(path, "wb") as opened:
        np.savez(
            opened,
            study_id=frame["study_id"].to_numpy(str),
            tokens=tokens,
            swapped=swapped,
            lengths=np.maximum(lengths, swapped_lengths),
            vocabulary=len(tokenizer),
        )
    cut = int((lengths == args.max_length).sum())
    print(
        f"{len(texts)} reports, {lengths.mean():.1f} tokens on average, {cut} reports with the maximum of {args.max_length}; {unknown:.1%} [UNK]; vocabulary {len(tokenizer)}"
    )


if __name__ == "__main__":
    run(main)
