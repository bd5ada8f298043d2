"""MURF's fusion: its network, its gate, its gradient loss."""

import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.losses.functional import enhanced_gradient_loss, laplacian
from fusion_lightning.methods import MURFusion
from fusion_lightning.networks.murf import MURFNetwork, _laplacian


def test_the_network_has_the_published_layers() -> None:
    sizes = {name: sum(one.numel() for one in part.parameters()) for name, part in MURFNetwork().named_children()}
    assert sizes == {"a": 5824, "b": 5824, "of_mean": 292, "of_peak": 292, "decoder": 13872, "last": 145}


def test_the_gate_looks_at_texture_alone_and_is_one_for_both() -> None:
    network = MURFNetwork()
    a, b = torch.rand(2, 2, 32, 12, 10)
    gate = network.gate(a, b)
    assert gate.shape == (2, 32, 1, 1)
    torch.testing.assert_close(network.gate(a + 3, b - 1), gate)  # brightness has no ∇²
    torch.testing.assert_close(network.gate(b, a), gate)
    torch.testing.assert_close(_laplacian(a)[:, :1], laplacian(a[:, :1]))


def test_the_gradient_loss_wants_the_stronger_detail_enhanced() -> None:
    a, b = torch.zeros(2, 1, 1, 5, 5)
    a[..., 2, 2], b[..., 2, 2] = 0.1, -0.02
    # a's peak is −0.4 with four neighbours of 0.1; b is weaker everywhere
    target = 0.4**0.7 + 4 * 0.1**0.7
    assert enhanced_gradient_loss(torch.zeros_like(a), a, b, 0.7).item() == pytest.approx(target / 25, rel=1e-5)
    assert enhanced_gradient_loss(a, a, b, 1.0).item() == pytest.approx(0, abs=1e-7)


def test_it_learns(batch: FusionBatch) -> None:
    method = MURFusion()
    optimizer = torch.optim.Adam(method.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = method.training_step(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert method.fuse(batch)["fused"].shape == batch["source_b"].shape
