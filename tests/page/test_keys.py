"""Keys steer your square."""

import pytest

from tests.harness.page import GamePage


def press(page: GamePage, event: str, code: str, key: str = "") -> None:
    """Press or release a key that Playwright's keyboard doesn't have."""
    page.evaluate(
        "([event, code, key]) => dispatchEvent(new KeyboardEvent(event, { code, key }))",
        [event, code, key],
    )


def test_arrows_and_wasd_steer(page_in_game: GamePage) -> None:
    page = page_in_game
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


@pytest.mark.only_browser("chromium")
def test_a_held_key_is_sent_once(page_in_game: GamePage) -> None:
    page = page_in_game
    for _ in range(5):
        page.keyboard.down("ArrowRight")  # after the first time, a repetition
    page.wait(lambda: page.position()[0] >= 385 + 50)
    page.expect_sent((1, 0))


@pytest.mark.only_browser("chromium")
def test_a_repeated_key_does_not_start_to_walk(page_in_game: GamePage) -> None:
    page = page_in_game
    page.keyboard.down("ArrowRight")
    page.evaluate("dispatchEvent(new Event('blur'))")
    page.keyboard.down("ArrowRight")
    page.expect_sent((1, 0), (0, 0))


def test_a_tap_moves_by_one_step(page_in_game: GamePage) -> None:
    page = page_in_game
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
def test_opposite_keys_cancel_each_other(page_in_game: GamePage) -> None:
    page = page_in_game
    for key in ("ArrowLeft", "ArrowRight", "KeyA"):
        page.keyboard.down(key)
    page.expect_sent((-1, 0), (0, 0))
    page.keyboard.up("ArrowRight")
    page.expect_sent((-1, 0))
    page.keyboard.up("ArrowLeft")  # A is still down
    page.expect_sent()


def test_keys_that_steer_do_nothing_else(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("addEventListener('keydown', (event) => (window.last = event))")
    for key, is_used in (("ArrowDown", True), ("KeyS", True), ("KeyX", False), ("Tab", False)):
        page.keyboard.press(key)
        assert page.evaluate("last.defaultPrevented") is is_used


@pytest.mark.only_browser("chromium")
def test_shortcuts_are_left_to_the_browser(page_in_game: GamePage) -> None:
    page = page_in_game
    page.evaluate("addEventListener('keydown', (event) => (window.last = event))")
    for modifier in ("Control", "Alt", "Meta"):
        page.keyboard.down(modifier)
        page.keyboard.press("KeyS")
        assert page.evaluate("last.defaultPrevented") is False
        page.keyboard.up(modifier)
    page.keyboard.press("KeyS")
    page.expect_sent((0, 1), (0, 0))


def test_a_text_field_keeps_its_keys(page_in_game: GamePage) -> None:
    page = page_in_game
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
def test_keys_of_other_keyboards_steer(page_in_game: GamePage) -> None:
    page = page_in_game
    for code, key, heading in (
        ("Numpad4", "ArrowLeft", (-1, 0)),  # a numeric pad without NumLock
        ("Numpad8", "ArrowUp", (0, -1)),
        ("", "ArrowDown", (0, 1)),  # a keyboard on the screen
        ("", "ArrowRight", (1, 0)),
    ):
        press(page, "keydown", code, key)
        assert page.sent[-1] == heading
        press(page, "keyup", code, key)
        assert page.sent[-1] == (0, 0)


@pytest.mark.only_browser("chromium")
def test_other_keys_do_not_steer(page_in_game: GamePage) -> None:
    page = page_in_game
    for code, key in (("Numpad4", "4"), ("KeyZ", "w"), ("", "Unidentified"), ("", "Shift")):
        press(page, "keydown", code, key)
    press(page, "keydown", "KeyS", "s")
    page.expect_sent((0, 1))


# --- Keys whose release the page can't see ---


def test_meta_and_alt_release_everything(page_in_game: GamePage) -> None:
    page = page_in_game
    for modifier in ("Meta", "Alt"):
        page.keyboard.down("ArrowLeft")
        press(page, "keydown", f"{modifier}Left", modifier)
        page.expect_sent((-1, 0), (0, 0))
        page.keyboard.up("ArrowLeft")


def test_lost_focus_releases_everything(page_in_game: GamePage) -> None:
    page = page_in_game
    page.keyboard.down("ArrowLeft")
    page.keyboard.down("ArrowUp")
    page.evaluate("dispatchEvent(new Event('blur'))")
    page.expect_sent((-1, 0), (-1, -1), (0, 0))
    page.keyboard.up("ArrowLeft")
    page.expect_sent()


@pytest.mark.only_browser("chromium")
def test_a_hidden_page_releases_everything(page_in_game: GamePage) -> None:
    page = page_in_game
    page.keyboard.down("ArrowLeft")
    page.evaluate(
        """() => {
            Object.defineProperty(document, "hidden", { value: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }"""
    )
    page.expect_sent((-1, 0), (0, 0))


def test_an_open_menu_releases_everything(page_in_game: GamePage) -> None:
    page = page_in_game
    opens_menu = """(selector) => document
        .querySelector(selector)
        .dispatchEvent(new MouseEvent("contextmenu", { bubbles: true, cancelable: true }))"""
    page.keyboard.down("ArrowLeft")
    assert page.evaluate(opens_menu, "canvas") is False  # the field has no menu
    page.expect_sent((-1, 0))
    assert page.evaluate(opens_menu, "body") is True
    page.expect_sent((0, 0))
