"""`omniq demo`: it makes its own pictures, or takes yours, and says what came of them."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.programs import PATIENCE, Program, run

pytestmark = pytest.mark.once

DEMO = ["-m", "omniq.cli", "demo"]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    folder.mkdir()
    for number in range(8):
        Image.new("RGB", (400, 300), (number * 30, 90, 120)).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("not a picture, and not tried")
    (folder / "words.jpg").write_text("not a picture, and tried")
    return folder


def test_it_works_on_pictures_of_mine_and_leaves(tmp_path: Path, pictures: Path) -> None:
    options: list[str | Path] = ["--exit", "--port", "0", "--dir", "here", "--pictures", pictures]
    told = run([*DEMO, *options], cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert "8 pictures: 24 thumbnails" in told.stdout
    assert "words.jpg was not taken: this is not a JPEG" in told.stdout
    sheets = re.findall(r"contact sheet (here/album/\S+/sheet.webp)", told.stdout)
    assert len(sheets) == 2
    for sheet in sheets:
        with Image.open(tmp_path / sheet) as image:
            assert image.width > 400
    assert not (tmp_path / ".omniq").exists() and (tmp_path / "here" / "omniq.db").exists()
    assert told.stderr == ""


def test_it_makes_its_own_pictures_and_goes_on_serving(tmp_path: Path) -> None:
    with Program([*DEMO, "--port", "0"], cwd=tmp_path) as demo:
        page = demo.says(r"The album +(http://\S+/)\n")[1]
        link = demo.says(r"Its dashboard +(http://\S+token=\S+)\n")[1]
        for number in (1, 2, 3):  # each in its own time
            demo.says(f"batch {number}: 6 of 6 done, sheet done")
        demo.says("18 pictures: 54 thumbnails")
        demo.says("Still serving")
        assert httpx.get(page, timeout=PATIENCE).text.count("/sheet.webp") == 3
        with httpx.Client(follow_redirects=True, timeout=PATIENCE) as browser:
            assert "pictures.thumbnails" in browser.get(link.replace("/?", "/tasks?")).text
        demo.send(signal.SIGINT)
        assert demo.ends() == 0
    assert "Traceback" not in demo.output


def test_what_is_stopped_in_the_middle_goes_on_next_time(tmp_path: Path, pictures: Path) -> None:
    options: list[str | Path] = ["--port", "0", "--pictures", pictures]
    with Program([*DEMO, *options], cwd=tmp_path) as demo:
        demo.says("batch 1: 6 pictures accepted")
        demo.send(signal.SIGKILL)
        demo.ends()
    one = tmp_path / "one"
    one.mkdir()
    (pictures / "0.png").rename(one / "0.png")
    told = run([*DEMO, "--exit", "--port", "0", "--pictures", one], cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    made = list((tmp_path / ".omniq" / "album").glob("*/batch.json"))
    assert made and all((each.parent / "sheet.webp").exists() for each in made)


def test_a_folder_without_pictures_is_a_usage_error(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "notes.txt").touch()
    told = run([*DEMO, "--exit", "--port", "0", "--pictures", empty], cwd=tmp_path)
    assert told.returncode == 2
    assert f"Invalid value for '--pictures': no file in {empty} ends in .jpg, " in told.stderr
    assert list(tmp_path.iterdir()) == [empty]


def test_a_place_nothing_can_be_kept_in_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    told = run([*DEMO, "--exit", "--port", "0", "--dir", "taken/here"], cwd=tmp_path)
    assert told.returncode == 1
    taken = tmp_path / "taken"
    assert told.stderr == (
        f"Error: the demo cannot keep anything in taken/here: {taken} is not a directory; "
        "name a --dir\n"
    )


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    told = run([*DEMO, "--pictures", "nowhere"], cwd=tmp_path)
    assert told.returncode == 2 and "'nowhere' does not exist" in told.stderr
