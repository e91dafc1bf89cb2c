"""The page's files: what is served under which name, how it is cached, and that a wheel has them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from spoolway.worker.serve.page_files import FOLDER, PageFiles
from tests.serving_api import ALL, serving, settings_for
from tests.stores import Database

pytest_plugins = ["tests.store_fixtures"]

ROOT = Path(__file__).parent.parent


async def test_the_page_is_served_without_a_token(sqlite_logs: Database, tmp_path: Path) -> None:
    """With its type, to be asked for again each time; nothing else of the folder, nor outside."""
    async with serving(settings_for(sqlite_logs, tmp_path, api_token=ALL)) as client:
        for path in PageFiles().paths:
            answer = await client.get(path)
            assert answer.status_code == 200, path
            assert answer.headers["cache-control"] == "no-cache"
            again = await client.get(path, headers={"if-none-match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b"")
            types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
            expected = types.get(Path(path).suffix)
            assert expected is None or answer.headers["content-type"].startswith(expected)
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        for path in (
            *("/assets/index.html", "/assets/", "/assets", "/index.html", "/assets/nothing.js"),
            *("/assets/../tokens.py", "/assets/%2e%2e/tokens.py", "/assets/..%2ftokens.py"),
            *("/assets//etc/passwd", "/assets/%00", "/assets/vendor"),
        ):
            assert (await client.get(path)).status_code in (401, 404), path


def test_only_files_of_a_page_are_served(tmp_path: Path) -> None:
    """Sources of other kinds, links out of the folder and hidden files stay where they are."""
    (tmp_path / "index.html").write_text("<p>")
    (tmp_path / "a.js").write_text("1")
    (tmp_path / "build.py").write_text("1")
    (tmp_path / "notes.md").write_text("1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.css").write_text("1")
    assert PageFiles(tmp_path).paths == ["/assets/a.js", "/", "/assets/sub/b.css"]
    assert PageFiles(tmp_path / "nothing").paths == []


@pytest.mark.chaos  # it builds a wheel
def test_a_wheel_has_the_page(tmp_path: Path) -> None:
    """Every file of it: an installed Spoolway serves what the repository does."""
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(tmp_path), str(ROOT)),
        ],
        check=True,
        timeout=110,
    )
    [wheel] = tmp_path.glob("spoolway-*.whl")
    inside = "spoolway/worker/serve/page/"
    with zipfile.ZipFile(wheel) as files:
        packed = {name.removeprefix(inside) for name in files.namelist() if inside in name}
    there = {str(file.relative_to(FOLDER)) for file in FOLDER.rglob("*") if file.is_file()}
    assert packed == there
    assert "index.html" in packed
