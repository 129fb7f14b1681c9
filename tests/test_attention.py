"""Class activation maps: exact for the classifier that they explain, and boxes in the pixels of its crop."""

import pytest
import torch
from refers import config
from refers.errors import UserError
from refers.evaluation import class_activation
from refers.model.classifier import Classifier
from refers.model.encoder_file import save_encoder
from refers.model.encoders import build_encoder
from refers.model.vit import Features


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", ["transformer", "resnet18"])
def test_the_mean_of_a_map_is_the_logit(small_model, classes, kind):
    torch.manual_seed(0)
    settings = small_model if kind == "transformer" else config.ResNet(architecture=kind, image_size=64)
    model = Classifier(build_encoder(settings), classes, 0.0).eval()
    images = torch.randn(2, 1, settings.image_size, settings.image_size)
    maps = class_activation.class_activation(model, images)
    logits = model(images)
    logits = logits[:, 1:] - logits[:, :1] if classes == 1 else logits
    torch.testing.assert_close(maps.mean((2, 3)), logits, atol=1e-5, rtol=1e-4)


def test_a_map_keeps_the_places_of_its_tokens(small_model):
    torch.manual_seed(0)
    model = Classifier(build_encoder(small_model), 1, 0.0).eval()
    tokens = model.encoder(torch.randn(1, 1, 32, 32)).tokens
    model.encoder.forward = lambda images: Features(tokens, tokens.mean(1), tokens.mean(1))
    maps = class_activation.class_activation(model, torch.zeros(1))
    binary = model.head(tokens)[0, :, 1] - model.head(tokens)[0, :, 0]
    torch.testing.assert_close(maps[0, 0, 2, 1], binary[2 * 4 + 1])


def test_a_kept_classifier_comes_back(small_model, tmp_path):
    torch.manual_seed(0)
    model = Classifier(build_encoder(small_model), 3, 0.0).eval()
    save_encoder(tmp_path / "c.safetensors", model, {"classes": 3})
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(
        class_activation.load_classifier(tmp_path / "c.safetensors")(images), model(images)
    )


def test_a_classifier_that_reads_the_aggregation_output_has_no_map(small_model, tmp_path):
    settings = small_model.replace(classifier="aggregation")
    model = Classifier(build_encoder(settings), 3, 0.0)
    save_encoder(tmp_path / "c.safetensors", model, {"classes": 3})
    with pytest.raises(UserError, match="has no class activation map; set classifier: mean"):
        class_activation.load_classifier(tmp_path / "c.safetensors")


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_a_network_that_does_not_read_the_mean_of_its_tokens_has_no_map(name):
    torch.manual_seed(0)
    model = Classifier(build_encoder(config.Timm(name=name, image_size=64)), 3, 0.0).eval()
    with pytest.raises(UserError, match="feature is not the mean of its tokens"):
        class_activation.class_activation(model, torch.randn(1, 1, 64, 64))
