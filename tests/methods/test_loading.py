"""Checkpoints that cannot be read or do not fit."""

from pathlib import Path

import pytest
import torch

from fusion_lightning.errors import UserError
from fusion_lightning.methods import load_method, read_checkpoint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint", "cannot be read"),
        ({"state_dict": {}}, "not written by a fusion method"),
        ({"state_dict": {}, "method": "Elsewhere", "hyper_parameters": {}}, "not known here"),
        ({"state_dict": {}, "method": "CLEDStage1", "hyper_parameters": {"size": "tiny"}}, "does not fit"),
        ({"state_dict": {}, "method": "CLEDStage1", "hyper_parameters": {"old": 1}}, "does not fit"),
    ],
)
def test_a_bad_checkpoint_is_named(content: object, words: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(UserError, match=words) as refusal:
        load_method(path)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_checkpoint_is_named() -> None:
    with pytest.raises(UserError, match="there is no checkpoint"):
        read_checkpoint("nowhere.ckpt")
