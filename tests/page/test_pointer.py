"""The mouse and fingers lead your square."""

from typing import Any

import pytest
from playwright.sync_api import expect

from tests.harness.page import TICK, GamePage, OpenPage

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 3,
    "has_touch": True,
    "is_mobile": True,
}
SIDEWAYS = PHONE | {"viewport": {"width": 844, "height": 390}}
MIDDLE = (400, 300)  # of the square when the game starts
HEADINGS = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]


def point(page: GamePage, x: float, y: float) -> None:
    """Move the mouse to a place of the world."""
    page.page.mouse.move(*page.on_page(x, y))


def wait_for_rest(page: GamePage) -> None:
    """Wait until the last heading that was sent is to stop."""
    page.wait(lambda: page.sent[-1:] == [(0, 0)])


def near(page: GamePage, x: float, y: float, distance: float = 20) -> bool:
    """Return whether the middle of the page's own square is near a place, on each axis."""
    left, top = page.position()
    return abs(left + 15 - x) <= distance and abs(top + 15 - y) <= distance


# --- The mouse ---


def test_a_pointer_leads_in_eight_directions(page_in_game: GamePage) -> None:
    page = page_in_game
    page.show_all_frames()
    for dx, dy in HEADINGS:
        point(page, *MIDDLE)
        page.page.mouse.down()
        page.wait(lambda: near(page, *MIDDLE) and page.sent[-1:] in ([], [(0, 0)]))
        page.page.mouse.up()
        page.wait_for_states(1)
        page.forget_sent()
        x, y = page.position()
        point(page, x + 15 + 90 * dx, y + 15 + 90 * dy)
        page.page.mouse.down()
        page.wait(lambda: page.sent)
        page.page.mouse.up()
        wait_for_rest(page)
        assert page.sent[0] == (dx, dy)


def test_it_stops_at_the_pointer(page_in_game: GamePage) -> None:
    page = page_in_game
    page.show_all_frames()
    point(page, 407, 363)
    page.page.mouse.down()
    page.wait(lambda: near(page, 407, 363, 12))
    wait_for_rest(page)
    page.wait_for_frames(20)
    sent = page.sent
    page.wait_for_states(2)  # it rests, so there is one per second
    assert page.sent == sent  # it doesn't waver
    assert near(page, 407, 363, 12)  # 10 pixels, and rounding


@pytest.mark.only_browser("chromium")
def test_each_axis_is_steered_by_itself(page_in_game: GamePage) -> None:
    page = page_in_game
    page.show_all_frames()
    point(page, 730, 440)
    page.page.mouse.down()
    page.wait(lambda: near(page, 730, 440))
    wait_for_rest(page)
    # Diagonally first, then along the axis with the longer way.
    assert page.sent[0] == (1, 1)
    assert (1, 0) in page.sent
    assert len(page.sent) < 30  # wavering would take one for each of 50 ticks


@pytest.mark.only_browser("chromium")
def test_a_trembling_pointer_sends_one_move_per_tick_at_most(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("addEventListener('pointerdown', (event) => (window.down = event.pointerId))")
    point(page, *MIDDLE)
    page.page.mouse.down()
    # As on a display with 500 frames per second, with the square between two places.
    duration = page.evaluate(
        """async () => {
            const { left, right } = document.querySelector("canvas").getBoundingClientRect();
            const start = performance.now();
            for (let time = 0; time < 1000; time += 2) {
                const clientX = time % 4 ? left : right;
                const place = { clientX, clientY: 300, buttons: 1, pointerId: down };
                dispatchEvent(new PointerEvent("pointermove", place));
                const until = performance.now() + 2;
                if (time % 50 === 0) await new Promise(requestAnimationFrame);
                while (performance.now() < until);
            }
            return performance.now() - start;
        }"""
    )
    page.page.mouse.up()
    wait_for_rest(page)
    assert 10 < len(page.sent) <= duration / TICK + 3


@pytest.mark.only_browser("chromium")
def test_a_pointer_that_moves_on_leads_at_once(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("addEventListener('pointerdown', (event) => (window.down = event.pointerId))")
    point(page, *MIDDLE)
    page.page.mouse.down()
    page.wait_for_frames()
    page.expect_sent()  # it is there already
    sent = page.evaluate(
        """([clientX, clientY]) => {
            const place = { clientX, clientY, buttons: 1, pointerId: down };
            dispatchEvent(new PointerEvent("pointermove", place));
            return sentMoves.length;
        }""",
        page.on_page(60, 60),
    )
    assert sent == 1


def test_only_the_left_button_leads(page_in_game: GamePage) -> None:
    page = page_in_game
    point(page, 100, 300)
    page.page.mouse.down(button="right")
    page.page.mouse.up(button="right")
    page.expect_sent()
    page.page.mouse.down()
    page.page.mouse.down(button="right")
    page.page.mouse.up()  # while the right button is still down
    point(page, 110, 300)
    page.expect_sent((-1, 0), (0, 0))
    point(page, 700, 300)
    page.expect_sent()
    page.page.mouse.up(button="right")


def test_the_mouse_leads_on_outside_the_field(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate(
        """() => addEventListener("gotpointercapture", ({ target }) => {
            window.captor = target.localName;
        })"""
    )
    point(page, 100, 300)
    page.page.mouse.down()
    page.page.mouse.move(1, 1)
    assert page.evaluate("captor") == "canvas"  # so it leads from outside the window, too
    page.wait(lambda: page.position() == pytest.approx((0, 0), abs=20))
    page.page.mouse.up()
    wait_for_rest(page)


def test_a_press_on_a_text_field_does_not_lead(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("document.body.append(document.createElement('input'))")
    page.page.locator("input").click()
    page.expect_sent()
    assert page.evaluate("document.activeElement.localName") == "input"


@pytest.mark.only_browser("chromium")
def test_keys_win_over_the_mouse(page_in_game: GamePage) -> None:
    page = page_in_game
    point(page, 780, 300)
    page.page.mouse.down()
    page.wait(lambda: page.sent == [(1, 0)])
    page.keyboard.down("ArrowLeft")
    page.wait(lambda: page.sent == [(1, 0), (-1, 0)])
    page.keyboard.up("ArrowLeft")
    page.wait(lambda: page.sent[2:] == [(1, 0)])
    page.page.mouse.up()
    wait_for_rest(page)


@pytest.mark.only_browser("chromium")
def test_lost_focus_releases_the_mouse(page_in_game: GamePage) -> None:
    page = page_in_game
    point(page, 780, 300)
    page.page.mouse.down()
    page.wait(lambda: page.sent == [(1, 0)])
    page.evaluate("dispatchEvent(new Event('blur'))")
    page.expect_sent((1, 0), (0, 0))


@pytest.mark.only_browser("chromium")
def test_a_held_pointer_leads_the_next_player_too(page_in_game: GamePage) -> None:
    page = page_in_game
    point(page, 200, 300)
    page.page.mouse.down()
    page.wait(lambda: near(page, 200, 300))
    player_id = page.id
    page.evaluate("sockets[0].close()")
    page.wait(lambda: page.id != player_id and page.id in page.state())
    page.wait(lambda: near(page, 200, 300))
    page.page.mouse.up()
    wait_for_rest(page)


# --- Fingers ---


class Fingers:
    """Fingers on the page, which touch places of the world."""

    def __init__(self, page: GamePage) -> None:
        self.page = page
        self.session = page.page.context.new_cdp_session(page.page)

    def touch(self, event: str, **places: tuple[float, float]) -> None:
        """Send an event with the places of fingers, by name. Without any, it ends all touches."""
        points = []
        for name, place in places.items():
            x, y = self.page.on_page(*place)
            points.append({"x": x, "y": y, "id": ord(name[0])})
        self.session.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": points})


@pytest.fixture
def phone(open_page: OpenPage) -> GamePage:
    return open_page(**PHONE).playing()


@pytest.mark.only_browser("chromium")
@pytest.mark.parametrize("screen", [PHONE, SIDEWAYS], ids=["upright", "sideways"])
def test_a_finger_leads_from_anywhere_until_it_is_lifted(
    open_page: OpenPage, screen: dict[str, Any]
) -> None:
    page = open_page(**screen).playing()
    fingers = Fingers(page)
    # Beside the field, on the page.
    place, wall = ((550, -300), (550, 15)) if screen is PHONE else ((-100, 450), (15, 450))
    fingers.touch("touchStart", a=place)
    page.wait(lambda: near(page, *wall))
    fingers.touch("touchMove", a=MIDDLE)
    page.wait(lambda: near(page, *MIDDLE))
    fingers.touch("touchEnd")
    wait_for_rest(page)
    expect(page.status).to_contain_text("You are player")
    assert page.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]


@pytest.mark.only_browser("chromium")
def test_a_finger_that_slips_off_the_field_leads_on(phone: GamePage) -> None:
    fingers = Fingers(phone)
    fingers.touch("touchStart", a=(400, 200))
    phone.wait(lambda: phone.sent == [(0, -1)])
    for y in (500, 640, 700):
        fingers.touch("touchMove", a=(400, y))
    phone.wait(lambda: phone.position()[1] >= 550)
    fingers.touch("touchMove", a=MIDDLE)
    phone.wait(lambda: near(phone, *MIDDLE))
    fingers.touch("touchEnd")
    wait_for_rest(phone)


@pytest.mark.only_browser("chromium")
def test_a_second_finger_leads_once_the_first_is_lifted(phone: GamePage) -> None:
    fingers = Fingers(phone)
    left, right = (20, 300), (780, 300)
    fingers.touch("touchStart", a=left)
    fingers.touch("touchStart", a=left, b=right)
    phone.wait_for_frames()
    assert phone.sent[0] == (-1, 0)
    assert (1, 0) not in phone.sent
    fingers.touch("touchEnd", a=left)
    phone.wait(lambda: phone.sent[-1] == (1, 0))
    fingers.touch("touchEnd")
    phone.wait(lambda: phone.sent[-1] == (0, 0))


@pytest.mark.only_browser("chromium")
def test_a_canceled_touch_stops(phone: GamePage) -> None:
    fingers = Fingers(phone)
    fingers.touch("touchStart", a=(20, 300))
    phone.expect_sent((-1, 0))
    fingers.touch("touchCancel")
    phone.expect_sent((0, 0))
