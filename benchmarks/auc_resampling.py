"""Bootstrap of the AUC: all classes and resamples at once against a loop over scikit-learn's roc_auc_score.

The shape is the NIH test set's, 22,433 images x 14 classes with its numbers of positives, and 1,000 resamples; scores
are random. Each round times the whole bootstrap, ranking and drawing included, then a few resamples of the loop, which
are scaled to all of them. Both use one thread of one process; the loop's draws are not timed. AUCs are compared on the
resamples that the loop computed.

    OMP_NUM_THREADS=1 python benchmarks/auc_resampling.py
    OMP_NUM_THREADS=1 python benchmarks/auc_resampling.py --decimals 3    # ties, as in released files
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers.evaluation.metrics import auc
from refers.evaluation.statistics import Bootstrap

IMAGES = 22433
POSITIVES = (2420, 582, 2754, 3938, 1133, 1335, 242, 1089, 957, 413, 509, 362, 734, 42)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop-resamples", type=int, default=5, help="computed by the loop in every round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--decimals", type=int, default=16, help="of the scores")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    rng = np.random.default_rng(0)
    labels = np.zeros((IMAGES, len(POSITIVES)), np.int8)
    for place, positives in enumerate(POSITIVES):
        labels[rng.choice(IMAGES, positives, replace=False), place] = 1
    scores = np.round(1 / (1 + np.exp(3 - labels - rng.normal(size=labels.shape))), args.decimals)
    bootstrap = Bootstrap([np.arange(IMAGES)], args.resamples, 0)
    (drawn,) = next(bootstrap.counts())
    ours, loops, worst = [], [], 0.0
    for round_ in range(args.rounds):
        started = time.perf_counter()
        (found,) = bootstrap.auc([labels], [scores])
        ours.append(time.perf_counter() - started)
        places = [
            (round_ * args.loop_resamples + step) % drawn.shape[1] for step in range(args.loop_resamples)
        ]
        samples = [np.repeat(np.arange(IMAGES), drawn[:, place]) for place in places]
        started = time.perf_counter()
        expected = [
            [roc_auc_score(labels[rows, column], scores[rows, column]) for column in range(len(POSITIVES))]
            for rows in samples
        ]
        loops.append((time.perf_counter() - started) / args.loop_resamples * args.resamples)
        worst = max(worst, np.abs(found[places] - expected).max())
    whole = [roc_auc_score(labels[:, column], scores[:, column]) for column in range(len(POSITIVES))]
    ratios = [loop / own for loop, own in zip(loops, ours, strict=True)]
    print(f"{IMAGES} x {len(POSITIVES)}, {args.resamples} resamples, {args.rounds} rounds")
    print(f"vectorised {statistics.median(ours):.2f} s (min {min(ours):.2f}, max {max(ours):.2f})")
    print(f"loop {statistics.median(loops):.0f} s, scaled from {args.loop_resamples} resamples a round")
    print(f"ratio {statistics.median(ratios):.0f} (min {min(ratios):.0f}, max {max(ratios):.0f})")
    print(
        f"largest difference: {worst:.1e} resampled, {np.abs(auc(labels, scores) - whole).max():.1e} whole set"
    )


if __name__ == "__main__":
    main()
