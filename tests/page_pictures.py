"""Takes the pictures in docs/dashboard.md, of the page with a day of requests.

python -m tests.page_pictures
"""

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from spoolway.spool import SpoolFolder
from tests.browsing import Visitor, chromium
from tests.page_traffic import answered, put, traffic
from tests.servers import ValkeyServer, redis_binaries
from tests.serving_api import serving_in_thread, settings_for
from tests.stores import Templates
from tests.workers import WorkerProcess, ending

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
REQUESTS: Final = 4_000
MOST_BYTES: Final = 200_000
DESKTOP: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 390, "height": 844}


def main() -> None:
    """Make a database, serve it, and take the pictures."""
    with tempfile.TemporaryDirectory(prefix="spoolway-pictures-") as name:
        folder = Path(name)
        (folder / "templates").mkdir()
        valkey = ValkeyServer(redis_binaries()["valkey"], folder / "valkey")
        valkey.start()
        try:
            _take_all(folder, valkey)
        finally:
            valkey.stop()


def _take_all(folder: Path, valkey: ValkeyServer) -> None:
    now = datetime.now(UTC)
    state = folder / "var"
    with Templates(folder / "templates").sqlite(folder) as database:
        put(database, *traffic(now, REQUESTS), answered(now))
        SpoolFolder(state / "spool")
        worker = WorkerProcess(f"sqlite:///{database.path}", valkey.url, state).started()
        settings = settings_for(database, state, redis_url=valkey.url)
        with ending(worker), serving_in_thread(settings) as url, chromium() as browser:

            def take(file: str, where: str, then: str = "", **options: Any) -> None:
                visitor = Visitor(browser, url, **{"viewport": DESKTOP, **options})
                page = visitor.open(where)
                if then:
                    page.locator(then).first.click()
                    page.wait_for_selector(".facts")
                page.wait_for_function("() => !document.querySelector('.loading')")
                page.screenshot(path=IMAGES / file)
                assert visitor.faults == []
                visitor.close()

            IMAGES.mkdir(exist_ok=True)
            take("overview-light.png", "/", color_scheme="light")
            take("overview-dark.png", "/", color_scheme="dark")
            take("request.png", "/", ".failures a", color_scheme="light")
            of_bao = "/#/logs?project=late-orders"
            tall = {**DESKTOP, "height": 1_120}
            take("conversation.png", of_bao, "tbody a", viewport=tall, color_scheme="dark")
            phone: dict[str, Any] = {"viewport": PHONE, "device_scale_factor": 2, "is_mobile": True}
            take("phone.png", "/", **phone, color_scheme="light")
    for image in IMAGES.glob("*.png"):
        assert image.stat().st_size <= MOST_BYTES, image


if __name__ == "__main__":
    main()
