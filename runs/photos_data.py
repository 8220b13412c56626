"""The photographs of `photos`: from Debian's packages into folders of PNG files, `train`, `held-out` and `other`.

    python runs/photos_data.py [FOLDER, by default trained/photographs]

photos.csv beside this file names them, with their authors, licences and hashes; the split is by photograph. They are
fetched by `apt-get download` (Debian 12), unpacked into the folder, and shrunk by a whole factor of 3 to 6, by the mean
of boxes, so that the traces of their JPEG compression go. `other` has pictures that OpenCV and scikit-image bring
along, of which JPEG files are shrunk by 2, and PNG files are as they are. Nothing that is there is fetched again.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
from pathlib import Path

from PIL import Image

LONG_SIDE = 850  # of a shrunk picture, about
LEAST, MOST = 3, 6


def package(name: str, folder: Path) -> Path:
    """The folder into which a package is unpacked."""
    target = folder / "packages" / name
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", "-q", name], cwd=target.parent, check=True)
        archive = next(target.parent.glob(f"{name}_*.deb"))
        part = target.with_name(f"{name}.part")  # or a folder that is half unpacked would count as there
        subprocess.run(["dpkg-deb", "-x", archive, part], check=True)
        part.rename(target)
        archive.unlink()
    return target


def shrunk(source: Path, part: str) -> Image.Image:
    """A picture in RGB, each side divided by the same whole number; the rest at its right and bottom is cut."""
    with Image.open(source) as image:
        factor = min(MOST, max(LEAST, round(max(image.size) / LONG_SIDE)))
        if part == "other":
            factor = 2 if image.format == "JPEG" else 1
        whole = [side // factor * factor for side in image.size]
        return image.convert("RGB").crop((0, 0, *whole)).reduce(factor)


def main(folder: Path) -> None:
    """Makes the folders."""
    with (Path(__file__).parent / "photos.csv").open(newline="", encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    pixels = {"train": 0, "held-out": 0, "other": 0}
    for row in rows:
        source = package(row["package"], folder) / row["path"]
        found = hashlib.sha256(source.read_bytes()).hexdigest()
        if found != row["sha256"]:
            sys.exit(f"{source} is not the file that photos.csv names: its SHA-256 is {found}")
        parts = [part for part in source.parts[-5:] if part not in ("contents", "images", "usr", "share")]
        image = shrunk(source, row["part"])
        target = folder / row["part"] / f"{'-'.join(parts[-2:]).rsplit('.', 1)[0]}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        image.save(target)
        pixels[row["part"]] += image.width * image.height
    for part, count in pixels.items():
        print(f"{folder / part}: {sum(row['part'] == part for row in rows)} photographs, {count / 1e6:.1f} megapixels")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("trained/photographs"))
