"""Degradations written as text."""

import pytest

from fusion_lightning.degradations import (
    EFFECTS,
    SCENARIOS,
    Blur,
    Chain,
    Downsample,
    Haze,
    Identity,
    Noise,
    OneOf,
    Quantize,
    Stripes,
    parse,
    scenario,
)
from fusion_lightning.errors import UserError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("identity", Identity()),
        ("noise", Noise()),
        ("noise()", Noise()),
        ("noise(sigma=14)", Noise(14)),
        ("noise(14.5)", Noise(14.5)),
        ("noise(sigma=5..20)", Noise((5, 20))),
        ("noise( 5.5 .. 2e1 )", Noise((5.5, 20.0))),
        ("haze@3", Haze.at_severity(3)),
        ("downsample(2, method=cubic, up=true)", Downsample(2, "cubic", True)),
        ("quantize(rounding=down)", Quantize(rounding="down")),
        (" blur(sigma=2) + noise(sigma=14)+downsample(4) ", Chain((Blur(2), Noise(14), Downsample(4)))),
        ("noise|stripes", OneOf((Noise(), Stripes()))),
        ("3*noise|0.5*stripes", OneOf((Noise(), Stripes()), (3.0, 0.5))),
        ("blur+noise|stripes", OneOf((Chain((Blur(), Noise())), Stripes()))),
        ("blur+(noise|stripes)", Chain((Blur(), OneOf((Noise(), Stripes()))))),
        ("((noise))", Noise()),
    ],
)
def test_a_specification_means_what_it_says(text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("blr", "`blr` is no effect; did you mean `blur`"),
        ("xyz", "`xyz` is no effect; `list degradations` shows all"),
        ("blur(sgma=2)", "`blur` has no argument `sgma`; did you mean `sigma`"),
        ("blur(sigma=2", "`\\)` must stand after the arguments of `blur`, but the text ends"),
        ("blur(sigma=2..)", "`sigma` of `blur` must be a range"),
        ("blur(sigma=)", "`sigma` of `blur` must be a number"),
        ("blur(sigma=1, sigma=2)", "given twice"),
        ("blur(2, 3)", "only the first argument"),
        ("blur@7", "from 1 to 5, but got `7`"),
        ("blur@", "from 1 to 5"),
        ("blur(sigma=-1)", "`sigma` of `blur` must be from 0 to 100, but got -1"),
        ("blur(sigma=3..1)", "from low to high, but got 3..1"),
        ("blur(padding=mirror)", "one of reflect, zero, circular, but got `mirror`"),
        ("blur+", "an effect must be named where the text ends"),
        ("blur||noise", "an effect must be named where `|` stands".replace("|", "\\|")),
        ("blur noise", "`noise` was not expected after `blur`"),
        ("blur)", "`\\)` was not expected"),
        ("(blur", "`\\)` must stand at the end of the group"),
        ("2*", "the text ends"),
        ("2 blur", "`\\*` must stand between a weight"),
        ("0*blur|0*noise", "not all 0"),
        ("downsample(2.5)", "must be a whole number, but got 2.5"),
        ("downsample(up=3)", "must be true or false"),
        ("noise(sigma=loud)", "must be a number or a range of two, but got `loud`"),
        ("identity(3)", "has no argument"),
    ],
)
def test_an_error_names_the_part_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        parse(text)
    assert f"`{text}`" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        "identity",
        "(blur|defocus)+(noise+stripes)+noise(sigma=5..20)",
        "2*(blur|noise)|0.123456789*haze|downsample(factor=2, method=cubic, up=true)",
        *(f"{name}@{level}" for name in EFFECTS for level in range(1, 6)),
        *(str(side) for one in SCENARIOS.values() for side in (one.a, one.b)),
    ],
)
def test_a_degradation_is_written_as_it_is_read(text: str) -> None:
    degradation = parse(text)
    assert parse(str(degradation)) == degradation
    assert "@" in text or str(degradation) == text


def test_scenarios_are_found_by_name_built_from_text_and_from_mappings() -> None:
    assert scenario("low_light") is SCENARIOS["low_light"]
    both = scenario("blur(sigma=2)+noise(sigma=14)")
    assert both.a == both.b == Chain((Blur(2), Noise(14)))
    assert scenario("defocus").a == scenario("defocus").b
    mapped = scenario({"name": "mine", "a": "stripes", "b": "haze@2"})
    assert (mapped.name, mapped.a, mapped.b) == ("mine", Stripes(), Haze.at_severity(2))
    assert scenario({"b": "noise"}).a == Identity()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("low_lihgt", "did you mean `low_light`"),
        ("xyz", "nor a degradation; `list scenarios` shows all"),
        ("noise(sigma=5", "cannot be read"),
        ({"c": "noise"}, "must have the keys `a` and `b`"),
        ({"name": "x"}, "must have the keys `a` and `b`"),
        ({"a": "nois"}, "did you mean `noise`"),
    ],
)
def test_scenarios_that_do_not_exist_are_refused(given: str | dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        scenario(given)
