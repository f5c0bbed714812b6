"""Vendored browser players equal the files in their HASH, and changes are detected."""

import shutil
from pathlib import Path

import pytest

from tools import vendor


@pytest.mark.parametrize("name", sorted(vendor.PACKAGES))
def test_vendored_files_match_their_hashes(name: str) -> None:
    folder = vendor.VENDOR / name
    assert vendor.differences(folder) == []
    assert (folder / "VERSION").read_text().strip()
    assert (folder / "LICENSE").stat().st_size > 500


def test_every_vendored_folder_is_a_known_package() -> None:
    assert {path.name for path in vendor.VENDOR.iterdir()} == set(vendor.PACKAGES)


def test_changed_missing_and_extra_files_are_reported(tmp_path: Path) -> None:
    folder = tmp_path / "hls.js"
    shutil.copytree(vendor.VENDOR / "hls.js", folder)
    with (folder / "hls.min.js").open("a") as file:
        file.write(" ")
    (folder / "hls.worker.js").unlink()
    (folder / "extra.js").write_text("")
    assert vendor.differences(folder) == [
        "hls.js/extra.js: not in HASH",
        "hls.js/hls.min.js: differs from HASH",
        "hls.js/hls.worker.js: missing",
    ]


def test_an_unknown_package_is_refused_with_a_one_line_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert vendor.main(["--pin", "left-pad", "1.0.0"]) == 1
    assert capsys.readouterr().err == "unknown package left-pad; known: " + ", ".join(vendor.PACKAGES) + "\n"
