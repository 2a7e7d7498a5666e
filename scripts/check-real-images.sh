#!/usr/bin/env bash
# Tries images that others made: the test suite of Pillow, an imaging library, which also says which of them are valid.
set -euo pipefail
cd "$(dirname "$0")/.."

version=11.3.0
work=target/real-images
mkdir -p "$work"
if [ ! -d "$work/pillow-$version" ]; then
    python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "pillow==$version"
    tar -xzf "$work/pillow-$version.tar.gz" -C "$work"
fi
python3 -m pip install --quiet --upgrade --target "$work/python" "pillow==$version"
export PYTHONPATH="$work/python"
export PASSFORT_INGEST_REAL_IMAGES="$PWD/$work"

python3 - "$work" "pillow-$version" <<'PY'
"""Lists the images that the library opens and decodes to their last frame, and makes a manifest of them."""
import json, pathlib, sys, warnings
from PIL import Image, ImageSequence
warnings.simplefilter("ignore")
work, suite = pathlib.Path(sys.argv[1]), sys.argv[2]
# The library passes over this one's fault, which is what a cut looks like: its strip claims 35 MB of a file of 11 KB.
points_past_its_end = "tiff_wrong_bits_per_sample.tiff"
# Not .mpo: those are several pictures one after the other, of which a customer's document is the first.
kinds = [".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff"]
valid = []
for path in sorted((work / suite / "Tests").rglob("*")):
    if path.name == points_past_its_end or path.suffix.lower() not in kinds:
        continue
    try:
        with Image.open(path, formats=["PNG", "JPEG", "GIF", "TIFF"]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
        valid.append(str(path.relative_to(work)))
    except Exception:
        pass
(work / "valid.txt").write_text("\n".join(valid) + "\n")
entries = [{"reference": name, "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": [{"path": name}]} for name in valid]
profile = "a2c4393a-e219-67a4-5ab4-2186952e9038"
(work / "all.manifest.json").write_text(json.dumps({"version": 1, "profile_id": profile, "documents": entries}))
print(f"{len(valid)} valid images")
PY

cargo test --locked --test it real_images:: -- --ignored --nocapture
cargo run --locked --quiet -- check "$work/all.manifest.json" >/dev/null

python3 - "$work" <<'PY'
"""What was taken for whole though it was cut must show the same picture as the whole file."""
import io, pathlib, sys, warnings
from PIL import Image, ImageSequence
warnings.simplefilter("ignore")
work = pathlib.Path(sys.argv[1])
def frames(content):
    with Image.open(io.BytesIO(content)) as image:
        return [frame.convert("RGBA").tobytes() for frame in ImageSequence.Iterator(image)]
wrong = []
lines = (work / "whole-though-cut.txt").read_text().splitlines()
for line in lines:
    name, length = line.split("\t")
    content = (work / name).read_bytes()
    try:
        same = frames(content[: int(length)]) == frames(content)
    except Exception as error:
        same = False
    if not same:
        wrong.append(line)
print(f"{len(lines)} cuts lost nothing of the picture; {len(wrong)} did")
sys.exit("\n".join(wrong) if wrong else 0)
PY
