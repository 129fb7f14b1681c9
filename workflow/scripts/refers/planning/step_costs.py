"""FLOPs and peak GPU memory of one training step at its real shapes, from fake tensors; no GPU is needed or used.

FLOPs are torch's count of matrix products, convolutions and attention, forward and backward (a multiply-add is two).
For the memory the forward pass runs on fake tensors that claim to be on a GPU: shapes, types and what autograd keeps for
the backward pass are real, contents are not. The estimate is weights, their gradients and the optimiser's state, plus
everything that autograd keeps, of one micro-batch where `training.micro_batches` says how many there are; as gradients are allocated while kept tensors are freed, the true peak is a little lower. The
allocator's rounding, workspaces and the CUDA context (about 1 GB together) come on top.
"""

import contextlib
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from refers import config
from refers.config.study import PACKAGE, Reports
from refers.errors import UserError
from refers.methods import Context, build_objective
from refers.methods.common.restoration import Restoration
from refers.model.classifier import Classifier, classification_loss
from refers.model.encoders import build_encoder
from refers.planning.step_times import LEAST, Timed, time_steps
from refers.study.bert_files import package_folder
from refers.training.task import Task

# Attention on CPUs, which torch 2.10, the newest for CUDA 12, does not count.
ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda query, key, value, *_, **__: (
        sdpa_flop_count(query, key, value)
    ),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, query, key, value, *_, **__: (
        sdpa_backward_flop_count(grad, query, key, value)
    ),
}

UNCOUNTABLE = (DataDependentOutputException, DynamicOutputShapeException)
LABELS = tuple(map(str, range(14)))
# A CPU is timed on the batch that takes this many seconds, of at least so many images: a full batch would take minutes.
CPU_STEP, CPU_BATCH = 0.25, 2
SECONDS = {"cpu": 1.0, "cuda": 20.0}  # of timed steps
Loss = Callable[[nn.Module, str], Tensor]


def context_of(folder: Path, text: Reports, words: int = 0) -> Context:
    """The context that objectives are built with, for a study's `text` settings; a random BERT is written to `folder`.

    A text encoder that is named but not found counts as BERT-base.
    """
    import transformers
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    named = Path(text.encoder) if text.encoder else None
    if text.encoder and text.encoder.startswith(PACKAGE):
        with contextlib.suppress(UserError):
            named = package_folder(text.encoder)
    if named and (named / "config.json").exists():
        sizes = transformers.BertConfig.from_pretrained(named)
    elif named or not text.build:
        sizes = transformers.BertConfig()
    else:
        sizes = transformers.BertConfig(
            vocab_size=text.build.vocabulary,
            hidden_size=text.build.width,
            num_hidden_layers=text.build.depth,
            num_attention_heads=text.build.heads,
            intermediate_size=4 * text.build.width,
            max_position_embeddings=text.build.max_length,
        )
    if not (folder / "config.json").exists():
        transformers.BertModel(sizes).save_pretrained(folder)
    return Context(
        text_encoder=folder,
        vocabulary=sizes.vocab_size,
        max_length=text.max_length,
        label_names=LABELS,
        words=words,
    )


def cost_of_pretraining(settings: config.Pretrain, context: Context) -> dict[str, Any]:
    """Cost of a pre-training step; see `cost_of_step`. `unit` is the objective's, `batch` counts its items.

    An objective that asks for the contents of a tensor, as `int(tensor)` does, cannot be counted: `uncounted` is then
    the only entry and says why.
    """
    with Unfilled():
        encoder = build_encoder(settings.model)
        objective = build_objective(settings.objective, encoder, settings.settings, context)
    if isinstance(objective, Restoration):
        # distortions are freed before the step begins
        objective.distort = torch.clone
    batch, size = settings.training.batch_size, settings.model.image_size
    by_study = objective.unit == "study"
    views = objective.settings.views if by_study else objective.crops
    shape = (batch, views) if by_study or views > 1 else (batch,)

    def loss(module: nn.Module, device: str) -> Tensor:
        return module(
            {
                "images": torch.rand(*shape, 1, size, size, device=device),
                "tokens": torch.ones(batch, context.max_length, dtype=torch.int64, device=device),
                "labels": torch.zeros(batch, len(context.label_names), device=device),
                "word": torch.zeros(batch, dtype=torch.int64, device=device),
            }
        )["loss"]

    encoder = sum(tensor.numel() for tensor in objective.encoder.state_dict().values())
    try:
        cost = cost_of_step(objective, loss, settings.training, objective.sharded)
    except UNCOUNTABLE as error:
        return {"uncounted": f"it depends on the contents of a tensor ({' '.join(str(error).split())})"}
    return {**cost, "batch": batch, "unit": objective.unit, "encoder_parameters": encoder}


def cost_of_finetuning(model: config.Model, training: config.Training, classes: int = 14) -> dict[str, Any]:
    """Cost of a fine-tuning step; see `cost_of_step`."""
    with Unfilled():
        classifier = Classifier(build_encoder(model), classes, 0.0)
    batch = training.batch_size

    def loss(module: nn.Module, device: str) -> Tensor:
        images = torch.rand(batch, 1, model.image_size, model.image_size, device=device)
        return classification_loss(module(images), torch.zeros(batch, classes, device=device))

    cost = cost_of_step(classifier, loss, training)
    encoder = sum(tensor.numel() for tensor in classifier.encoder.state_dict().values())
    sizes = {"encoder_parameters": encoder, "feature_width": classifier.encoder.feature_width}
    return {**cost, "batch": batch, "unit": "image", **sizes}


def cost_of_step(
    module: nn.Module, loss: Loss, training: config.Training, sharded: bool = False
) -> dict[str, Any]:
    """flops (forward and backward), forward_flops, parameters and gpu_bytes of a step; replaces the module's tensors.

    Args:
        loss: (module, device) -> the loss of a batch on that device.
        sharded: micro-batches take turns, with one more forward pass.
    """
    parts = 1 if training.micro_batches == "auto" else training.micro_batches
    module.train()
    parameters = sum(tensor.numel() for tensor in module.parameters())
    with FakeTensorMode(allow_non_fake_inputs=True), full_masks():
        pretend(module, "cpu")
        counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
        with counter:
            value = loss(module, "cpu")
            forward = counter.get_total_flops()
            value.backward()
        gpu_bytes = _peak(module, loss, training, parts)
    return {
        "flops": counter.get_total_flops() + (forward if sharded and parts > 1 else 0),
        "forward_flops": forward,
        "parameters": parameters,
        "gpu_bytes": gpu_bytes,
    }


def _peak(module: nn.Module, loss: Loss, training: config.Training, parts: int) -> int:
    """Bytes of weights, gradients, optimiser state and tensors kept for a part's backward pass; in FakeTensorMode."""
    pretend(module, "cuda")
    everything = [*module.parameters(), *module.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in everything}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, cuda_autocast(training.precision):
        _value = loss(module, "cuda")
    states = 2 if training.optimiser.name == "adam" else 1
    trained = sum(tensor.nbytes for tensor in module.parameters() if tensor.requires_grad)
    total = sum(tensor.nbytes for tensor in everything) + trained * (1 + states)
    return total + sum(storage.nbytes() for storage in kept.values()) // parts


def speed_of_steps(
    model: config.Model,
    training: config.Training,
    device: torch.device,
    steps: int = 20,
    seconds: float | None = None,
) -> dict[str, Any]:
    """FLOP/s of fine-tuning steps on a device: `steps` of them are timed, fewer where they would take over `seconds`.

    `seconds` is by default that of SECONDS. A batch that takes a CPU too long is made smaller: see `batch`; one that does not
    fit into a GPU is split, as in a run.

    Raises:
        UserError: one image does not fit into memory, or this machine lacks the precision.
    """
    cost = cost_of_finetuning(model, training)
    batch, taken = cost["batch"], None
    if device.type == "cpu":
        probe = min(batch, CPU_BATCH)
        taken = _timed(model, training, device, probe, min(steps, LEAST), 0)
        batch = max(probe, min(batch, int(CPU_STEP / min(taken.seconds) * probe)))
    if taken is None or batch > probe or seconds:
        taken = _timed(model, training, device, batch, steps, seconds or SECONDS[device.type])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "flops_per_second": cost["flops"] / cost["batch"] * batch / taken.median,
        "seconds_per_step": taken.median,
        "steps": len(taken.seconds),
        "batch": batch,
        "device": name,
        "kind": device.type,
        "threads": torch.get_num_threads(),
    }


def _timed(
    model: config.Model,
    training: config.Training,
    device: torch.device,
    batch: int,
    steps: int,
    seconds: float,
) -> Timed:
    """Times of fine-tuning steps of this many random images."""
    classifier = Classifier(build_encoder(model), len(LABELS), 0.0)
    images = torch.rand(batch, 1, model.image_size, model.image_size)
    given = {"images": images, "labels": torch.zeros(batch, len(LABELS))}
    task = Task(
        module=classifier,
        keep=classifier,
        load=lambda step: given,
        loss=lambda batch: {"loss": classification_loss(classifier(batch["images"]), batch["labels"])},
        validate=dict,
        epoch_steps=1,
    )
    with tempfile.TemporaryDirectory() as folder:
        return time_steps(task, training, device, Path(folder), steps, seconds)


@contextlib.contextmanager
def cuda_autocast(precision: str) -> Generator[None]:
    """Autocast of CUDA tensors, which `torch.autocast` refuses on a machine without CUDA."""
    dtype = {"bf16": torch.bfloat16, "fp32": None}.get(precision, torch.float16)
    torch.set_autocast_enabled("cuda", dtype is not None)
    torch.set_autocast_dtype("cuda", dtype or torch.float16)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        torch.autocast_decrement_nesting()
        torch.clear_autocast_cache()
        torch.set_autocast_enabled("cuda", False)


class Unfilled(TorchFunctionMode):
    """Leaves weights as memory was found: they are replaced before anybody reads them, and random ones take seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.uniform_, Tensor.normal_):
            return args[0]
        return func(*args, **(kwargs or {}))


def pretend(module: nn.Module, device: str) -> None:
    """Replace a module's tensors by fake ones on a fake device; tied weights stay tied."""
    replaced: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                fake = nn.Parameter(torch.empty(tensor.shape, device=device), tensor.requires_grad)
                part._parameters[name] = replaced.setdefault(id(tensor), fake)
        for name, tensor in part._buffers.items():
            if tensor is not None:
                part._buffers[name] = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)


@contextlib.contextmanager
def full_masks() -> Generator[None]:
    """Treat every boolean mask as full: a fake tensor has no contents that a shape could depend on."""
    take = torch.Tensor.__getitem__

    def all_of(tensor: Tensor, index: Any) -> Tensor:
        masked = isinstance(index, torch.Tensor) and index.dtype == torch.bool
        return tensor.flatten(0, index.ndim - 1) if masked else take(tensor, index)

    with mock.patch.object(torch.Tensor, "__getitem__", all_of):
        yield
