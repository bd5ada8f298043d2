"""Fusion by rule, against hand-written arithmetic."""

import pytest
import torch

from fusion_lightning.batch import FusionBatch
from fusion_lightning.color import chroma, luma
from fusion_lightning.errors import UserError
from fusion_lightning.methods import Average, Controls, Maximum

from .conftest import make_batch


def test_grey_sources_give_the_plain_rule() -> None:
    batch = make_batch(["one"], color=None)
    a, b = batch["source_a"], batch["source_b"]
    assert torch.equal(Average().fuse(batch)["fused"], (a + b) / 2)
    assert torch.equal(Maximum().fuse(batch)["fused"], torch.maximum(a, b))


@pytest.mark.parametrize("method", [Average(), Maximum()])
def test_colour_is_kept(method: Average, batch: FusionBatch) -> None:
    # mid-grey enough that no colour leaves the cube and is clipped
    batch["source_b"] = 0.4 + 0.2 * batch["source_b"]
    batch["source_a"] = 0.4 + 0.2 * batch["source_a"]
    fused = method.fuse(batch)["fused"]
    torch.testing.assert_close(chroma(fused), chroma(batch["source_b"]), atol=2 / 255, rtol=0)
    expected = type(method).rule(batch["source_a"], luma(batch["source_b"]))
    torch.testing.assert_close(luma(fused), expected, atol=2 / 255, rtol=0)


def test_a_rule_has_no_controls(batch: FusionBatch) -> None:
    with pytest.raises(UserError, match="no strength or balance"):
        Average().fuse(batch, Controls(strength_a=0.5))
