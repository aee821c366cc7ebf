"""The colors are easy to tell apart, also for people with color blindness."""

from itertools import combinations, pairwise

import pytest
from coloraide import Color

from server import PALETTE, color

DARK = "#10141c"  # the field, and the ID on a square, as in client.html


def seen(text: str, sight: str) -> Color:
    """Return a color as it is seen with color blindness (by Viénot, 1999), or without."""
    if sight == "normal":
        return Color(text)
    return Color(text).filter(sight, method="vienot").convert("srgb").clip()


@pytest.mark.parametrize(
    ("sight", "players", "least"),
    [("normal", 12, 18), ("normal", 20, 12.5), ("deutan", 12, 9), ("protan", 12, 9)],
)
def test_the_colors_of_the_first_players_differ_clearly(
    sight: str, players: int, least: float
) -> None:
    colors = [(number, seen(color(number), sight)) for number in range(players)]
    differences = {
        (one, other): round(a.delta_e(b, method="2000"), 1)
        for (one, a), (other, b) in combinations(colors, 2)
    }
    assert {pair: it for pair, it in differences.items() if it < least} == {}


@pytest.mark.parametrize(("sight", "least"), [("normal", 4.5), ("deutan", 4.5), ("protan", 3)])
def test_squares_and_their_ids_have_enough_contrast(sight: str, least: float) -> None:
    contrasts = {
        number: round(seen(color(number), sight).contrast(DARK, method="wcag21"), 2)
        for number in range(600)
    }
    assert {number: it for number, it in contrasts.items() if it < least} == {}


def test_no_square_is_as_white_as_the_outline_of_your_own() -> None:
    assert min(Color(color(n)).delta_e("white", method="2000") for n in range(600)) > 15


def test_the_first_600_colors_all_differ() -> None:
    assert len({color(number) for number in range(600)}) == 600


def test_colors_after_the_palette_keep_their_hues_a_golden_angle_apart() -> None:
    hues = [Color(color(number)).convert("hsl")["hue"] for number in range(len(PALETTE), 100)]
    for one, other in pairwise(hues):
        assert (other - one) % 360 == pytest.approx(137.5, abs=2)
