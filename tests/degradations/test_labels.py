"""Labels of degradations, and the text that is made of them."""

import math

import pytest

from fusion_lightning.degradations import EFFECTS, parse
from fusion_lightning.degradations.labels import KINDS, planned, seen_kinds, severity, specify


def test_every_effect_has_a_label_or_is_known_to_have_none() -> None:
    """`misalign` shows in a pair only, `identity` not at all."""
    assert set(EFFECTS) - set(KINDS) <= {"identity", "misalign"}
    for name, kind in KINDS.items():
        for step in range(1, 6):
            (effect,) = planned(f"{name}@{step}")
            assert kind.parameter in effect["params"]


@pytest.mark.parametrize("name", KINDS)
def test_severities_are_seen_and_written_so_that_they_can_be_read(name: str) -> None:
    for step in range(1, 6):
        seen = seen_kinds(planned(f"{name}@{step}"))
        assert set(seen) == {name}
        assert severity(name, seen[name]) == step
        (again,) = planned(specify(seen, angle=30))
        assert seen_kinds([again])[name] == pytest.approx(seen[name], rel=0.02)


def test_text_is_in_the_order_in_which_a_camera_suffers() -> None:
    kinds = {"noise": 12.0, "haze": 0.085, "blur": 1.9, "jpeg": 20.0}
    assert specify(kinds) == "haze@3+blur(sigma=1.9)+noise(sigma=12)+jpeg(quality=20)"
    assert specify({}) == "identity"
    assert specify({"motion_blur": 9.0}, angle=45.2, padding="zero") == (
        "motion_blur(length=9, angle=45, padding=zero)"
    )
    assert specify({"blur": 0.5, "noise": 2.0}, smaller=4) == "blur(sigma=2)+downsample(4)+noise(sigma=2)"
    parse(specify({name: kind.strongest for name, kind in KINDS.items()}))


def test_what_cannot_be_seen_has_no_label() -> None:
    assert seen_kinds(planned("noise(sigma=0.5)+quantize+downsample(4)+blur(sigma=0.2)")) == {}
    assert seen_kinds(planned("downsample(4, up=true)")) == {"downsample": 4.0}


def test_noise_adds_up() -> None:
    assert seen_kinds(planned("noise(sigma=3)+noise(sigma=4)"))["noise"] == pytest.approx(5)
    assert math.isclose(seen_kinds(planned("salt_pepper(salt=0.02, pepper=0)"))["salt_pepper"], 0.01)
