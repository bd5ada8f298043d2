"""What previews keep of the first batches."""

import torch

from fusion_lightning.callbacks import Previews


def test_previews_can_be_turned_off() -> None:
    previews = Previews(count=0)
    previews._collect({"output": {}, "rows": []}, {"name": ["x"]})  # type: ignore[typeddict-item]
    assert previews._rows == []


def test_previews_of_a_batch_larger_than_asked_for_are_labelled() -> None:
    previews = Previews(count=2)
    image = torch.rand(5, 1, 8, 8)
    batch = {"source_a": image, "source_b": image, "name": list("abcde")}
    previews._collect({"output": {"fused": image}, "rows": []}, batch)  # type: ignore[typeddict-item]
    assert len(previews._rows) == 2
    assert previews._labels == ["source a", "source b", "fused"]
