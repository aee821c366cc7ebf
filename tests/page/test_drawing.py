"""What the page shows: the field, the squares, the hint and the status line."""

import pytest
from playwright.sync_api import expect

from tests.harness.page import GamePage, OpenPage

WHITE = "#ffffff"


def middle(page: GamePage, selector: str) -> float:
    """Return how far down the page the middle of an element is."""
    box = page.page.locator(selector).bounding_box()
    assert box
    return box["y"] + box["height"] / 2


def has_white_sides(page: GamePage, x: float, y: float) -> list[bool]:
    """Return for each side of a square whether there is a white line at it."""
    sides = ((-1, 0), (1, 0), (0, -1), (0, 1))
    reach = [d / 2 for d in range(22, 44)]  # from the middle of the square
    return [
        WHITE in page.pixels(*((x + 15 + d * right, y + 15 + d * down) for d in reach))
        for right, down in sides
    ]


def selectable_text(page: GamePage) -> str:
    page.keyboard.press("ControlOrMeta+A")
    return str(page.evaluate("getSelection().toString().trim()"))


# --- The squares ---


def test_each_player_is_a_square_of_its_color_with_its_id(page: GamePage) -> None:
    other = page.server.join()
    page.wait(lambda: other.id in page.state())
    page.wait_for_frames()
    for player_id, (x, y, color) in page.state().items():
        corners = [(x + right, y + down) for right in (1.5, 28) for down in (1.5, 28)]
        assert set(page.pixels(*corners, (x + 15, y + 4))) == {color}
        row = page.pixels(*((x + 4 + step / 2, y + 15) for step in range(44)))
        assert len(set(row)) > 1  # something is written there
        outside = [(x - 1.5, y + 15), (x + 31.5, y + 15), (x + 15, y - 1.5), (x + 15, y + 31.5)]
        assert color not in page.pixels(*outside)
        assert has_white_sides(page, x, y) == [player_id == page.id] * 4
    x, y, color = page.state()[other.id]
    page.server.disconnect_all()
    page.wait(lambda: other.id not in page.state())
    page.wait_for_frames()
    assert page.pixels((x + 15, y + 4)) != [color]


@pytest.mark.only_browser("chromium")
def test_your_own_square_is_on_top_and_its_outline_is_whole_in_a_corner(page: GamePage) -> None:
    for x, y in ((0, 0), (770, 570)):
        page.show({page.id: [x, y, "#123456"], "99": [x, y, "#abcdef"]})
        page.wait_for_frames()
        assert page.pixels((x + 15, y + 6)) == ["#123456"]
        assert all(has_white_sides(page, x, y))


# --- The canvas ---


def test_the_canvas_fits_the_window_keeps_its_shape_and_is_sharp(open_page: OpenPage) -> None:
    density = 2.5
    page = open_page(device_scale_factor=density).playing()
    page.evaluate("window.frameGap = 0")
    measure = """() => {
        const canvas = document.querySelector("canvas");
        const { left, top, right, bottom } = canvas.getBoundingClientRect();
        return [left, top, right, bottom, canvas.width, canvas.height];
    }"""
    for width, height in ((390, 844), (844, 390), (320, 320)):
        page.page.set_viewport_size({"width": width, "height": height})
        page.wait(lambda: page.evaluate("innerWidth") == width)  # noqa: B023
        page.wait_for_frames()
        measures = page.evaluate(measure)
        page.wait_for_frames(10)
        assert page.evaluate(measure) == measures
        left, top, right, bottom, pixels_across, pixels_down = measures
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert (right - left) / (bottom - top) == pytest.approx(4 / 3, rel=0.01)
        assert right - left > 0.9 * min(width - 40, (height - 70) * 4 / 3)
        assert pixels_across == pytest.approx((right - left) * density, abs=0.99)
        assert pixels_down == pytest.approx((bottom - top) * density, abs=0.99)
        status = page.status.bounding_box()
        assert status
        assert bottom <= status["y"] <= height - status["height"]


@pytest.mark.only_browser("chromium")
def test_forced_colors_keep_the_outline_visible(open_page: OpenPage) -> None:
    page = open_page(forced_colors="active", color_scheme="light").playing()
    background = "getComputedStyle(document.querySelector('canvas')).backgroundColor"
    assert page.evaluate(background) == "rgb(16, 20, 28)"


# --- The hint and the status line ---


@pytest.mark.only_browser("chromium")
def test_a_hint_beside_your_square_explains_keys_and_pointer_until_you_move(
    page: GamePage,
) -> None:
    hint = page.page.locator("#hint")
    expect(hint).to_contain_text("Arrow keys or WASD, or press and hold")
    for y, is_below in ((0, True), (570, False)):
        page.show({page.id: [385, y, "#123456"]})
        assert (middle(page, "#hint") > middle(page, "canvas")) == is_below
    expect(hint).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(hint).to_be_hidden()


def test_bad_news_is_shown_on_the_field_instead_of_the_hint(page: GamePage) -> None:
    assert middle(page, "#status") > 480
    assert selectable_text(page) == ""
    page.evaluate("sockets[0].send('{}')")
    expect(page.status).to_contain_text("expected")
    assert middle(page, "#status") == pytest.approx(middle(page, "canvas"), abs=15)
    expect(page.page.locator("#hint")).to_be_hidden()
    assert "Disconnected: expected" in selectable_text(page)  # it can be copied


@pytest.mark.only_browser("chromium")
def test_screen_readers_announce_only_who_you_are_and_losses(page: GamePage) -> None:
    expect(page.page.get_by_role("status")).to_have_text(f"You are player {page.id}")
    expect(page.status).to_contain_text(f"You are player {page.id} · 1 online · ")
    page.evaluate("said.length = 0")
    page.server.join().move(1, 0)
    expect(page.status).to_contain_text(f"You are player {page.id} · 2 online · ")
    page.wait_for_states(10)
    page.server.disconnect_all()
    expect(page.status).to_contain_text("1 online")
    assert page.evaluate("said") == []
    page.evaluate("sockets[0].close()")
    page.wait(lambda: page.evaluate("said.length") >= 2)
    page.playing()
    said = [text for _, text in page.evaluate("said")]
    assert said == ["Disconnected: the connection was lost.", f"You are player {page.id}"]
