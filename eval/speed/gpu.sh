#!/usr/bin/env bash
# All that needs a GPU, in one run: tests, speed tables, training with NCCL, a photo head.
#
#   eval/speed/gpu.sh                      on a machine with torch (CUDA), Triton and Lightning
#   WHEELS=wheels eval/speed/gpu.sh        installs what else is needed from a folder of wheels, without a network
#   DATA=flickr8k eval/speed/gpu.sh        trains on your photos: DATA has captions.csv or captions.txt (image,caption)
#                                          and the photos, or a folder Images or images with them
#   eval/speed/gpu.sh --quick              a dry run on a CPU at tiny sizes, which installs nothing
#
# OUT (default: out/gpu, must not exist) gets a folder or a log for each step, summary.md and summary.json. A step that
# fails does not end the run; the exit code is 1 then. PYTHON names the interpreter, LIMIT the seconds of a step.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

OUT=${OUT:-out/gpu}
PYTHON=${PYTHON:-python}
LIMIT=${LIMIT:-240}
QUICK=()
DEVICE=cuda ACCELERATOR=gpu
case "${1:-}" in
  "") ;;
  --quick) QUICK=(--quick) DEVICE=cpu ACCELERATOR=cpu ;;
  *) echo "gpu.sh: error: $1: the only flag is --quick" >&2; exit 2 ;;
esac
for folder in "${WHEELS:-.}" "${DATA:-.}"; do
  [ -d "$folder" ] || { echo "gpu.sh: error: $folder: no such folder" >&2; exit 2; }
done
command -v "$PYTHON" >/dev/null || { echo "gpu.sh: error: PYTHON=$PYTHON: no such program" >&2; exit 2; }
mkdir -p "$(dirname "$OUT")" && mkdir "$OUT" 2>/dev/null || { echo "gpu.sh: error: OUT=$OUT: choose a new folder" >&2; exit 2; }
OUT=$(cd "$OUT" && pwd)
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
: >"$OUT/steps.tsv"

# step NAME COMMAND...: run it with its output in NAME.log, and note its time and exit code
step() {
  local name=$1 code=0 start=$SECONDS
  shift
  echo "gpu.sh: $name"
  timeout "$LIMIT" "$@" >"$OUT/$name.log" 2>&1 </dev/null || code=$?
  printf '%s\t%s\t%s\n' "$name" $((SECONDS - start)) "$code" >>"$OUT/steps.tsv"
  [ "$code" = 0 ] || { echo "gpu.sh: $name failed with exit code $code:" >&2; tail -n 3 "$OUT/$name.log" >&2; }
}

speed() { # NAME ARGUMENTS of eval.speed...
  local name=$1
  shift
  step "$name" "$PYTHON" -m eval.speed "$@" ${QUICK[@]+"${QUICK[@]}"} --device "$DEVICE" --out "$OUT/$name"
}

# What pip is asked for: pyproject.toml's dependencies; versions that are there, such as torch's, are kept.
requirements() {
  "$PYTHON" - <<'PY'
try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print("\n".join([*project["dependencies"], *extras["nouns"], *extras["eval"], "pytest>=8"]))
PY
}

requirements >"$OUT/requirements.txt"
FROM=()
[ -z "${WHEELS:-}" ] || FROM=(--no-index --find-links "$WHEELS")
[ ${#QUICK[@]} = 0 ] || FROM+=(--dry-run)
step install "$PYTHON" -m pip install --disable-pip-version-check ${FROM[@]+"${FROM[@]}"} -r "$OUT/requirements.txt"

step environment "$PYTHON" -c '
import json, platform, sys, torch
from eval.common.result import made_with
from eval.speed.measure import describe, processor
device = torch.device(sys.argv[1])
found = {**made_with(device), "device": describe(device), "cpu": processor(), "python": platform.python_version()}
found["cuda"] = torch.version.cuda
if device.type == "cuda":
    import triton
    found |= {"triton": triton.__version__, "memory_gb": torch.cuda.get_device_properties(device).total_memory / 1e9}
json.dump(found, open(sys.argv[2], "w"), indent=1)
' "$DEVICE" "$OUT/environment.json"

# Exit code 5 of pytest: nothing is marked, which would hide a mistake here, so it counts as a failure.
step tests-gpu "$PYTHON" -m pytest -m gpu $(grep -rl --include='*.py' 'mark\.gpu' tests)
# Most of their time Triton compiles, which several processes do side by side where pytest-xdist is there.
BESIDE=()
[ ${#QUICK[@]} = 0 ] && "$PYTHON" -c 'import xdist' 2>/dev/null && BESIDE=(-n 8)
step tests-triton "$PYTHON" -m pytest ${BESIDE[@]+"${BESIDE[@]}"} tests/models/test_compatibility_triton.py

[ ${#QUICK[@]} = 0 ] && BUILD=() || BUILD=(--build --used)
step tiles "$PYTHON" -m eval.speed.tiles ${BUILD[@]+"${BUILD[@]}"}
speed phi phi
speed segment segment
speed train train --model photos bundled
speed vit_b16_step train --model open_clip:ViT-B-16/random
speed data data
speed retrieval retrieval
speed growth growth

# NCCL takes one process a device, so on one GPU DDP runs with a single process: this shows that the process group, the
# gradient hooks and the checkpoint work there, not that several processes agree (on CPUs tests/train/test_ranks.py does).
STEPS=$([ ${#QUICK[@]} = 0 ] && echo 20 || echo 2)
step ddp "$PYTHON" -m pacl.train --config configs/scenes.yaml --out "$OUT/ddp" --trainer.accelerator "$ACCELERATOR" \
  --trainer.devices 1 --trainer.strategy ddp --trainer.max_steps "$STEPS" --data.scenes 512 --data.cache null

# The photo head, on real photos or on drawn ones, which only show that it runs and how fast.
if [ -n "${DATA:-}" ]; then
  PHOTOS=$(cd "$DATA" && pwd)
  TABLE=$(ls "$PHOTOS"/captions.csv "$PHOTOS"/captions.txt 2>/dev/null | head -n 1)
  for folder in Images images; do [ -d "$PHOTOS/$folder" ] && PHOTOS=$PHOTOS/$folder && break; done
  HELD=0.1 BATCH=176
  [ ${#QUICK[@]} = 0 ] || { HELD=4 BATCH=8; head -n 81 "$TABLE" >"$OUT/first.csv"; TABLE=$OUT/first.csv; }
else
  PHOTOS=$OUT/drawn TABLE=$OUT/drawn/captions.csv
  HELD=100 BATCH=176 COUNT=1000
  [ ${#QUICK[@]} = 0 ] || HELD=4 BATCH=8 COUNT=20
  step draw "$PYTHON" -c '
import csv, pathlib, sys
from PIL import Image
from pacl.scenes.drawing import SceneDataset
from pacl.scenes.data import SceneSource
folder, count = pathlib.Path(sys.argv[1]), int(sys.argv[2])
folder.mkdir()
source = SceneSource(SceneDataset("train", count, size=224, seed=0), captions=5)
with open(folder / "captions.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["image", "caption"])
    for i in range(count):
        Image.fromarray(source.image(i)).save(folder / f"{i}.jpg", quality=90)
        table.writerows([f"{i}.jpg", description[0]] for description in source.descriptions(i))
' "$PHOTOS" "$COUNT"
fi
[ ${#QUICK[@]} = 0 ] && STEPS=60 || STEPS=2
step photo_head "$PYTHON" -m pacl.train --config configs/own_photos.yaml --data.pairs "$TABLE" --data.images "$PHOTOS" \
  --data.hold_out "$HELD" --data.batch_size "$BATCH" --data.cache memory --trainer.max_steps "$STEPS" \
  --trainer.accelerator "$ACCELERATOR" --out "$OUT/photo_head"
# The published recipe on a tower of the published size, with random weights: that it runs, and how fast.
[ ${#QUICK[@]} = 0 ] && STEPS=20 BATCH=256 || STEPS=2 BATCH=8
step vit_b16_head "$PYTHON" -m pacl.train --config configs/paper_vitb16.yaml --model.backbone open_clip:ViT-B-16/random \
  --data.train "[{pairs: '$TABLE', images: '$PHOTOS', hold_out: $HELD}]" --data.batch_size "$BATCH" --data.workers 4 \
  --trainer.max_steps "$STEPS" --trainer.accelerator "$ACCELERATOR" --trainer.devices 1 --trainer.strategy auto \
  --trainer.log_every_n_steps 1 --out "$OUT/vit_b16_head"
step photo_head_segments "$PYTHON" -m pacl.segment pacl/photos/demo.jpg cat blanket --model "$OUT/photo_head" \
  --device "$DEVICE" --out "$OUT/photo_head_segments"

"$PYTHON" - "$OUT" <<'PY'
import json, pathlib, sys

out = pathlib.Path(sys.argv[1])
steps = [line.split("\t") for line in (out / "steps.tsv").read_text().splitlines()]
rows = [{"step": name, "seconds": int(seconds), "exit_code": int(code)} for name, seconds, code in steps]
path = out / "environment.json"
made = json.loads(path.read_text()) if path.is_file() else {}
(out / "summary.json").write_text(json.dumps({"format": "pacl-gpu", "version": 1, "made": made, "steps": rows}, indent=1))
lines = ["# " + made.get("device", "unknown device") + ", " + made.get("date", ""), ""]
lines += ["| step | result | seconds | log |", "| --- | --- | ---: | --- |"]
for row in rows:
    result = {0: "passed", 124: "FAILED: out of time"}.get(row["exit_code"], f"FAILED: exit code {row['exit_code']}")
    lines.append(f"| {row['step']} | {result} | {row['seconds']} | [{row['step']}.log]({row['step']}.log) |")
lines += ["", "DDP ran with one process: NCCL takes one process a device."]
(out / "summary.md").write_text("\n".join(lines) + "\n")
print("\n".join(lines))
PY
if awk -F'\t' '$3 != 0 { failed = 1 } END { exit !failed }' "$OUT/steps.tsv"; then exit 1; fi
