"""Colour rules."""

import pytest
import torch
from torch import Tensor

from fusion_lightning.batch import sources
from fusion_lightning.errors import UserError
from fusion_lightning.imaging.color import keep_saturation, rgb_to_cbcr, rgb_to_luma, with_chroma
from fusion_lightning.methods import Maximum, RestoreThenFuse
from fusion_lightning.metrics.functional.color import hue, saturation
from tests.methods.conftest import make_batch


def _red(luma: float) -> Tensor:
    """A dark red of this luma, with a chroma that could still be doubled."""
    chroma = torch.tensor([0.45, 0.58]).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    return with_chroma(torch.full((1, 1, 8, 8), luma), chroma)


def test_chroma_is_scaled_as_luma_was() -> None:
    source = _red(0.3)
    brighter = with_chroma(torch.full((1, 1, 8, 8), 0.45), rgb_to_cbcr(source))
    kept = keep_saturation(brighter, source)
    torch.testing.assert_close(rgb_to_luma(kept), rgb_to_luma(brighter))
    expected = 0.5 + (0.45 + 0.02) / (0.3 + 0.02) * (rgb_to_cbcr(source) - 0.5)
    torch.testing.assert_close(rgb_to_cbcr(kept), expected, atol=1e-5, rtol=0)


def test_a_fusion_of_the_sources_luma_stays_as_it_is() -> None:
    source = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(keep_saturation(source, source), source)


@pytest.mark.parametrize("luma", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_nothing_is_clipped_and_no_hue_turns(luma: float) -> None:
    source = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    fused = with_chroma(torch.full((1, 1, 16, 16), luma), 0.5 + 0.2 * (rgb_to_cbcr(source) - 0.5))
    kept = keep_saturation(fused, source)
    torch.testing.assert_close(rgb_to_luma(kept), rgb_to_luma(fused), atol=1e-5, rtol=0)
    offset, before = rgb_to_cbcr(kept) - 0.5, rgb_to_cbcr(fused) - 0.5
    torch.testing.assert_close(offset[:, 0] * before[:, 1], offset[:, 1] * before[:, 0], atol=1e-5, rtol=0)


def test_grey_stays_grey() -> None:
    grey = torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8)
    torch.testing.assert_close(keep_saturation(grey, torch.rand(1, 3, 8, 8)), grey)


def test_methods_color_by_their_rule() -> None:
    batch = make_batch(["one"], size=(32, 32))
    a, b = sources(batch)
    grey, colored = (a, b) if b.shape[1] == 3 else (b, a)
    kept = {rule: Maximum(color_rule=rule)(batch)["fused"] for rule in ("saturation", "chroma")}
    torch.testing.assert_close(kept["chroma"], Maximum().fuse(batch)["fused"])
    lost = {rule: abs(1 - saturation(fused, grey, colored).item()) for rule, fused in kept.items()}
    assert lost["saturation"] < lost["chroma"]
    assert hue(kept["saturation"], grey, colored).item() < hue(kept["chroma"], grey, colored).item() + 0.5


def test_the_rule_applies_once_in_a_cascade() -> None:
    batch = make_batch(["one"], size=(32, 32))
    cascade = RestoreThenFuse(restorer="ClassicalRestorer", fuser="Maximum")
    restored = cascade.fuse(batch)
    expected = keep_saturation(restored["fused"], restored["restored_b"])
    torch.testing.assert_close(cascade(batch)["fused"], expected)


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UserError, match="`color_rule` must be one of saturation, chroma, but got 'hue'"):
        Maximum(color_rule="hue")
