"""The radiograph transformer, view fusion and the report transformer: shapes, values, initialisation."""

import pytest
import torch
from refers import config
from refers.model.encoders import build_encoder
from refers.model.fusion import PatchFusion, ViewFusion
from refers.model.report_decoder import ReportDecoder, ReportTransformer
from refers.model.vit import RadiographTransformer
from torch import nn


def encode(settings, images, seed=0):
    torch.manual_seed(seed)
    encoder = RadiographTransformer(settings).eval()
    return encoder, encoder(images)


@pytest.mark.parametrize(
    ("aggregation", "classifier"), [("concat", "mean"), ("add", "aggregation"), ("none", "aggregation")]
)
def test_recurrent_concatenation(small_model, aggregation, classifier):
    images = torch.randn(3, 1, 32, 32)
    settings = small_model.replace(aggregation=aggregation, classifier=classifier)
    encoder, features = encode(settings, images)
    plain = small_model.replace(aggregation="none", classifier="aggregation")
    _, bare = encode(plain, images)
    g, p = bare.aggregation, bare.tokens
    expected = {
        "concat": torch.cat([g.unsqueeze(1).expand(-1, 16, -1), p], 2),
        "add": p + g.unsqueeze(1),
        "none": p,
    }
    torch.testing.assert_close(features.tokens, expected[aggregation])
    assert features.tokens.shape == (3, 16, encoder.token_width)
    pooled = expected[aggregation].mean(1) if classifier == "mean" else g
    torch.testing.assert_close(features.pooled, pooled)
    assert features.pooled.shape == (3, encoder.feature_width)


def test_the_gradient_reaches_the_aggregation_output_only_through_recurrent_concatenation(small_model):
    for aggregation, reached in (("concat", True), ("add", True), ("none", False)):
        settings = small_model.replace(aggregation=aggregation, classifier="aggregation")
        torch.manual_seed(0)
        encoder = RadiographTransformer(settings)
        features = encoder(torch.randn(2, 1, 32, 32))
        (gradient,) = torch.autograd.grad(
            features.tokens.square().sum(), features.aggregation, allow_unused=True
        )
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) == reached


def test_the_position_is_concatenated_with_the_patch_and_projected(small_model):
    torch.manual_seed(0)
    encoder = RadiographTransformer(small_model)
    images = torch.randn(2, 1, 32, 32)
    cells = images.unfold(2, 8, 8).unfold(3, 8, 8).reshape(2, 16, 64)
    patches = encoder.patch(cells)
    expected = encoder.mix(torch.cat([patches, encoder.position.expand(2, -1, -1)], dim=2))
    torch.testing.assert_close(encoder.embed(images), expected)


def test_patches_are_in_row_major_order(small_model):
    encoder = RadiographTransformer(small_model.replace(position="add"))
    nn.init.zeros_(encoder.position), nn.init.ones_(encoder.patch.weight)
    images = torch.arange(16.0).reshape(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)[None, None]
    torch.testing.assert_close(encoder.embed(images)[0, :, 0], torch.arange(16.0) * 64)


def test_initialisation_follows_the_paper(small_model):
    encoder = RadiographTransformer(small_model)
    assert not encoder.aggregation.any()
    assert encoder.position.std() > 0.01


def test_layer_norms_have_the_epsilon_of_imported_checkpoints(small_model):
    """1e-6, as in Google's and timm's vision transformers; torch's own default is ten times larger."""
    torch.manual_seed(0)
    x = torch.randn(4, small_model.width) * 1e-3
    expected = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-6).sqrt()
    norms = [part for part in RadiographTransformer(small_model).modules() if isinstance(part, nn.LayerNorm)]
    assert len(norms) == 2 * small_model.depth + 1
    for norm in norms:
        torch.testing.assert_close(norm(x), expected, rtol=1e-4, atol=1e-5)


def test_parameters_at_the_published_size():
    with torch.device("meta"):
        encoder = RadiographTransformer(
            config.Transformer(position="add", aggregation="none", classifier="aggregation")
        )
        authors = RadiographTransformer(encoder.settings.replace(channels=3, class_position=True))
    # ViT-B/16 without head has 85,798,656; one grey channel instead of three and no class-token position
    assert sum(p.numel() for p in encoder.parameters()) == 85_798_656 - 2 * 16 * 16 * 768 - 768
    assert sum(p.numel() for p in authors.parameters()) == 85_798_656


@pytest.mark.parametrize(("name", "width"), [("resnet18", 512), ("resnet50", 2048), ("resnet101", 2048)])
def test_residual_networks(name, width):
    encoder = build_encoder(config.ResNet(architecture=name, image_size=64)).eval()
    features = encoder(torch.randn(2, 1, 64, 64))
    assert features.tokens.shape == (2, 4, width)
    torch.testing.assert_close(features.pooled, features.tokens.mean(1))


def test_view_fusion_weights_views_by_a_softmax():
    torch.manual_seed(0)
    fusion = ViewFusion(views=3, feature_width=4, hidden=8)
    features, tokens = torch.randn(2, 3, 4), torch.randn(2, 3, 5, 6)
    study = fusion(features, tokens)
    torch.testing.assert_close(study.weights.sum(1), torch.ones(2))
    first, _, second = fusion.score
    expected = second(first(features.flatten(1)).relu()).softmax(1)
    torch.testing.assert_close(study.weights, expected)
    torch.testing.assert_close(study.feature[:, 0, 4:8], expected[:, 1:2] * features[:, 1])
    torch.testing.assert_close(study.memory[:, 10:], expected[:, 2, None, None] * tokens[:, 2])


def test_patch_fusion_weights_each_patch_by_a_sigmoid():
    torch.manual_seed(0)
    fusion = PatchFusion(views=3, token_width=6)
    features, tokens = torch.randn(2, 3, 4), torch.randn(2, 3, 5, 6)
    study = fusion(features, tokens)
    logit = fusion.score(torch.cat([tokens[:, view, 1] for view in range(3)], dim=1))[:, 2]
    torch.testing.assert_close(study.weights[:, 2, 1], logit.sigmoid())
    torch.testing.assert_close(study.memory[:, 11], logit.sigmoid()[:, None] * tokens[:, 2, 1])
    torch.testing.assert_close(study.feature[:, 0], features.flatten(1))


def test_the_report_transformer_is_causal():
    torch.manual_seed(0)
    decoder = ReportDecoder(
        ReportTransformer(width=16, depth=2, heads=2, mlp_width=32), 50, 12, memory_width=6
    ).eval()
    memory, tokens = torch.randn(1, 5, 6), torch.randint(5, 50, (1, 8))
    before = decoder(tokens, memory)
    for t in range(7):
        changed = tokens.clone()
        changed[0, t + 1] = (changed[0, t + 1] + 1) % 45 + 5
        after = decoder(changed, memory)
        torch.testing.assert_close(after[:, : t + 1], before[:, : t + 1])
        assert not torch.allclose(after[:, t + 1], before[:, t + 1])
    assert not torch.allclose(decoder(tokens, memory + 1), before)


def test_every_parameter_of_the_report_transformer_has_a_gradient():
    torch.manual_seed(0)
    decoder = ReportDecoder(
        ReportTransformer(width=16, depth=2, heads=2, mlp_width=32), 50, 12, memory_width=6
    )
    tokens = torch.randint(0, 50, (3, 13))
    logits = decoder(tokens[:, :-1], torch.randn(3, 5, 6))
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
    gradients = {name: parameter.grad for name, parameter in decoder.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None or not gradient.any()] == []
