#!/usr/bin/env bash
# Tries files that others made: the images of Pillow's tests and the PDFs of pypdf's. Independent readers say which of them
# are valid: Pillow for images; pdfium, which is Chrome's, and qpdf for PDFs.
set -euo pipefail
cd "$(dirname "$0")/.."

work=target/real-images
mkdir -p "$work"
for suite in pillow==11.3.0 pypdf==7.1.1; do
    if [ ! -d "$work/${suite/==/-}" ]; then
        python3 -m pip download --quiet --no-deps --no-binary :all: --dest "$work" "$suite"
        tar -xzf "$work/${suite/==/-}.tar.gz" -C "$work"
    fi
done
python3 -m pip install --quiet --upgrade --target "$work/python" pillow==11.3.0 pikepdf==10.18.0 pypdfium2==5.15.2
export PYTHONPATH="$work/python"
export PASSFORT_INGEST_REAL_IMAGES="$PWD/$work"

python3 - "$work" <<'PY'
"""Asks the readers of each file whether it opens, and makes a manifest of all."""
import io, json, logging, pathlib, sys, warnings
import pikepdf, pypdfium2
from PIL import Image, ImageSequence
warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)
work = pathlib.Path(sys.argv[1])

def pillow(path):
    try:
        with Image.open(path, formats=["PNG", "JPEG", "GIF", "TIFF"]) as image:
            for frame in ImageSequence.Iterator(image):
                frame.load()
        return "opens"
    except Exception:
        return "broken"

def qpdf(content):
    try:
        with pikepdf.open(io.BytesIO(content)) as pdf:
            return "opens" if len(pdf.pages) else "broken"
    except pikepdf.PasswordError:
        return "asks"
    except Exception:
        return "broken"

def pdfium(content):
    try:
        return "opens" if len(pypdfium2.PdfDocument(content)) else "broken"
    except pypdfium2.PdfiumError as error:
        return "asks" if "password" in str(error).lower() else "broken"

said = {}
# Not .mpo: those are several pictures one after the other, of which a customer's document is the first.
kinds = [".png", ".jpg", ".jpeg", ".gif", ".tif", ".tiff", ".pdf"]
for path in sorted(work.glob("*-*/**/*")):
    name = str(path.relative_to(work))
    if path.suffix.lower() not in kinds or name.startswith("python/"):
        continue
    if path.suffix.lower() == ".pdf":
        content = path.read_bytes()
        said[name] = [qpdf(content), pdfium(content)]
    else:
        said[name] = [pillow(path)]
(work / "said.json").write_text(json.dumps(said))
valid = [name for name, answers in said.items() if answers == ["opens"]]
(work / "valid.txt").write_text("\n".join(valid) + "\n")
entries = [{"reference": name, "category": "PROOF_OF_IDENTITY", "document_type": "PASSPORT", "images": [{"path": name}]} for name in said]
profile = "a2c4393a-e219-67a4-5ab4-2186952e9038"
(work / "all.manifest.json").write_text(json.dumps({"version": 1, "profile_id": profile, "documents": entries}))
PY

cargo build --locked --quiet
target/debug/passfort-ingest check --json "$work/all.manifest.json" >"$work/check.json" || [ $? = 1 ]

python3 - "$work" <<'PY'
"""What opens is taken without a warning of damage or protection; what asks for a password is warned of."""
import json, pathlib, sys
work = pathlib.Path(sys.argv[1])
argued = {
    # It opens, but its metadata cannot be read: a transfer took every CR out of it.
    "hopper_bad_exif.jpg": {"damaged-image"},
}
said = json.loads((work / "said.json").read_text())
found = {name: set() for name in said}
for problem in json.loads((work / "check.json").read_text().splitlines()[0])["problems"]:
    kind = "refused" if problem["severity"] != "warning" else problem.get("kind")
    if kind in ("refused", "damaged-image", "protected-pdf"):
        found[problem["path"]].add(kind)
wrong, broken = [], 0
for name, answers in said.items():
    if set(answers) == {"broken"}:
        broken += 1
        continue
    # A PDF that one reader opens by an empty password of its owner asks for its user's in the other.
    wanted = {"protected-pdf"} if "asks" in answers else argued.get(pathlib.Path(name).name, set())
    if found[name] != wanted and not ("broken" in answers and found[name] <= {"refused", "damaged-image"}):
        wrong.append(f"{name}: readers say {answers}; found {sorted(found[name])}")
noticed = sum(bool(found[name]) for name, answers in said.items() if set(answers) == {"broken"})
asking = sum("asks" in answers for answers in said.values())
print(f"{len(said)} files: {asking} ask for a password; of {broken} broken ones, {noticed} are refused or warned of")
if len(said) < 700 or asking < 10:
    wrong.append("too few files: a suite is missing")
sys.exit("\n".join(wrong) if wrong else 0)
PY

cargo test --locked --test it real_images:: -- --ignored --nocapture

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
