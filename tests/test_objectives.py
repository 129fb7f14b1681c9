"""Losses against hand formulas, batches of studies, and what every objective owes the pipeline."""

import contextlib
import math

import numpy as np
import pytest
import torch
from refers import config
from refers.errors import UserError
from refers.methods import build_objective
from refers.methods.common.contrast import contrastive_loss, similarity
from refers.methods.lsp import masked_cross_entropy, targets
from refers.methods.refers import language_loss
from refers.model.classifier import Classifier
from refers.model.encoder_file import load_strictly
from refers.model.encoders import build_encoder
from refers.planning import step_costs
from refers.training import trainer
from refers.training.pretraining import choose_views, pretraining_task
from refers.training.task import batch_rows

DECODER = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32}
REFERS = {"decoder": DECODER, "fusion_hidden": 8}
CODE = {
    **REFERS,
    "decoder": {**DECODER, "embedding": "layer_norm", "start": "normal", "inner_dropout": 0.1},
    "fusion": "patch",
    "view_sampling": "replacement",
    "flip": "view",
    "image_to_text": 0.75,
    "text_to_image": 0.25,
}
OBJECTIVES = {
    "refers": ("refers", REFERS),
    "code": ("refers", CODE),
    "no_fusion": ("refers", {**REFERS, "views": 1, "fusion": "none"}),
    "no_generation": ("refers", {**REFERS, "generation": 0.0}),
    "no_contrast": ("refers", {**REFERS, "image_to_text": 0.0}),
    "lsp": ("lsp", {}),
    "model_genesis": ("model_genesis", {"windows": 20, "decoder_width": 32}),
    "context_restoration": ("context_restoration", {"decoder_width": 32}),
    "transvw": ("transvw", {"hidden": 16, "decoder_width": 32}),
    "c2l": ("c2l", {"width": 8, "queue": 16}),
}


def make(name, small_model, context):
    torch.manual_seed(0)
    objective, settings = OBJECTIVES[name]
    return build_objective(objective, build_encoder(small_model), settings, context)


def test_equation_1_by_hand():
    torch.manual_seed(0)
    logits, wanted = torch.randn(5, 7), torch.tensor([0, 3, 6, 2, 2])
    each = [
        -math.log(math.exp(row[target]) / sum(map(math.exp, row)))
        for row, target in zip(logits.tolist(), wanted, strict=True)
    ]
    assert float(language_loss(logits, wanted, 2, "sum")) == pytest.approx(sum(each) / 2, rel=1e-5)
    assert float(language_loss(logits, wanted, 2, "mean")) == pytest.approx(sum(each) / 5, rel=1e-5)


def test_equation_2_by_hand():
    torch.manual_seed(0)
    v, t, tau = torch.randn(4, 6), torch.randn(4, 6), 0.1

    def cosine(a, b):
        return float(a @ b / (a.norm() * b.norm()))

    each = [
        -math.log(
            math.exp(cosine(v[k], t[k]) / tau) / sum(math.exp(cosine(v[k], t[i]) / tau) for i in range(4))
        )
        for k in range(4)
    ]
    assert float(contrastive_loss(v, t, tau)) == pytest.approx(sum(each) / 4, rel=1e-5)
    assert float(contrastive_loss(v, t, tau)) != pytest.approx(float(contrastive_loss(t, v, tau)), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equation_2_is_fp32_inside_autocast(dtype):
    torch.manual_seed(0)
    v, t = torch.randn(4, 6).to(dtype), torch.randn(4, 6).to(dtype)
    exact = contrastive_loss(v.float(), t.float(), 0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(contrastive_loss(v, t, 0.1), exact)
        found = similarity(v, t)
    assert torch.equal(found, v.float() @ t.float().T)


def test_the_transposed_term_of_the_released_code_has_no_gradient(small_model, context):
    objective = make("code", small_model, context)
    v, t = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6)
    total = objective.contrast(v.unsqueeze(1), t)
    expected = 0.75 * contrastive_loss(v, t, 0.1) + 0.25 * contrastive_loss(t, v, 0.1)
    torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(total, v)
    (image_to_text,) = torch.autograd.grad(contrastive_loss(v, t, 0.1), v)
    torch.testing.assert_close(gradient, 0.75 * image_to_text)


def test_without_fusion_every_view_has_its_studys_report_and_the_same_negatives(small_model, context):
    settings = {**REFERS, "fusion": "none"}
    torch.manual_seed(0)
    objective = build_objective("refers", build_encoder(small_model), settings, context).eval()
    images, tokens = torch.randn(4, 3, 1, 32, 32), torch.randint(5, 50, (4, 8))
    found = objective({"images": images, "tokens": tokens})
    alone = build_objective("refers", build_encoder(small_model), {**settings, "views": 1}, context).eval()
    alone.load_state_dict(objective.state_dict())
    each = [alone({"images": images[:, view : view + 1], "tokens": tokens}) for view in range(3)]
    for name in ("language", "contrast", "loss"):
        expected = torch.stack([losses[name] for losses in each]).mean()
        torch.testing.assert_close(found[name], expected, msg=name)


def test_padding_takes_no_part_in_the_loss(small_model, context):
    objective = make("refers", small_model, context).eval()
    images, tokens = torch.randn(2, 3, 1, 32, 32), torch.randint(5, 50, (2, 8))
    short = objective({"images": images, "tokens": tokens})
    padded = objective({"images": images, "tokens": torch.nn.functional.pad(tokens, (0, 4))})
    torch.testing.assert_close(padded["loss"], short["loss"])


@pytest.mark.parametrize(
    ("policy", "wanted", "mask"),
    [
        ("zeros", [1, 0, 0, 0], [1, 1, 1, 1]),
        ("ones", [1, 0, 1, 0], [1, 1, 1, 1]),
        ("ignore", [1, 0, 0, 0], [1, 1, 0, 1]),
    ],
)
def test_uncertain_labels(policy, wanted, mask):
    found, counted = targets(torch.tensor([[1, 0, -1, float("nan")]]), policy)
    assert (found.tolist(), counted.tolist()) == ([wanted], [mask])


def test_label_smoothing_draws_between_its_bounds():
    found, _ = targets(torch.full((50, 4), -1.0), "lsr")
    assert float(found.min()) >= 0.55
    assert float(found.max()) <= 0.85
    assert float(found.std()) > 0.05


def test_masked_cross_entropy():
    logits, wanted = torch.zeros(2, 3), torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    full, empty = torch.ones(2, 3), torch.zeros(2, 3)
    assert float(masked_cross_entropy(logits, wanted, full)) == pytest.approx(math.log(2))
    assert float(masked_cross_entropy(logits, wanted, empty)) == 0
    logits = torch.randn(2, 3, requires_grad=True)
    mask = torch.tensor([[1.0, 0, 1], [0, 1, 1]])
    masked_cross_entropy(logits, wanted, mask).backward()
    assert torch.equal(logits.grad != 0, mask != 0)


def test_a_left_out_label_must_exist(small_model, context):
    with pytest.raises(UserError, match="no label 'Oedema'; labels are Atelectasis"):
        build_objective("lsp", build_encoder(small_model), {"leave_out": "Oedema"}, context)
    objective = build_objective("lsp", build_encoder(small_model), {"leave_out": "No Finding"}, context)
    assert objective.head.out_features == 2


def test_views_are_distinct_and_repeated_only_to_fill_up():
    counts = np.array([1, 2, 3, 5])
    seen = [set() for _ in counts]
    for draw in range(300):
        chosen = choose_views(counts, 3, "distinct", np.random.default_rng(draw))
        assert (chosen < counts[:, None]).all()
        for study, count in enumerate(counts):
            assert len(set(chosen[study])) == min(count, 3)
            seen[study].add(tuple(chosen[study]))
    assert {tuple(sorted(views)) for views in seen[1]} == {(0, 0, 1), (0, 1, 1)}
    assert len(seen[3]) == 60  # every ordered choice of 3 out of 5
    repeats = [
        choose_views(np.array([3]), 3, "replacement", np.random.default_rng(draw))[0] for draw in range(500)
    ]
    assert np.mean([len(set(views)) == 3 for views in repeats]) == pytest.approx(6 / 27, abs=0.06)
    assert choose_views(counts, 3, "distinct", None).tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 2], [0, 1, 2]]


def task_of(name, small_model, context, studies, **augment):
    training = config.Training(steps=10, warmup_steps=1, batch_size=4, augment=config.Augment(**augment))
    return pretraining_task(studies, make(name, small_model, context), training, 32, torch.device("cpu"))


def test_flipping_a_study_swaps_the_sides_in_its_report(small_model, context, studies, monkeypatch):
    task = task_of("refers", small_model, context, studies)
    batch = task.load(0)
    seen = {}
    monkeypatch.setattr(task.module, "forward", lambda given: seen.update(given) or {"loss": torch.zeros(())})
    swaps = set()
    for step in range(30):
        torch.manual_seed(step)
        task.loss(batch)
        for study in range(4):
            swaps.add(torch.equal(seen["tokens"][study], batch["swapped"][study]))
    assert swaps == {True, False}
    assert seen["images"].shape == (4, 3, 1, 32, 32)


def test_the_labels_of_an_image_are_those_of_its_study(small_model, context, studies):
    task = task_of("lsp", small_model, context, studies)
    rows, owner = studies.images_of(studies.splits["train"])
    positions = batch_rows(0, len(rows), 4, 0)
    batch = task.load(0)
    np.testing.assert_array_equal(batch["images"].numpy(), studies.store[rows[positions]])
    np.testing.assert_array_equal(batch["labels"].numpy(), studies.labels[owner[positions]])
    assert task.epoch_steps == len(rows) // 4


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_moves_every_weight_of_the_encoder(name, small_model, context, studies, tmp_path):
    task = task_of(name, small_model, context, studies)
    start = {key: value.clone() for key, value in task.keep.state_dict().items()}
    training = config.Training(
        steps=8,
        warmup_steps=1,
        batch_size=4,
        precision="fp32",
        select="last",
        optimiser=config.Optimiser(lr=0.05),
    )
    outcome = trainer.fit(task, training, torch.device("cpu"), tmp_path, "x")
    moved = {key for key, value in task.keep.state_dict().items() if not torch.equal(value, start[key])}
    assert moved == start.keys()
    assert outcome["best_step"] == 8


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_aggregation_output_learns_from_every_objective(name, small_model, context, studies):
    task = task_of(name, small_model, context, studies)
    outputs = []
    task.module.encoder.norm.register_forward_hook(
        lambda _module, _given, out: (out.retain_grad(), outputs.append(out))[1] and None
    )
    task.module.train()
    task.loss(task.load(0))["loss"].backward()
    assert any(out.grad is not None and out.grad[:, 0].abs().sum() > 0 for out in outputs)


def test_every_transformer_exports_the_same_tensors(small_model, context):
    found = {name: make(name, small_model, context).encoder.state_dict() for name in OBJECTIVES}
    shapes = {
        name: {key: tuple(value.shape) for key, value in state.items()} for name, state in found.items()
    }
    assert all(shape == shapes["refers"] for shape in shapes.values())
    classifier = Classifier(build_encoder(small_model), 3, 0.0)
    for name, state in found.items():
        load_strictly(classifier.encoder, state, name)


@pytest.mark.parametrize("name", [*OBJECTIVES, "nce"])
def test_a_step_asks_nothing_of_the_device(name, small_model, context, monkeypatch):
    """Tensors without contents refuse whatever would make the host wait for a GPU: masks as indices, conditions, numbers."""
    objective, settings = OBJECTIVES.get(name, ("c2l", {"width": 8, "queue": 16, "loss": "nce"}))
    module = build_objective(objective, build_encoder(small_model), settings, context).to("meta").train()
    for part in module.modules():
        if type(part).__name__ == "Dropout":
            part.p = 0.0  # off a GPU its masks are the host's
    by_study = module.unit == "study"
    views = module.settings.views if by_study else getattr(module, "crops", 1)
    batch = {
        "images": torch.rand(4, *([views] if by_study or views > 1 else []), 1, 32, 32, device="meta"),
        "tokens": torch.ones(4, 12, dtype=torch.int64, device="meta"),
        "labels": torch.zeros(4, len(context.label_names), device="meta"),
        "word": torch.zeros(4, dtype=torch.int64, device="meta"),
    }
    monkeypatch.setattr(
        torch, "autocast", lambda *_given, **_options: contextlib.nullcontext()
    )  # no such device
    # task 1 of REFERS looks where the padding is, once a step
    with step_costs.full_masks() if by_study else contextlib.nullcontext():
        module(batch)["loss"].backward()
    getattr(module, "after_step", lambda: None)()


def test_an_unmixed_loss_is_the_same_in_any_order(small_model, context):
    batch = {
        "images": torch.randn(4, 3, 1, 32, 32),
        "tokens": torch.randint(5, 50, (4, 8)),
        "labels": torch.zeros(4, 3),
    }
    order = torch.tensor([2, 0, 3, 1])
    objective = make("refers", small_model, context).eval()
    shuffled = {name: tensor[order] for name, tensor in batch.items()}
    torch.testing.assert_close(objective(shuffled)["loss"], objective(batch)["loss"])
