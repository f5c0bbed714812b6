"""Fetches the pinned browser libraries from npm and proves that they are the files whose hashes are in the repository.

Each folder under gateway/console/vendor/ is one package: VERSION pins it, HASH lists the SHA-256 of every file taken
(the format of `sha256sum`), LICENSE travels with it. Run through `make vendor`:

    python tools/vendor.py                      fetch again what is pinned; any difference is an error
    python tools/vendor.py --check              only compare the files here with HASH
    python tools/vendor.py --pin hls.js 1.7.4   move a pin: fetch that version, write VERSION and HASH
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

VENDOR = Path(__file__).resolve().parent.parent / "gateway" / "console" / "vendor"
MOQ = Path(__file__).resolve().parent / "web" / "moq"
_LEFT_OUT = ("@kixelated/libavjs-webcodecs-polyfill", "@libav.js/variant-opus-af")


@dataclass(frozen=True)
class Package:
    """One npm package: its registry name and which of its files are kept, under which name.

    bundle: the folder whose package-lock.json pins the package and its libraries. They become one file, by esbuild.
    """

    npm: str
    files: dict[str, str]
    bundle: Path | None = None


# Whole builds, not the light ones: hls.js "light" has no alternate audio, which CMAF's separate audio track needs.
# The dash.js build without DRM, Smooth Streaming and reporting is 160 kB smaller than "all".
PACKAGES = {
    "hls.js": Package(
        "hls.js",
        {"dist/hls.min.mjs": "hls.min.js", "dist/hls.worker.js": "hls.worker.js", "LICENSE": "LICENSE"},
    ),
    "mpegts.js": Package(
        "mpegts.js",
        {
            "dist/mpegts.js": "mpegts.min.js",
            "dist/mpegts.js.LICENSE.txt": "LICENSE.bundled",
            "LICENSE": "LICENSE",
        },
    ),
    "dash.js": Package(
        "dashjs",
        {
            "dist/modern/esm/dash.mediaplayer.min.js": "dash.min.js",
            "dist/modern/esm/dash.mediaplayer.min.js.LICENSE.txt": "LICENSE.bundled",
            "LICENSE.md": "LICENSE",
        },
    ),
    "preact": Package(
        "preact",
        {"dist/preact.mjs": "preact.js", "hooks/dist/hooks.mjs": "hooks.js", "LICENSE": "LICENSE"},
    ),
    "htm": Package("htm", {"dist/htm.mjs": "htm.js", "LICENSE": "LICENSE"}),
    "signals": Package("@preact/signals", {"dist/signals.mjs": "signals.js", "LICENSE": "LICENSE"}),
    "signals-core": Package("@preact/signals-core", {"dist/signals-core.mjs": "signals-core.js", "LICENSE": "LICENSE"}),
    "uplot": Package(
        "uplot", {"dist/uPlot.esm.js": "uPlot.js", "dist/uPlot.min.css": "uPlot.css", "LICENSE": "LICENSE"}
    ),
    # Its npm package has no licence file; ours has the text of its repository. Sound of Opus is decoded by the browser
    # alone: the decoder for browsers without AudioDecoder has 2 MB.
    "moq-watch": Package(
        "@moq/watch",
        {"moq-watch.min.js": "moq-watch.min.js", "LICENSE.bundled": "LICENSE.bundled", "LICENSE": "LICENSE"},
        MOQ,
    ),
}


class VendorError(Exception):
    """A package could not be fetched, or is not the one that was pinned."""


def digests(folder: Path, names: list[str]) -> str:
    """The HASH file for these files: one `<sha256>  <name>` line each, sorted by name."""
    return "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in sorted(names))


def pinned_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a package, as its HASH says."""
    return {line[66:]: line[:64] for line in (folder / "HASH").read_text().splitlines()}


def pinned_version(folder: Path) -> str:
    return (folder / "VERSION").read_text().strip()


def differences(folder: Path) -> list[str]:
    """What in a package's folder is not as its HASH says; empty means intact."""
    pinned = pinned_digests(folder)
    present = {p.name for p in folder.iterdir()} - {"VERSION", "HASH"}
    wrong = [f"{folder.name}/{name}: not in HASH" for name in sorted(present - pinned.keys())]
    for name, digest in sorted(pinned.items()):
        if name not in present:
            wrong.append(f"{folder.name}/{name}: missing")
        elif hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            wrong.append(f"{folder.name}/{name}: differs from HASH")
    return wrong


def fetch(package: Package, version: str, to: Path) -> None:
    """Downloads `version` with npm and copies the kept files into `to`; raises VendorError."""
    npm = shutil.which("npm")
    if npm is None:
        raise VendorError("npm is not installed (Debian: apt-get install npm)")
    if package.bundle is not None:
        bundle(npm, package.bundle, to)
        return
    with tempfile.TemporaryDirectory() as scratch:
        command = [npm, "pack", f"{package.npm}@{version}", "--silent", "--pack-destination", scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (argv from the table)
        tarballs = list(Path(scratch).glob("*.tgz"))
        if done.returncode or len(tarballs) != 1:
            raise VendorError(f"npm pack {package.npm}@{version} failed: {done.stderr.strip()[-300:]}")
        with tarfile.open(tarballs[0]) as tar:
            for inside, name in package.files.items():
                try:
                    member = tar.extractfile(f"package/{inside}")
                except KeyError:
                    member = None
                if member is None:
                    raise VendorError(f"{package.npm}@{version} has no {inside}")
                (to / name).write_bytes(member.read())


def bundled(folder: Path) -> list[tuple[str, str]]:
    """The names and versions of the packages in a vendored bundle, as its LICENSE.bundled says."""
    text = (folder / "LICENSE.bundled").read_text()
    return re.findall(r"^(@?[\w.-]+(?:/[\w.-]+)?) (\d[\w.-]*): .+$", text, re.M)


def bundle(npm: str, folder: Path, to: Path) -> None:
    """Writes one script of the locked packages of a folder, and their licences. Raises VendorError."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name in ("package.json", "package-lock.json", "moq-watch.js", "LICENSE"):
            shutil.copyfile(folder / name, work / name)
        esbuild = ["node", "node_modules/esbuild/bin/esbuild", "moq-watch.js", "--bundle", "--format=esm", "--minify"]
        esbuild += ["--target=es2022", "--legal-comments=none", "--metafile=meta.json", "--outfile=moq-watch.min.js"]
        esbuild += [f"--external:{name}" for name in _LEFT_OUT]
        for command in ([npm, "ci", "--ignore-scripts", "--silent"], esbuild):
            done = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)  # noqa: S603 (as above)
            if done.returncode:
                raise VendorError(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-300:]}")
        used = json.loads((work / "meta.json").read_text())["inputs"]
        texts: dict[str, str] = {}
        for path in sorted({_package_folder(path) for path in used if path.startswith("node_modules/")}):
            about = json.loads((work / path / "package.json").read_text())
            text = "\n".join(file.read_text() for file in sorted((work / path).glob("LICENSE*")))
            texts[f"{about['name']} {about['version']}: {about['license']}"] = text
        (work / "LICENSE.bundled").write_text("\n".join(f"{title}\n\n{text}" for title, text in texts.items()))
        for name in ("moq-watch.min.js", "LICENSE.bundled", "LICENSE"):
            shutil.copyfile(work / name, to / name)


def _package_folder(path: str) -> str:
    """The folder of the package that has a file: node_modules/@moq/net for node_modules/@moq/net/path.js."""
    before, _, inside = path.rpartition("node_modules/")
    parts = inside.split("/")
    return f"{before}node_modules/{'/'.join(parts[: 2 if inside.startswith('@') else 1])}"


def refresh(name: str) -> None:
    """Fetches a package at its pinned version; replaces the files here only if every hash agrees."""
    folder = VENDOR / name
    with tempfile.TemporaryDirectory() as scratch:
        fetch(PACKAGES[name], pinned_version(folder), Path(scratch))
        if digests(Path(scratch), list(PACKAGES[name].files.values())) != (folder / "HASH").read_text():
            raise VendorError(f"{name}: what npm delivers is not what HASH pins; nothing was replaced")
        for file in PACKAGES[name].files.values():
            shutil.copyfile(Path(scratch) / file, folder / file)


def pin(name: str, version: str) -> None:
    """Moves a package to another version: new files, VERSION and HASH."""
    folder, package = VENDOR / name, PACKAGES[name]
    folder.mkdir(parents=True, exist_ok=True)
    if package.bundle is not None:
        lock = ["npm", "install", "--ignore-scripts", "--package-lock-only", "--omit-lockfile-registry-resolved"]
        command = [*lock, "--silent", "--save-exact", f"{package.npm}@{version}"]
        if subprocess.run(command, cwd=package.bundle, check=False).returncode:  # noqa: S603 (argv from the table)
            raise VendorError(f"{package.npm}@{version} cannot be locked")
    fetch(package, version, folder)
    (folder / "VERSION").write_text(version + "\n")
    (folder / "HASH").write_text(digests(folder, list(PACKAGES[name].files.values())))


def main(argv: list[str] | None = None) -> int:
    """The command line; 0 when all is as pinned, 1 with one line per difference otherwise."""
    parser = argparse.ArgumentParser(description="Fetch or check the vendored browser libraries.")
    parser.add_argument("--check", action="store_true", help="only compare the files here with HASH")
    parser.add_argument("--pin", nargs=2, metavar=("PACKAGE", "VERSION"), help="move a package to another version")
    options = parser.parse_args(argv)
    try:
        if options.pin:
            if options.pin[0] not in PACKAGES:
                raise VendorError(f"unknown package {options.pin[0]}; known: {', '.join(PACKAGES)}")
            pin(*options.pin)
        elif not options.check:
            for name in PACKAGES:
                refresh(name)
    except VendorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    wrong = [line for name in PACKAGES for line in differences(VENDOR / name)]
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    for name in PACKAGES:
        sys.stdout.write(f"{name} {pinned_version(VENDOR / name)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
