"""The mouse and fingers lead your square."""

import pytest
from playwright.sync_api import CDPSession, expect

from tests.harness.page import TICK, GamePage, OpenPage

MIDDLE = (400, 300)  # of the square when the game starts


def point(page: GamePage, x: float, y: float) -> None:
    """Move the mouse to a place of the world."""
    page.page.mouse.move(*page.on_page(x, y))


def wait_for_heading(page: GamePage, dx: int, dy: int) -> None:
    """Wait until this is the last heading that was sent."""
    page.wait(lambda: page.sent[-1:] == [(dx, dy)])


def near(page: GamePage, x: float, y: float, distance: float = 20) -> bool:
    """Return whether the middle of the page's own square is near a place, on each axis."""
    left, top = page.position()
    return abs(left + 15 - x) <= distance and abs(top + 15 - y) <= distance


# --- The mouse ---


def test_a_pointer_leads_on_each_axis_that_is_a_step_away(page: GamePage) -> None:
    x, y = MIDDLE
    for right, down, heading in (
        (90, 3, (1, 0)),
        (-3, -90, (0, -1)),
        (-90, 90, (-1, 1)),
        (7, 13, (0, 1)),
        (-13, -7, (-1, 0)),
    ):
        page.show({page.id: [385, 285, "#123456"]})
        page.forget_sent()
        point(page, x + right, y + down)
        page.page.mouse.down()
        page.wait(lambda: page.sent)
        assert page.sent[0] == heading
        page.page.mouse.up()
        wait_for_heading(page, 0, 0)
        page.wait_for_frames()  # until no more movement is predicted


@pytest.mark.only_browser("chromium")
def test_it_stops_at_the_pointer(page: GamePage) -> None:
    page.show_all_frames()
    place = (607, 403)
    point(page, *place)
    page.page.mouse.down()

    def has_stopped() -> bool:
        sent = page.sent
        page.wait_for_frames(20)
        return page.sent == sent and near(page, *place, 12)  # 10 pixels, and rounding

    page.wait(has_stopped)
    # Diagonally first, then along the axis with the longer way.
    assert page.sent[0] == (1, 1)
    assert (1, 0) in page.sent
    assert page.sent[-1] == (0, 0)


@pytest.mark.only_browser("chromium")
def test_a_trembling_pointer_sends_one_move_per_tick_at_most(page: GamePage) -> None:
    page.evaluate("addEventListener('pointerdown', (event) => (window.down = event.pointerId))")
    point(page, *MIDDLE)
    page.page.mouse.down()
    page.wait_for_frames()
    page.expect_sent()  # it is there already
    # As on a display with 500 frames per second, with the square between two places.
    first, duration = page.evaluate(
        """() => {
            const { left, right } = document.querySelector("canvas").getBoundingClientRect();
            const start = performance.now();
            let first;
            for (let time = 0; time < 500; time += 2) {
                const clientX = time % 4 ? left : right;
                const place = { clientX, clientY: 300, buttons: 1, pointerId: down };
                dispatchEvent(new PointerEvent("pointermove", place));
                first ??= [...sentMoves];
                while (performance.now() < start + time);
            }
            return [first, performance.now() - start];
        }"""
    )
    page.page.mouse.up()
    wait_for_heading(page, 0, 0)
    assert len(first) == 1  # at once
    assert 5 < len(page.sent) <= duration / TICK + 3


def test_only_the_left_button_leads(page: GamePage) -> None:
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


def test_the_mouse_leads_on_outside_the_field(page: GamePage) -> None:
    page.evaluate(
        """() => addEventListener("gotpointercapture", ({ target }) => {
            window.captor = target.localName;
        })"""
    )
    point(page, 100, 300)
    page.page.mouse.down()
    page.page.mouse.move(1, 1)
    assert page.evaluate("captor") == "canvas"  # so it leads from outside the window, too
    wait_for_heading(page, -1, -1)
    page.page.mouse.up()
    wait_for_heading(page, 0, 0)


def test_a_press_on_a_text_field_does_not_lead(page: GamePage) -> None:
    page.evaluate("document.body.append(document.createElement('input'))")
    page.page.locator("input").click()
    page.expect_sent()
    assert page.evaluate("document.activeElement.localName") == "input"


@pytest.mark.only_browser("chromium")
def test_keys_win_over_the_mouse_and_lost_focus_releases_it(page: GamePage) -> None:
    point(page, 780, 300)
    page.page.mouse.down()
    wait_for_heading(page, 1, 0)
    page.keyboard.down("ArrowLeft")
    wait_for_heading(page, -1, 0)
    page.keyboard.up("ArrowLeft")
    wait_for_heading(page, 1, 0)
    page.evaluate("dispatchEvent(new Event('blur'))")
    assert page.sent == [(1, 0), (-1, 0), (1, 0), (0, 0)]  # before it reaches the pointer


@pytest.mark.only_browser("chromium")
def test_a_held_pointer_leads_the_next_player_too(page: GamePage) -> None:
    point(page, 20, 300)
    page.page.mouse.down()
    wait_for_heading(page, -1, 0)
    page.forget_sent()
    page.evaluate("sockets[0].close()")
    wait_for_heading(page, -1, 0)


# --- Fingers ---


def touch(session: CDPSession, event: str, *points: tuple[float, float]) -> None:
    """Let fingers touch points of the page. Without any, the event ends all touches."""
    touch_points = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": event, "touchPoints": touch_points})


@pytest.mark.only_browser("chromium")
def test_fingers_lead_from_anywhere_until_they_are_lifted(open_page: OpenPage) -> None:
    page = open_page(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True
    ).playing()
    session = page.page.context.new_cdp_session(page.page)
    touch(session, "touchStart", page.on_page(550, -300))  # above the field
    wait_for_heading(page, 1, -1)
    for y in (200, 500, 640, 700):  # down to below the field
        touch(session, "touchMove", page.on_page(20, y))
    wait_for_heading(page, -1, 1)
    touch(session, "touchMove", page.on_page(*MIDDLE))
    page.wait(lambda: near(page, *MIDDLE))
    touch(session, "touchEnd")
    wait_for_heading(page, 0, 0)
    expect(page.status).to_contain_text("You are player")
    assert page.evaluate("[scrollX, scrollY, visualViewport.scale]") == [0, 0, 1]

    page.forget_sent()
    left, right = page.on_page(20, 300), page.on_page(780, 300)
    touch(session, "touchStart", left)
    touch(session, "touchStart", left, right)
    page.wait_for_frames()
    assert {dx for dx, _ in page.sent} == {-1}
    touch(session, "touchEnd", left)  # so the other leads
    page.wait(lambda: page.sent[-1][0] == 1)
    touch(session, "touchCancel")
    wait_for_heading(page, 0, 0)
