"""Takes the pictures of docs/explorer.md from an explorer of two runs, in headless Chromium.

    star-r1 explore runs/base runs/trained --out runs/explorer
    python docs/make_explorer.py runs/explorer

Make them anew when the page changes.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

DOCS = Path(__file__).parent
IMPROVED = "&objects=4-6&answer1=wrong,partly&answer2=right&changed=color"
DESKTOP = {"viewport": {"width": 1440, "height": 900}}
PHONE = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "has_touch": True,
    "is_mobile": True,
}


def main(folder: Path) -> None:
    """Write docs/explorer.png, explorer-play.png and explorer-phone.png."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])

        def page(hash: str, **options: Any) -> Any:
            opened = browser.new_context(**options).new_page()
            opened.goto(f"file://{folder.resolve()}/index.html{hash}")
            opened.wait_for_load_state("load")
            opened.wait_for_timeout(500)
            return opened

        def save(opened: Any, name: str) -> None:
            opened.wait_for_timeout(300)
            opened.screenshot(path=DOCS / name)

        browse = page(f"#view=left{IMPROVED}", **DESKTOP)
        browse.hover(".objects .changed")
        save(browse, "explorer.png")

        play = page("#play=7", **DESKTOP, color_scheme="dark")
        play.click("#play .pin >> nth=2")
        play.click(".values button:not([disabled]) >> nth=1")
        save(play, "explorer-play.png")

        phone = page(f"#view=right{IMPROVED}", **PHONE)
        phone.locator("#detail").scroll_into_view_if_needed()
        phone.evaluate("document.querySelector('#detail').scrollIntoView()")
        phone.locator(".objects .changed").first.tap()
        save(phone, "explorer-phone.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
