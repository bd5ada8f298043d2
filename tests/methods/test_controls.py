"""Every method obeys the controls that it declares, and refuses the others."""

from typing import Any

import pytest
import torch

from fusion_lightning.batch import Controls, FusionBatch, SampleDegradation
from fusion_lightning.errors import UserError
from fusion_lightning.methods import (
    DRMF,
    IFCNN,
    Average,
    Blind,
    CLEDStage1,
    CLEDStage2,
    DiffusionRestorer,
    FusionMethod,
    RestoreThenFuse,
    Restormer,
    TextDiFuse,
)

CHANGED = {"strength_a": 0.4, "strength_b": 0.4, "balance": 0.8}


def _pair() -> FusionBatch:
    a, b = torch.rand(1, 1, 32, 32), torch.rand(1, 3, 32, 32)
    degradation = [SampleDegradation(scenario="delivered", a=[], b=[])]
    return FusionBatch(source_a=a, source_b=b, clean_a=a, clean_b=b, degradation=degradation, name=["x"])


def _stage1(**options: Any) -> dict[str, Any]:
    return dict(DiffusionRestorer(size="tiny", **options).hparams)


@pytest.mark.parametrize(
    "method",
    [
        CLEDStage1(size="tiny", sampling_steps=1),
        CLEDStage2(size="tiny", restorer={"size": "tiny", "sampling_steps": 1}),
        DRMF(size="tiny", stage1=_stage1()),
        TextDiFuse(size="tiny", stage1=_stage1(luma=True, shared_network=True)),
        Blind(),
        RestoreThenFuse(),
        Restormer(size="tiny"),
        IFCNN(),
        Average(),
    ],
    ids=lambda method: type(method).__name__,
)
@torch.no_grad()
def test_a_control_is_obeyed_if_and_only_if_it_is_declared(method: FusionMethod) -> None:
    torch.manual_seed(0)
    # no network of random weights is an identity, but some begin as one
    for parameter in method.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    pair, plain = _pair(), method.eval().fuse(_pair())
    for name, value in CHANGED.items():
        controls = Controls(**{name: value})
        if name in method.controls:
            changed = method.fuse(pair, controls)
            assert any((changed[part] != plain[part]).any() for part in changed), name  # type: ignore[literal-required]
        else:
            with pytest.raises(UserError, match=r"control|balance"):
                method.fuse(pair, controls)
