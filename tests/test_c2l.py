"""C2L: mixing, queue, teacher, and both of its losses."""

import math

import pytest
import torch
from refers.encoders import build_encoder
from refers.methods import build_objective
from refers.methods.c2l import infonce, nce
from torch.nn import functional as F


@pytest.fixture
def objective(small_model, context):
    torch.manual_seed(0)
    return build_objective(
        "c2l", build_encoder(small_model), {"width": 8, "queue": 10, "momentum": 0.9}, context
    )


def units(*shape):
    return F.normalize(torch.randn(*shape), dim=-1)


def test_infonce_by_hand():
    torch.manual_seed(0)
    query, key, queue = units(3, 8), units(3, 8), units(5, 8)
    each = []
    for q, k in zip(query, key, strict=True):
        scores = [math.exp(float(q @ other) / 0.07) for other in [k, *queue]]
        each.append(-math.log(scores[0] / sum(scores)))
    assert float(infonce(query, key, queue, 0.07)) == pytest.approx(sum(each) / 3, rel=1e-4)


def test_losses_at_chance():
    torch.manual_seed(0)
    query, key, queue = units(4, 128), units(4, 128), units(16384, 128)
    assert float(infonce(query, key, queue, 1e4)) == pytest.approx(math.log(16385), abs=1e-3)
    # where every normalised score is 1/n the estimate is ln(1 + K) + K ln(1 + 1/K), whatever n
    items = 1000
    chance = nce(query, key, queue[:items], 1e6, items, torch.tensor(float(items)))
    assert float(chance) == pytest.approx(math.log(1 + items) + items * math.log(1 + 1 / items), rel=1e-3)


def test_only_the_student_learns_by_gradient(objective):
    objective({"images": torch.randn(4, 2, 1, 32, 32)})["loss"].backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    assert all(parameter.grad is not None for parameter in objective.encoder.parameters())


def test_without_mixing_the_three_contrasts_agree(objective, monkeypatch):
    objective.eval()
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
    objective.train()({"images": images})
    torch.testing.assert_close(objective.queue[:4], key)
    before = objective.queue.clone()
    objective.eval()({"images": images})
    assert torch.equal(objective.queue, before)


def test_the_teacher_is_a_moving_average(objective):
    before = [parameter.clone() for parameter in objective.teacher.parameters()]
    with torch.no_grad():
        for parameter in objective.encoder.parameters():
            parameter.add_(1)
    objective.after_step()
    student = [*objective.encoder.parameters(), *objective.head.parameters()]
    for old, new, learnt in zip(before, objective.teacher.parameters(), student, strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * learnt)


def test_the_teacher_never_drops_out(objective):
    objective.train()
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
