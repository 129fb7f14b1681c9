"""What the code preset shows the networks, and what is random in them, is what the authors' released code has."""

import numpy as np
import pandas as pd
import pytest
import torch
from authors import NUMBERS, SMALL, preset
from PIL import Image
from refers import config
from refers.data.images import load_square
from refers.data.index import aspects
from refers.data.splits import make_split
from refers.errors import UserError
from refers.evaluation.class_activation import class_activation, load_classifier
from refers.methods import build_objective
from refers.model.classifier import Classifier
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.model.layers import CrossAttention, SelfAttention
from refers.model.report_decoder import ReportDecoder
from refers.training import augment
from refers.training.finetuning import LabelledImages, evaluate
from refers.training.pretraining import pretraining_task
from refers.training.trainer import Trainer
from torch import nn
from torchvision.transforms import RandomResizedCrop

CPU = torch.device("cpu")
SOURCE = NUMBERS["evaluation/source"].numpy()
PICTURES = {"square": SOURCE, "wide": SOURCE[30:270]}


@pytest.fixture(scope="module")
def study():
    return preset()


def shown(study, folder, picture, how):
    """A picture as the networks are shown it without augmentation: from its file, by store, index and split."""
    rows, side = 12, study.config.images.size
    Image.fromarray(picture).save(folder / "picture.png")
    store = np.stack([load_square(folder / "picture.png", side)] * rows)
    names = [f"{row:02d}" for row in range(rows)]
    index = pd.DataFrame({"image_id": names, "patient_id": names, "view": "frontal", "split": ""})
    index["width"], index["height"] = np.int32(picture.shape[1]), np.int32(picture.shape[0])
    index["label:A"] = np.float32([0, 1] * (rows // 2))
    rule = config.Split(dataset="toy", kind="random", classes=["A"], views=["frontal"])
    frame, _ = make_split(index, rule)
    data = LabelledImages(store, frame, ["A"])
    return (evaluate(nn.Identity(), data, how, 5, 224, CPU)[0, 0] * 0.5 + 0.5) * 255


@pytest.mark.parametrize(
    ("picture", "limit"),
    # Theirs is made from 300 pixels, ours from the 256 of the store, and the picture is full of fine texture.
    [("square", 6), ("wide", 7)],
)
def test_the_view_of_fine_tuning_is_theirs(study, tmp_path, picture, limit):
    how = study.finetune_settings("refers", "nih", 100).training.augment
    assert study.config.probe.features.evaluation == how.evaluation
    wanted = NUMBERS[f"evaluation/finetuning_{picture}_pixels"].float()
    found = {}
    for evaluation in (how.evaluation, "centre", "whole"):
        pixels = shown(study, tmp_path, PICTURES[picture], how.replace(evaluation=evaluation))
        pixels = pixels[::2, ::2] if picture == "wide" else pixels
        found[evaluation] = float((pixels - wanted).abs().mean())
    assert found[how.evaluation] < limit
    assert found["centre"] > 20
    # of a square the whole picture is shown
    assert (found["whole"] > 20) == (picture == "wide")


@pytest.mark.parametrize("picture", PICTURES)
def test_the_view_of_held_out_studies_is_theirs(study, tmp_path, picture):
    how = study.pretrain_settings("refers").training.augment
    pixels = shown(study, tmp_path, PICTURES[picture], how)
    pixels = pixels[::2, ::2] if picture == "wide" else pixels
    wanted = NUMBERS[f"evaluation/pretraining_{picture}_pixels"].float()
    # they squash without antialiasing
    assert float((pixels - wanted).abs().mean()) < 7


def test_the_published_files_of_nih_are_squares():
    assert aspects(pd.DataFrame({"width": [1024, 0, 300], "height": [1024, 0, 200]})).tolist() == [1, 1, 1.5]
    assert aspects(pd.DataFrame({"row": [0]})) is None


def crops(how, aspect, count=200_000):
    torch.manual_seed(0)
    return augment.sample_params(how, count, 256, 224, CPU, torch.full((count,), aspect))


@pytest.mark.parametrize(
    ("stage", "area", "full"), [("pretraining", 0.426, 0.006), ("finetuning", 0.478, 0.003)]
)
def test_random_crops_are_theirs_on_a_square(study, stage, area, full):
    """Mean area and share of full height of albumentations 0.5.2 and of torchvision, with the authors' ranges."""
    how = study.pretrain_settings("refers").training.augment
    if stage == "finetuning":
        how = study.finetune_settings("refers", "nih", 100).training.augment
    params = crops(how, 1.0)
    assert float((params.scale_x * params.scale_y).mean()) == pytest.approx(area, abs=0.003)
    assert float((params.scale_y > 0.995).float().mean()) == pytest.approx(full, abs=0.006)
    # one draw that is cut to the square, as elsewhere
    cut = crops(how.replace(attempts=0), 1.0)
    assert float((cut.scale_x * cut.scale_y).mean()) > area + 0.04


@pytest.mark.parametrize("aspect", [0.6, 1.25, 3.0, 20.0])
def test_random_crops_are_torchvisions_on_the_picture_before_it_was_squashed(study, aspect):
    how, count = study.finetune_settings("refers", "nih", 100).training.augment, 4000
    picture = torch.empty(1, 1000, round(1000 * aspect))
    torch.manual_seed(0)
    theirs = torch.tensor(
        [RandomResizedCrop.get_params(picture, how.area, how.ratio) for _ in range(count)]
    ).float()
    top, left, height, width = (theirs / theirs.new_tensor([1000, 1000 * aspect] * 2)).unbind(1)
    params = crops(how, aspect, count)
    found = {
        "width": (params.scale_x, width),
        "height": (params.scale_y, height),
        "area": (params.scale_x * params.scale_y, width * height),
        "left": ((params.shift_x + 1 - params.scale_x) / 2, left),
        "top": ((params.shift_y + 1 - params.scale_y) / 2, top),
    }
    for name, (ours, wanted) in found.items():
        for statistic in (torch.mean, torch.std):
            assert float(statistic(ours)) == pytest.approx(float(statistic(wanted)), abs=0.015), name
    ratio = params.scale_x / params.scale_y * aspect
    assert float(ratio.min()) > how.ratio[0] - 1e-3
    assert float(ratio.max()) < how.ratio[1] + 1e-3


def test_without_the_pictures_shape_these_crops_and_views_are_refused(study):
    how = study.finetune_settings("refers", "nih", 100).training.augment
    for draw in (augment.sample_params, augment.identity_params):
        with pytest.raises(UserError, match="width and height of the pictures are unknown"):
            draw(how, 3, 256, 224, CPU)


@pytest.mark.parametrize(
    "method",
    [
        "refers",
        "model_genesis",
        "c2l",
        "context_restoration",
        "transvw",
        "lsp_transformer",
        "refers_resnet101",
    ],
)
def test_every_method_of_the_preset_trains_on_such_crops(method, context, studies, tmp_path, one_thread):
    """With the form of encoder that the preset has; a resumed run ends where an unbroken one does."""
    settings = preset(SMALL).pretrain_settings(method)
    training = settings.training.replace(steps=3, warmup_steps=1, checkpoint_every=2)
    kinds = {"transformer": (3, True), "resnet101": (1, False)}
    found = []
    for place, count in (("whole", 3), ("part", 2), ("part", 3)):
        torch.manual_seed(0)
        encoder = build_encoder(settings.model)
        assert (encoder.channels.count, hasattr(encoder, "aggregation_position")) == kinds[
            settings.model.architecture
        ]
        objective = build_objective(settings.objective, encoder, settings.settings, context)
        task = pretraining_task(studies, objective, training, 32, CPU)
        running = Trainer(task, training, CPU, tmp_path / place, "x", 0.0)
        for step in range(running.start, count):
            running.set_learning_rates(step)
            running.update(running.load(step), step)
        running.save()
        running.states.wait()
        found.append(encoder.state_dict())
    assert running.start == 2
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[2][name]), name
    assert any(not torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


# ---- the decoder


def decoder_of(study, **changes):
    settings = study.pretrain_settings("refers").settings["decoder"] | changes
    torch.manual_seed(0)
    return ReportDecoder(config.load(config.ReportTransformer, settings), 3000, 100, 768)


def test_a_fresh_decoder_starts_as_theirs(study):
    decoder = decoder_of(study)
    assert not decoder.words.weight[0].any()
    attentions, width = {"self_attention", "cross_attention"}, decoder.words.embedding_dim
    assert width == 1024
    for name, tensor in decoder.named_parameters():
        if "norm" in name:
            assert (tensor == float(name.endswith("weight"))).all(), name
        elif not name.endswith("bias"):
            spread = (tensor[1:] if name == "words.weight" else tensor).detach()
            assert float(spread.std()) == pytest.approx(0.02, rel=0.03), name
            assert abs(float(spread.mean())) < 1e-3, name
        elif attentions & set(name.split(".")):
            assert not tensor.any(), name
        else:
            inputs = {"memory.bias": 768, "bias": width}.get(name) or (4096 if "fc2" in name else width)
            limit = inputs**-0.5
            assert float(tensor.detach().abs().max()) <= limit, name
            assert float(tensor.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.1), name


def zeros(tensor):
    return float((tensor == 0).float().mean())


def test_dropout_of_the_decoder_is_at_their_seven_places(study):
    preset_of = config.load(config.ReportTransformer, study.pretrain_settings("refers").settings["decoder"])
    assert preset_of.dropout == preset_of.inner_dropout == 0.1
    torch.manual_seed(0)
    tokens, memory = torch.randint(1, 3000, (4, 60)), torch.randn(4, 80, 768)
    given = {}

    def share(module, arguments):
        given[module] = zeros(arguments[0])

    for rates in ({"dropout": 0.5, "inner_dropout": 0.0}, {"dropout": 0.0, "inner_dropout": 0.5}):
        decoder = decoder_of(study, **rates)
        layer = decoder.layers[0]
        layer.register_forward_pre_hook(share)
        layer.mlp.fc2.register_forward_pre_hook(share)
        # a branch of ones arrives as zeros and twos
        for branch in (layer.self_attention.out, layer.cross_attention.out, layer.mlp.fc2):
            nn.init.zeros_(branch.weight), nn.init.ones_(branch.bias)
        sums, normed, starts = [], [], []

        def keep(given, out, sums=sums, normed=normed):
            sums.append(given)
            normed.append(out)

        for norm in layer.norms:
            norm.register_forward_hook(lambda _, args, out, keep=keep: keep(args[0], out))
        layer.register_forward_pre_hook(lambda _, args, starts=starts: starts.append(args[0]))
        with torch.no_grad():
            decoder.train()(tokens, memory)
        assert given[layer] == pytest.approx(rates["dropout"], abs=0.02)
        assert given[layer.mlp.fc2] == pytest.approx(rates["inner_dropout"], abs=0.02)
        assert layer.self_attention.dropout.p == layer.cross_attention.dropout.p == rates["inner_dropout"]
        for before, after in zip([*starts, *normed], sums, strict=False):
            assert zeros(after - before) == pytest.approx(rates["dropout"], abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", [SelfAttention, CrossAttention])
def test_dropout_of_attention_is_on_its_probabilities(kind, dtype):
    """Values that are unit vectors show the probabilities."""
    torch.manual_seed(0)
    layer, x = kind(16, 1, 0.5).to(dtype), torch.eye(16, dtype=dtype).expand(50, -1, -1)
    own = kind is SelfAttention
    values = layer.qkv if own else layer.key_value
    with torch.no_grad():
        values.weight[-16:], values.bias[-16:] = torch.eye(16), 0
        layer.out.weight[:], layer.out.bias[:] = torch.eye(16), 0
        arguments = (x,) if own else (x, x)
        plain, dropped = layer.eval()(*arguments), layer.train()(*arguments)
    assert zeros(plain) == 0
    assert zeros(dropped) == pytest.approx(0.5, abs=0.03)
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * plain[kept], atol=0.01, rtol=0.02)


# ---- one logit


def test_maps_of_one_logit_have_it_as_their_mean(tmp_path):
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2, "mlp_width": 32}
    model = Classifier(build_encoder(config.Transformer(**sizes)), 1, 0.0, binary_logits=1)
    save_encoder(tmp_path / "classifier.safetensors", model, {"classes": 1})
    images = torch.randn(2, 1, 32, 32)
    found = load_classifier(tmp_path / "classifier.safetensors")
    maps = class_activation(found, images)
    assert maps.shape == (2, 1, 4, 4)
    with torch.no_grad():
        torch.testing.assert_close(maps.mean((2, 3)), found(images))
