"""Contact sheets: labels, gaps, and sheets that would be too wide."""

import pytest
import torch

from fusion_lightning.imaging.contact_sheet import contact_sheet

LABEL, GAP = 22, 4


@pytest.mark.parametrize(
    ("pictures", "columns", "blocks"), [(1, 1, 1), (7, 7, 1), (8, 4, 2), (12, 6, 2), (13, 7, 2), (15, 5, 3)]
)
def test_a_wide_sheet_goes_on_below(pictures: int, columns: int, blocks: int) -> None:
    red = torch.tensor([0.5, 0, 0]).view(3, 1, 1).expand(3, 10, 224)
    rows = [[red] * pictures] * 2
    sheet = contact_sheet(rows, [str(number) for number in range(pictures)])
    height = blocks * (LABEL + GAP + 2 * (10 + GAP))
    assert sheet.shape == (height, columns * (224 + GAP) - GAP, 3)
    assert (sheet == (128, 0, 0)).all(axis=2).sum() == 2 * pictures * 10 * 224  # every picture is there, whole


def test_pictures_wider_than_a_page_stand_below_each_other() -> None:
    sheet = contact_sheet([[torch.zeros(3, 8, 2000), torch.ones(3, 8, 2000)]], ["a", "b"])
    assert sheet.shape == (2 * (LABEL + GAP + 8 + GAP), 2000, 3)
