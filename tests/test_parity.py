"""The code preset computes what the authors' released modules compute: outputs, losses, gradients, updates, schedules."""

import numpy as np
import pandas as pd
import pytest
import torch
from authors import (
    ABOUT,
    GRADIENT,
    LOSS,
    NUMBERS,
    OUTPUT,
    SMALL,
    VISUAL,
    WEIGHT,
    as_theirs,
    authors_encoder,
    authors_objective,
    expect,
    numbers_below,
    pieces,
    preset,
)
from refers import config
from refers.errors import UserError
from refers.model.classifier import Classifier
from refers.training import augment, optim
from refers.training.finetuning import LabelledImages, finetuning_task, predict
from refers.training.task import Task, epoch_steps
from refers.training.trainer import Trainer
from torch import nn

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
GREY = NUMBERS["inputs/grey"].flatten(0, 1)


@pytest.fixture(scope="module")
def study():
    return preset(SMALL)


@pytest.fixture
def objective(study, tmp_path):
    return authors_objective(study, tmp_path)


def images_of(how, count=12):
    """The pictures of the fixture without augmentation, as every encoder is given them: (12, 1, 32, 32)."""
    params = augment.identity_params(how, count, 32, 32, CPU, torch.ones(count))
    return augment.apply(params, GREY, 32)


@pytest.fixture
def batch(study):
    images = images_of(study.pretrain_settings("refers").training.augment)
    return {"images": images.unflatten(0, (4, 3)), "tokens": NUMBERS["inputs/tokens"].long()}


# ---- pre-training


def test_the_input_has_their_channels(objective, batch):
    expect(objective.encoder.channels(batch["images"].flatten(0, 1)), "inputs/images", OUTPUT)


@torch.no_grad()
def test_outputs_are_theirs(objective, batch):
    objective.eval()
    images, tokens = batch["images"].flatten(0, 1), batch["tokens"]
    features = objective.encoder(images)
    pooled, each = (part.unflatten(0, (4, 3)) for part in (features.pooled, features.tokens))
    fused = objective.fusion(pooled, each)
    hidden = objective.decoder.hidden(tokens, fused.memory)
    texts = objective.text(tokens)
    found = {
        "cls": features.aggregation,
        "tokens": each,
        "fusion_weights": fused.weights,
        "memory": fused.memory,
        "study_feature": fused.feature,
        "decoder_embeddings": objective.decoder.embed(tokens),
        "decoder_hidden": hidden,
        "decoder_logits": objective.decoder.logits(hidden),
        "bert_pooled": texts,
        "text_feature": objective.project(texts),
    }
    # values at padding exist there and count nowhere
    real = (tokens != 0).unsqueeze(-1)
    for name, tensor in found.items():
        wanted = NUMBERS[f"outputs/{name}"]
        if name in ("decoder_hidden", "decoder_logits"):
            tensor, wanted = tensor * real, wanted * real
        expect(tensor, wanted, OUTPUT, name)


def test_losses_and_gradients_are_theirs(objective, batch):
    losses = objective(batch)
    expect(losses["language"], "outputs/language_loss", LOSS)
    expect(losses["contrast"], "outputs/contrast_loss", LOSS)
    expect(losses["loss"], "outputs/total_loss", LOSS)
    losses["loss"].backward()
    wanted = numbers_below("grads/")
    assert len(wanted) == 21
    for name, tensor in wanted.items():
        expect(as_theirs(name, objective, gradient=True), tensor, GRADIENT, name)


def test_the_logged_contrast_and_its_part_with_a_gradient_are_theirs(objective, batch):
    with torch.no_grad():
        found = objective.eval()(batch)["contrast"]
    expect(found, "outputs/contrast_loss", LOSS)
    objective.settings = objective.settings.replace(text_to_image=0.0)
    with torch.no_grad():
        expect(objective(batch)["contrast"], "outputs/contrast_gradient_part", LOSS)


def updates(task, training, count, folder, monkeypatch):
    """`count` updates by the trainer: of each the loss, the norm of the gradients before clipping and the factor on the rates."""
    clip, norms = nn.utils.clip_grad_norm_, []

    def recorded(*arguments, **options):
        norms.append(float(clip(*arguments, **options)))

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", recorded)
    running = Trainer(task, training, CPU, folder, "x", 0.0)
    running.module.train()
    factors = []
    for step in range(count):
        factors.append(running.set_learning_rates(step))
        running.update(running.load(step), step)
    return list(zip(map(float, running.recent), norms, factors, strict=True))


def expect_log(found, wanted):
    for (loss, norm, factor), entry in zip(found, wanted, strict=True):
        assert loss == pytest.approx(entry["loss"], abs=LOSS)
        assert norm == pytest.approx(entry["norm_before_clipping"], abs=OUTPUT)
        assert factor == pytest.approx(entry["multiplier"], abs=1e-12)


PEAK = {"warmup_steps": 0}


@pytest.mark.parametrize(
    ("name", "count", "changes", "optimiser"),
    [
        ("after1", 1, {}, {}),
        # the preset's every 5 steps have no effect yet
        ("after3_no_lookahead", 3, {}, {}),
        ("after3", 3, {}, {"lookahead_every": 2}),
        ("peak1_decay", 1, PEAK, {"weight_decay": 1.0}),
        ("peak1_clip", 1, PEAK, {"clip_norm": 0.5}),
    ],
)
def test_updates_of_pretraining_are_theirs(
    study, objective, batch, tmp_path, monkeypatch, name, count, changes, optimiser
):
    training = study.pretrain_settings("refers").training
    training = training.replace(**changes, optimiser=training.optimiser.replace(**optimiser).model_dump())
    before = {key: value.detach().clone() for key, value in objective.named_parameters()}
    task = Task(
        module=objective,
        keep=objective.encoder,
        load=lambda step: batch,
        loss=objective,
        validate=dict,
        epoch_steps=1,
        lr_overrides=objective.lr_overrides(training.optimiser),
    )
    found = updates(task, training, count, tmp_path, monkeypatch)
    if name in ABOUT["optimiser"]["log"]:
        expect_log(found, ABOUT["optimiser"]["log"][name])
    wanted = numbers_below(f"{name}/")
    assert len(wanted) == (21 if name == "after3" else 14)
    for key, tensor in wanted.items():
        expect(as_theirs(key, objective), tensor, WEIGHT, key)
    if name == "after1":
        assert all(torch.equal(value, before[key]) for key, value in objective.named_parameters())


def test_rates_and_decay_of_every_parameter_are_theirs(study, objective):
    optimiser = study.pretrain_settings("refers").training.optimiser
    groups = optim.parameter_groups(objective, optimiser, objective.lr_overrides(optimiser))
    # in the place of the parameters, so that what one of theirs consists of can be put together
    rates, decays = {}, {}
    names = {id(parameter): name for name, parameter in objective.named_parameters()}
    for group in groups:
        for parameter in group["params"]:
            rates[names[id(parameter)]] = torch.full_like(parameter, group["lr"])
            decays[names[id(parameter)]] = torch.full_like(parameter, group["weight_decay"])
    for name, wanted in ABOUT["optimiser"]["parameter_groups"].items():
        for found, key in ((rates, "lr"), (decays, "weight_decay")):
            values = torch.cat([part.flatten() for part in pieces(name, found.__getitem__)])
            assert values.min() == values.max() == pytest.approx(wanted[key]), (name, key)


def test_schedules_are_theirs(study):
    """At the fixture's lengths, and at the preset's own of pre-training and of Shenzhen."""
    pretraining = study.pretrain_settings("refers").training
    finetuning = study.finetune_settings("refers", "shenzhen", 100).training
    updates_of = NUMBERS["schedule/updates"].tolist()
    for training, name in ((pretraining, "pretraining"), (finetuning, "finetuning")):
        found = [optim.lr_factor_of(training, step) for step in range(10)]
        assert found == pytest.approx(ABOUT["schedules"]["values"][f"{name}_all_10"], abs=1e-12)
        assert [found[step] for step in updates_of] == pytest.approx(
            NUMBERS[f"schedule/{name}"].tolist(), abs=1e-12
        )
    full = preset()
    for training, name in (
        (full.pretrain_settings("refers").training, "pretraining_10000_of_400000"),
        (full.finetune_settings("refers", "shenzhen", 100).training, "finetuning_5_of_100"),
    ):
        for step, factor in ABOUT["schedules"]["values"][name].items():
            assert optim.lr_factor_of(training, int(step)) == pytest.approx(factor, abs=1e-12), (name, step)


# ---- the import of their weights


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("class_position", [False, True])
def test_an_encoder_of_either_form_computes_what_theirs_does(study, tmp_path, channels, class_position):
    model = study.pretrain_settings("refers").model
    model = model.replace(channels=channels, class_position=class_position)
    encoder, report = authors_encoder(model, tmp_path)
    applied = {1: "folded into the first kernel", 3: "at the input"}
    assert report["input"]["applied"] == applied[channels]
    images = images_of(config.Augment(evaluation="whole"))
    with torch.no_grad():
        expect(encoder.eval()(images).aggregation, "outputs/cls", OUTPUT)


def test_kernels_of_another_input_are_turned_into_those_of_the_encoders_channels(study, tmp_path):
    """As Google's, trained with 0.5: the picture of such an encoder is theirs of the same kernels on channels of 0.5."""
    model = study.pretrain_settings("refers").model
    half = config.InputStatistics(mean=(0.5,) * 3, std=(0.5,) * 3)
    images = images_of(config.Augment(evaluation="whole"))
    found = {}
    for channels in (1, 3):
        encoder, report = authors_encoder(model.replace(channels=channels, input=half), tmp_path)
        assert report["input"]["applied"] == "folded into the first kernel"
        assert encoder.patch.weight.shape[1] == channels * 64
        with torch.no_grad():
            found[channels] = encoder.eval()(images).aggregation
    expect(found[3], found[1], OUTPUT)
    assert (found[3] - NUMBERS["outputs/cls"].flatten(0, 1)).abs().max() > 0.05


def test_a_kernel_of_one_grey_channel_is_no_kernel_of_three(study, tmp_path):
    grey = config.InputStatistics(mean=(0.449,), std=(0.226,))
    model = study.pretrain_settings("refers").model.replace(input=grey)
    with pytest.raises(UserError, match=r"one grey channel; set model\.channels: 1"):
        authors_encoder(model, tmp_path)


# ---- fine-tuning

CELLS = {"multilabel": ("vinbigdata", 14), "binary": ("shenzhen", 1)}


@pytest.fixture(params=CELLS)
def tuned(request, study, tmp_path):
    """(kind, settings, classifier with the fixture's start, its images) of a cell of the preset."""
    kind = request.param
    dataset, classes = CELLS[kind]
    settings = study.finetune_settings("refers", dataset, 100)
    encoder, _ = authors_encoder(study.model_settings("refers"), tmp_path)
    model = Classifier(encoder, classes, settings.dropout, settings.binary_logits)
    for name, parameter in model.head.named_parameters():
        start = NUMBERS[f"finetune/{kind}/head.{name}"]
        assert parameter.shape == start.shape
        parameter.detach().copy_(start)
    names = [str(place) for place in range(classes)]
    frame = pd.DataFrame({"row": np.arange(12), "width": 32, "height": 32})
    labels = NUMBERS[f"finetune/{kind}/labels"].numpy().astype(np.float32)
    for place, name in enumerate(names):
        frame[f"label:{name}"] = labels[:, place]
    return kind, settings, model, LabelledImages(GREY.numpy(), frame, names)


def theirs_of(model):
    """(name, gradient) -> a parameter of their fine-tuned network, or its gradient, out of our classifier."""

    def find(name, gradient=False):
        if name.startswith("head."):
            parameter = dict(model.named_parameters())[name]
            return parameter.grad if gradient else parameter
        return as_theirs(VISUAL + name.removeprefix("transformer."), model, gradient)

    return find


def test_logits_and_gradients_of_fine_tuning_are_theirs(tuned, monkeypatch):
    kind, settings, model, data = tuned
    with torch.no_grad():
        expect(predict(model, data, settings, 32, CPU), f"finetune/{kind}/logits", OUTPUT)
    monkeypatch.setattr(augment, "sample_params", augment.identity_params)
    task = finetuning_task(model, data, data, settings, 32, CPU)
    loss = task.loss(task.load(0))["loss"]
    expect(loss, f"finetune/{kind}/loss", LOSS)
    assert task.validate()["loss"] == pytest.approx(float(NUMBERS[f"finetune/{kind}/loss"]), abs=LOSS)
    model.train()
    task.loss(task.load(0))["loss"].backward()
    wanted = numbers_below(f"finetune/{kind}/grads/")
    assert len(wanted) >= 7
    for name, tensor in wanted.items():
        expect(theirs_of(model)(name, gradient=True), tensor, GRADIENT, name)


@pytest.mark.parametrize("count", [1, 3])
def test_updates_of_fine_tuning_are_theirs(tuned, tmp_path, monkeypatch, count):
    kind, settings, model, data = tuned
    monkeypatch.setattr(augment, "sample_params", augment.identity_params)
    task = finetuning_task(model, data, data, settings, 32, CPU)
    found = updates(task, settings.training, count, tmp_path, monkeypatch)
    expect_log(found, ABOUT["finetuning"]["log"][kind][:count])
    wanted = numbers_below(f"finetune/{kind}/after{count}/")
    assert len(wanted) == 7
    for name, tensor in wanted.items():
        expect(theirs_of(model)(name), tensor, WEIGHT, name)


@pytest.mark.parametrize(
    ("dataset", "images", "steps"),
    [("nih", 78_468, 614), ("vinbigdata", 10_500, 83), ("shenzhen", 463, 4), ("covid_t1", 664, 6)],
)
def test_epochs_of_fine_tuning_have_as_many_steps_as_theirs(dataset, images, steps):
    training = preset().finetune_settings("refers", dataset, 100).training
    assert epoch_steps(images, training.batch_size, training.last_batch) == steps
