"""C2L: mixing, queue, teacher, and both of its losses."""

import math

import pytest
import torch
from refers import config
from refers.methods import build_objective
from refers.methods.c2l import cut_out, infonce, nce
from refers.model.encoders import build_encoder
from refers.training import augment, trainer
from refers.training.pretraining import pretraining_task
from torch.nn import functional as F

CPU = torch.device("cpu")


def build(model, context, **settings):
    torch.manual_seed(0)
    return build_objective(
        "c2l",
        build_encoder(model),
        {"width": 8, "queue": 10, "momentum": 0.9, "cutout": 0} | settings,
        context,
    )


@pytest.fixture
def objective(small_model, context):
    return build(small_model.replace(dropout=0.0), context)


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def logits_of(query, key, queue, temperature):
    return torch.cat([(query * key).sum(1, keepdim=True), query @ queue.T], dim=1) / temperature


def test_infonce_by_hand():
    torch.manual_seed(0)
    query, key, queue = units(3, 8), units(3, 8), units(5, 8)
    each = []
    for q, k in zip(query, key, strict=True):
        scores = [math.exp(float(q @ other) / 0.07) for other in [k, *queue]]
        each.append(-math.log(scores[0] / sum(scores)))
    assert float(infonce(logits_of(query, key, queue, 0.07))) == pytest.approx(sum(each) / 3, rel=1e-4)


def test_noise_contrastive_estimation_by_hand():
    """The publication's form: P = exp(s) / Z against uniform noise over n items, of which K are drawn; here n = K."""
    torch.manual_seed(0)
    query, key, queue, z = units(3, 8), units(3, 8), units(5, 8), 20.0
    each = []
    for q, k in zip(query, key, strict=True):
        positive, *negatives = (math.exp(float(q @ other) / 0.07) / z for other in [k, *queue])
        each.append(-math.log(positive / (positive + 1)) - sum(math.log(1 / (one + 1)) for one in negatives))
    found = nce(logits_of(query, key, queue, 0.07), torch.tensor(z))
    assert float(found) == pytest.approx(sum(each) / 3, rel=1e-4)


def test_losses_at_chance():
    torch.manual_seed(0)
    logits = logits_of(units(4, 128), units(4, 128), units(16384, 128), 1e6)
    assert float(infonce(logits)) == pytest.approx(math.log(16385), abs=1e-3)
    # where every normalised score is 1/n the estimate is ln(1 + K) + K ln(1 + 1/K), whatever n
    keys = 16384
    chance = nce(logits, torch.tensor(float(keys)))
    assert float(chance) == pytest.approx(math.log(1 + keys) + keys * math.log(1 + 1 / keys), rel=1e-3)


@pytest.mark.parametrize("loss", ["infonce", "nce"])
def test_contrasts_are_fp32_inside_autocast(small_model, context, loss):
    objective = build(small_model.replace(dropout=0.0), context, loss=loss, queue=64)
    query, key = units(4, 8), units(4, 8)
    for training in (True, False):
        objective.train(training).normaliser.zero_()
        exact = objective.contrast(query, key)
        objective.normaliser.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            mixed = objective.contrast(query, key)
        assert mixed.dtype == torch.float32
        assert torch.equal(mixed, exact)


def test_only_the_student_learns_by_gradient(objective):
    objective({"images": torch.randn(4, 2, 1, 32, 32)})["loss"].backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert all(parameter.grad is not None for parameter in objective.encoder.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_without_mixing_the_three_contrasts_agree(objective, monkeypatch, training):
    objective.train(training)
    monkeypatch.setattr(torch, "rand", lambda *_shape, **_options: torch.ones(()))
    losses = objective({"images": torch.randn(4, 2, 1, 32, 32)})
    torch.testing.assert_close(losses["homogeneous"], losses["plain"])
    torch.testing.assert_close(losses["heterogeneous"], losses["plain"])


def test_the_queue_is_first_in_first_out_around_its_end(objective):
    keys = units(14, 8)
    for start in range(0, 12, 4):
        objective.enqueue(keys[start : start + 4])
    assert int(objective.pointer) == 2
    torch.testing.assert_close(objective.queue[2:10], keys[2:10])
    torch.testing.assert_close(objective.queue[:2], keys[10:12])
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(10))


def test_the_queue_takes_keys_of_the_second_view_only(objective):
    images = torch.randn(4, 2, 1, 32, 32)
    key = F.normalize(objective.keys(images[:, 1]), dim=1)
    objective.train()
    objective({"images": images})
    objective.after_step()
    torch.testing.assert_close(objective.queue[:4], key)
    assert int(objective.pointer) == 4


def at_most_two_images(module, inputs, _output):
    if module.training and len(inputs[0]) > 2:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_trainer_repeats_a_step_without_the_keys_of_the_first_attempt(
    small_model, context, studies, tmp_path
):
    """Out of memory after the teacher's forward pass: the keys of that attempt are not queued, and those of the parts once."""
    training = config.Training(steps=1, warmup_steps=0, batch_size=4, precision="fp32")
    objective = build(small_model, context)
    task = pretraining_task(studies, objective, training, 32, CPU)
    before = objective.queue.clone()
    objective.encoder.register_forward_hook(at_most_two_images)
    outcome = trainer.fit(task, training, CPU, tmp_path, "x")
    assert outcome["micro_batches"] == 2
    assert int(objective.pointer) == 4
    assert (objective.queue[:4] != before[:4]).any(1).all()
    assert torch.equal(objective.queue[4:], before[4:])


@pytest.mark.parametrize("loss", ["infonce", "nce"])
def test_validation_knows_neither_queue_nor_normaliser_and_leaves_them(small_model, context, loss):
    objective = build(small_model, context, loss=loss).eval()
    images = torch.randn(6, 2, 1, 32, 32)
    torch.manual_seed(1)
    start = objective({"images": images})["loss"]
    assert float(objective.normaliser) == 0
    assert not len(objective.fresh)
    objective.enqueue(units(10, 8))
    objective.normaliser.fill_(3.0)
    torch.manual_seed(1)
    assert torch.equal(objective({"images": images})["loss"], start)


def test_the_first_training_batch_fixes_the_normaliser(small_model, context):
    objective = build(small_model, context, loss="nce").train()
    query = units(4, 8)
    objective.contrast(query, units(4, 8))
    first = float((query @ objective.queue.T / 0.07).exp().mean() * 10)
    assert float(objective.normaliser) == pytest.approx(first, rel=1e-4)
    objective.contrast(units(4, 8), units(4, 8))
    assert float(objective.normaliser) == pytest.approx(first, rel=1e-4)


def test_validation_compares_two_different_views_in_the_same_way_every_time(small_model, context, studies):
    training = config.Training(steps=4, warmup_steps=1, batch_size=32)
    task = pretraining_task(studies, build(small_model, context).eval(), training, 32, CPU)
    seen = []
    task.module.encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    task.module.teacher[0].register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    values = []
    for _ in range(2):
        torch.manual_seed(3)
        with torch.no_grad():
            values.append(task.validate())
    assert values[0] == values[1]
    rows = studies.images_of(studies.splits["val"])[0]
    second, first = seen[0], seen[1]  # the teacher comes first
    params = augment.identity_params(training.augment, len(rows), 36, 32, CPU)
    assert torch.equal(first, augment.apply(params, torch.from_numpy(studies.store[rows]), 32))
    assert (first - second).abs().amax((1, 2, 3)).min() > 0.1
    # one picture twice would be found at once; chance is log(n), or more where scores are far apart
    assert values[0]["plain"] > 0.9 * math.log(len(rows))


def test_the_teacher_is_a_moving_average(objective):
    before = [parameter.clone() for parameter in objective.teacher.parameters()]
    student = [*objective.encoder.parameters(), *objective.head.parameters()]
    with torch.no_grad():
        for parameter in student:
            parameter.add_(1)
    objective.fresh = units(2, 8)
    objective.after_step()
    assert len(before) == len(student)
    for old, new, learnt in zip(before, objective.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * learnt)


def test_the_teacher_never_drops_out(small_model, context):
    objective = build(small_model, context).train()
    images = torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(objective.keys(images), objective.keys(images))


def test_queue_and_pointer_are_part_of_the_resume_state(objective):
    assert {"queue", "pointer", "normaliser"} <= objective.state_dict().keys()


def test_images_are_mixed_by_a_share_of_at_least_a_half(objective, monkeypatch):
    objective.eval()
    images, order = torch.randn(4, 2, 1, 32, 32), torch.tensor([3, 0, 1, 2])
    monkeypatch.setattr(torch, "rand", lambda *_shape, **_options: torch.tensor(0.2))
    monkeypatch.setattr(torch, "randperm", lambda *_count, **_options: order)
    seen = []
    objective.encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    objective({"images": images})
    first = images[:, 0]
    mixed = 0.8 * first + 0.2 * first[order]
    assert any(torch.allclose(given, mixed, atol=1e-6) for given in seen)
    assert any(torch.equal(given, first) for given in seen)


def test_the_order_of_the_batch_does_not_matter_where_nothing_is_mixed(objective, monkeypatch):
    objective.eval()
    monkeypatch.setattr(torch, "rand", lambda *_shape, **_options: torch.ones(()))
    images = torch.randn(4, 2, 1, 32, 32)
    torch.testing.assert_close(
        objective({"images": images[[2, 0, 3, 1]]})["loss"], objective({"images": images})["loss"]
    )


def test_recomputing_the_plain_pass_saves_its_memory_and_changes_no_gradient(small_model, context):
    images = torch.randn(4, 2, 1, 32, 32)
    gradients, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        settings = {"width": 8, "queue": 10, "recompute": recompute}
        objective = build_objective("c2l", build_encoder(small_model), settings, context).train()
        saved = {}

        def keep(tensor, saved=saved):
            saved[tensor.data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            losses = objective({"images": images})  # dropout is on: both passes must draw the same masks
        losses["loss"].backward()
        gradients.append([parameter.grad for parameter in objective.encoder.parameters()])
        kept.append(sum(tensor.nbytes for tensor in saved.values()))
    for once, twice in zip(*gradients, strict=True):
        torch.testing.assert_close(once, twice)
    assert kept[1] < 0.7 * kept[0]


def test_the_plain_pass_comes_back_when_the_mixed_one_is_gone(objective):
    events = []

    def entering(_block, given):
        if torch.is_grad_enabled():  # the teacher's passes are not
            number = sum(event.startswith("forward") for event in events)
            events.append(f"forward {number}")
            given[0].register_hook(lambda _gradient: events.append(f"backward {number}"))

    objective.encoder.blocks[0].register_forward_pre_hook(entering)
    objective.train()({"images": torch.randn(4, 2, 1, 32, 32)})["loss"].backward()
    assert events == ["forward 0", "forward 1", "backward 1", "forward 2", "backward 0"]


def test_three_squares_are_cut_out_of_every_crop_in_training_alone(small_model, context):
    torch.manual_seed(0)
    images = torch.randn(500, 2, 1, 32, 32)
    holes = cut_out(images, 1, 5) == 0
    assert torch.equal(cut_out(images, 0, 5), images)
    rows, columns = holes[:, :, 0].any(3), holes[:, :, 0].any(2)
    assert torch.equal(holes[:, :, 0], rows[..., None] & columns[..., None, :]), "one square is a rectangle"
    assert sorted(rows.sum(2).unique().tolist()) == [3, 4, 5], "the border cuts a square off"
    assert holes[..., 0, 0, 0].any(), "squares reach the corners"
    assert holes[..., -1, -1].any()
    objective = build(small_model, context, cutout=3)
    seen = []
    objective.encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    objective.train()({"images": images[:8]})
    share = (seen[0] == 0).flatten(1).float().mean(1)
    assert ((share > 0) & (share <= 3 * 25 / 1024)).all()
    seen.clear()
    objective.eval()({"images": images[:8]})
    assert any(torch.equal(given, images[:8, 0]) for given in seen)


def test_crops_take_a_fifth_to_all_of_the_images_area(small_model, context, studies):
    training = config.Training(steps=4, warmup_steps=1, batch_size=32)

    def shares(**settings):
        task = pretraining_task(studies, build(small_model, context, **settings), training, 32, CPU)
        batches = task.loss.__self__
        torch.manual_seed(0)
        params = batches.params({"images": torch.zeros(1000)}, augment.sample_params)
        return params.scale_x * params.scale_y

    found = shares()
    assert 0.2 <= float(found.min()) < 0.22
    # the share of an oblong crop that would leave the image is smaller
    assert 0.9 < float(found.max()) <= 1
    shared = shares(area=None)
    assert torch.equal(shared, torch.full((2000,), (32 / 36) ** 2))
