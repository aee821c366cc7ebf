"""Keys steer your square."""

import pytest

from tests.harness.page import GamePage


def press(page: GamePage, event: str, code: str, key: str = "") -> None:
    """Press or release a key that Playwright's keyboard doesn't have."""
    page.evaluate(
        "([event, code, key]) => dispatchEvent(new KeyboardEvent(event, { code, key }))",
        [event, code, key],
    )


def test_arrows_and_wasd_steer(page: GamePage) -> None:
    for keys, heading in (
        (("ArrowLeft",), (-1, 0)),
        (("ArrowRight",), (1, 0)),
        (("ArrowUp",), (0, -1)),
        (("ArrowDown",), (0, 1)),
        (("KeyW",), (0, -1)),
        (("KeyA",), (-1, 0)),
        (("KeyS",), (0, 1)),
        (("KeyD",), (1, 0)),
        (("ArrowUp", "ArrowRight"), (1, -1)),
        (("KeyS", "ArrowLeft"), (-1, 1)),
    ):
        for key in keys:
            page.keyboard.down(key)
        assert page.sent[-1] == heading
        for key in keys:
            page.keyboard.up(key)
        assert page.sent[-1] == (0, 0)


def test_a_tap_moves_by_one_step(page: GamePage) -> None:
    page.evaluate(
        """() => {
            for (const event of ["keydown", "keyup"]) {
                dispatchEvent(new KeyboardEvent(event, { code: "ArrowRight" }));
            }
        }"""
    )
    page.expect_sent((1, 0), (0, 0))
    page.wait(lambda: page.position() != (385, 285))
    # A tick may come between the two messages, so it may be two steps.
    assert page.position() in ((395, 285), (405, 285))


@pytest.mark.only_browser("chromium")
def test_repetitions_of_a_key_do_nothing(page: GamePage) -> None:
    for _ in range(5):
        page.keyboard.down("ArrowRight")  # after the first time, a repetition
    page.wait(lambda: page.position()[0] >= 385 + 50)
    page.evaluate("dispatchEvent(new Event('blur'))")
    page.keyboard.down("ArrowRight")
    page.expect_sent((1, 0), (0, 0))


@pytest.mark.only_browser("chromium")
def test_opposite_keys_cancel_each_other(page: GamePage) -> None:
    for key in ("ArrowLeft", "ArrowRight", "KeyA"):
        page.keyboard.down(key)
    page.expect_sent((-1, 0), (0, 0))
    page.keyboard.up("ArrowRight")
    page.expect_sent((-1, 0))
    page.keyboard.up("ArrowLeft")  # A is still down
    page.expect_sent()


@pytest.mark.only_browser("chromium")
def test_only_keys_that_steer_are_kept_from_the_browser(page: GamePage) -> None:
    page.evaluate("addEventListener('keydown', (event) => (window.last = event))")
    for key, is_used in (("ArrowDown", True), ("KeyS", True), ("KeyX", False), ("Tab", False)):
        page.keyboard.press(key)
        assert page.evaluate("last.defaultPrevented") is is_used
    page.forget_sent()
    for modifier in ("Control", "Alt", "Meta"):
        page.keyboard.down(modifier)
        page.keyboard.press("KeyS")  # a shortcut
        assert page.evaluate("last.defaultPrevented") is False
        page.keyboard.up(modifier)
    page.expect_sent()


def test_a_text_field_keeps_its_keys(page: GamePage) -> None:
    for tag in ("input", "textarea"):
        page.evaluate("(tag) => document.body.append(document.createElement(tag))", tag)
        text_field = page.page.locator(tag)
        text_field.focus()
        text_field.press_sequentially("wasd")
        text_field.press("ArrowLeft")
        assert text_field.input_value() == "wasd"
    page.expect_sent()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("KeyA")
    page.expect_sent((-1, 0), (0, 0))


@pytest.mark.only_browser("chromium")
def test_other_keyboards_steer_but_other_keys_do_not(page: GamePage) -> None:
    for code, key, heading in (
        ("Numpad4", "ArrowLeft", (-1, 0)),  # a numeric pad without NumLock
        ("", "ArrowDown", (0, 1)),  # a keyboard on the screen
        ("", "ArrowRight", (1, 0)),
    ):
        press(page, "keydown", code, key)
        assert page.sent[-1] == heading
        press(page, "keyup", code, key)
        assert page.sent[-1] == (0, 0)
    page.forget_sent()
    for code, key in (("Numpad4", "4"), ("KeyZ", "w"), ("", "Unidentified"), ("", "Shift")):
        press(page, "keydown", code, key)
    page.expect_sent()


# --- Keys whose release the page can't see ---


@pytest.mark.only_browser("chromium")
def test_what_may_hide_a_release_releases_everything(page: GamePage) -> None:
    for event in (
        "dispatchEvent(new KeyboardEvent('keydown', { key: 'Meta' }))",
        "dispatchEvent(new KeyboardEvent('keydown', { key: 'Alt' }))",
        "dispatchEvent(new Event('blur'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
        "document.body.dispatchEvent(new MouseEvent('contextmenu', { bubbles: true }))",
    ):
        page.keyboard.down("ArrowLeft")
        page.keyboard.down("ArrowUp")
        page.evaluate(event)
        page.expect_sent((-1, 0), (-1, -1), (0, 0))
        page.keyboard.up("ArrowLeft")
        page.keyboard.up("ArrowUp")
        page.expect_sent()


@pytest.mark.only_browser("chromium")
def test_there_is_no_menu_on_the_field_and_while_the_mouse_leads(page: GamePage) -> None:
    opens_menu = """(selector) => document
        .querySelector(selector)
        .dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }))"""
    page.keyboard.down("ArrowLeft")
    assert page.evaluate(opens_menu, "canvas") is False
    page.expect_sent((-1, 0))
    assert page.evaluate(opens_menu, "body") is True
    page.expect_sent((0, 0))
    page.page.mouse.move(320, 250)
    page.page.mouse.down()
    assert page.evaluate(opens_menu, "body") is False  # as after a long press
