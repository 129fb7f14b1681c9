"""Peak GPU memory of one training step at the paper's shapes, estimated from its tensors; no GPU is needed or used.

The forward pass runs on fake tensors that claim to lie on a GPU: shapes, types and what autograd keeps for the
backward pass are real, contents are not. The estimate is weights, their gradients and the optimiser's state, plus everything
that autograd keeps; as gradients arrive while kept tensors go, the true peak is a little lower. The allocator's
rounding, workspaces and the CUDA context (about 1 GB together) come on top.

    python benchmarks/memory.py                    # every method of the published study, pre-training and fine-tuning
    python benchmarks/memory.py refers c2l --precision fp16
"""

import argparse
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
import transformers
import yaml
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from refers import config, study
from refers.encoders import build_encoder
from refers.finetuning import Classifier, classification_loss
from refers.methods import Context, build_objective

ROOT = Path(__file__).parents[1]
VOCABULARY, TOKENS, LABELS, GIB = 30522, 100, 14, 1 << 30


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("methods", nargs="*", help="default: every method that is pre-trained")
    parser.add_argument("--precision", choices=["bf16", "fp16", "fp32"], default="bf16")
    return parser.parse_args()


@contextmanager
def cuda_autocast(precision: str):
    """Autocast of CUDA tensors, which `torch.autocast` refuses on a machine without CUDA."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or torch.float16)
    torch.autocast_increment_nesting()
    yield
    torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    torch.set_autocast_enabled("cuda", False)


def pretend(module: nn.Module) -> None:
    """Put fake tensors on a fake GPU in the place of a module's own; tied weights stay tied."""
    replaced: dict[int, torch.Tensor] = {}
    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                fake = nn.Parameter(torch.empty(tensor.shape, device="cuda"), tensor.requires_grad)
                part._parameters[name] = replaced.setdefault(id(tensor), fake)
        for name, tensor in part._buffers.items():
            if tensor is not None:
                part._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")


@contextmanager
def full_masks():
    """Take every boolean mask to be full: a fake tensor has no contents that a shape could depend on."""
    take = torch.Tensor.__getitem__

    def all_of(tensor, index):
        masked = isinstance(index, torch.Tensor) and index.dtype == torch.bool
        return tensor.flatten(0, index.ndim - 1) if masked else take(tensor, index)

    torch.Tensor.__getitem__ = all_of
    try:
        yield
    finally:
        torch.Tensor.__getitem__ = take


def peak_of_step(make, batch_of, settings: config.Training, precision: str) -> float:
    """GiB of weights, gradients, optimiser state and tensors kept for the backward pass."""
    module = make().train()
    if hasattr(module, "distort"):
        module.distort = torch.clone  # its tensors are gone before the step begins
    with FakeTensorMode(allow_non_fake_inputs=True), full_masks():
        pretend(module)
        everything = [*module.parameters(), *module.buffers()]
        own = {tensor.untyped_storage()._cdata for tensor in everything}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                kept[storage._cdata] = storage
            return tensor

        batch = batch_of(module)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), cuda_autocast(precision):
            _loss = module(batch)["loss"] if isinstance(batch, dict) else classify(module, *batch)
        states = 2 if settings.optimiser.name == "adam" else 1
        trained = sum(tensor.nbytes for tensor in module.parameters() if tensor.requires_grad)
        total = sum(tensor.nbytes for tensor in everything) + trained * (1 + states)
        return (total + sum(storage.nbytes() for storage in kept.values())) / GIB


def classify(module, images, labels):
    return classification_loss(module(images), labels)


def main() -> None:
    args = parse_args()
    warnings.filterwarnings("ignore")
    found = study.Study(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    methods = args.methods or [name for name in found.methods if "checkpoint" not in found.method(name)]
    transformers.utils.logging.disable_progress_bar()
    print(f"{'method':24} {'pre-training':>14} {'fine-tuning':>12}   GiB, {args.precision}")
    with tempfile.TemporaryDirectory() as folder:
        transformers.BertModel(transformers.BertConfig(vocab_size=VOCABULARY)).save_pretrained(folder)
        for name in methods:
            settings = config.load(config.Pretrain, found.pretrain_settings(name), name)
            tuning = config.load(config.Finetune, found.finetune_settings(name, "nih", 100), name)
            size, count = settings.model.image_size, settings.training.batch_size
            context = Context(
                text_encoder=Path(folder),
                vocabulary=VOCABULARY,
                max_length=TOKENS,
                label_names=tuple(map(str, range(LABELS))),
                words=settings.words.count,
            )

            def make(settings=settings, context=context):
                return build_objective(
                    settings.objective, build_encoder(settings.model), settings.settings, context
                )

            def batch_of(module, size=size, count=count, words=settings.words.count):
                views = module.settings.views if module.unit == "study" else getattr(module, "crops", 1)
                shape = (count, views, 1, size, size)
                return {
                    "images": torch.rand(
                        shape if views > 1 or module.unit == "study" else (count, 1, size, size),
                        device="cuda",
                    ),
                    "tokens": torch.ones(count, TOKENS, dtype=torch.int64, device="cuda"),
                    "labels": torch.zeros(count, LABELS, device="cuda"),
                    "word": torch.zeros(count, dtype=torch.int64, device="cuda"),
                }

            def classifier(settings=settings, tuning=tuning):
                return Classifier(build_encoder(settings.model), LABELS, tuning.dropout)

            def images_of(_module, size=size, count=tuning.training.batch_size):
                return (
                    torch.rand(count, 1, size, size, device="cuda"),
                    torch.zeros(count, LABELS, device="cuda"),
                )

            before = peak_of_step(make, batch_of, settings.training, args.precision)
            after = peak_of_step(classifier, images_of, tuning.training, args.precision)
            print(f"{name:24} {before:14.1f} {after:12.1f}", flush=True)


if __name__ == "__main__":
    main()
