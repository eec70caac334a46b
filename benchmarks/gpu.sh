#!/usr/bin/env bash
# Trains on a bare machine with a GPU: Python 3.12 with JAX and CUDA, onnx, onnxruntime, rich and h5py; no network.
#
#   OUT=out benchmarks/gpu.sh INPUT fast             `fast` with three seeds, and a profile of it: within 4 minutes
#   OUT=out benchmarks/gpu.sh INPUT best             `best` once: within 6 minutes
#   OUT=out benchmarks/gpu.sh INPUT seed speed       the 64 epochs of `seed`; resident and streamed images at 224 pixels
#   OUT=out benchmarks/gpu.sh INPUT robust           `robust` once: within 6 minutes
#   OUT=out benchmarks/gpu.sh INPUT transfer         `transfer` on INPUT/scenes.zip
#
# INPUT is what `python -m benchmarks.gpu pack` made: the parts of the images, wheels, and the project, which is taken
# from there if this script does not stand in a checkout. The images may be joined already, as INPUT/cifar10.npz.
# Figures, log, profile and weights come to $OUT: at most 8 files of 16 MiB, 64 MiB together. docs/gpu.md says how the
# weights are exported.
#
# PYTHON            the interpreter (python3)
# GPU_ARGUMENTS     for each training, such as '--tiny --epochs 1 --executor resident' to try the script on a CPU
# GPU_MORE          for `speed`
# JAX_COMPILATION_CACHE_DIR     where compiled steps are kept (nowhere): each command then pays for compiling
set -euo pipefail
: "${OUT:?set it to a folder for what comes back}"
input=$(realpath "${1:?usage: OUT=out benchmarks/gpu.sh INPUT fast|best|seed|speed|robust|transfer ...}")
shift
(($#)) || { echo "say what to run: fast, best, seed, speed, robust, transfer" >&2; exit 2; }
python=${PYTHON:-python3}
mkdir -p "$OUT"
OUT=$(realpath "$OUT")
work=$(mktemp -d "${TMPDIR:-/tmp}/kernelscope-gpu.XXXXXX")
trap 'rm -rf "$work"' EXIT
exec > >(tee -a "$OUT/gpu.log") 2>&1

project=$(realpath "$(dirname "$0")/..")
if [[ ! -d $project/training ]]; then
    project=$work/project
    mkdir "$project"
    tar -xzf "$input/project.tar.gz" -C "$project"
fi
mkdir "$work/site"
for wheel in "$input"/wheels/*.whl; do # a wheel is an archive: no pip and no virtual environment is needed
    if [[ -e $wheel ]]; then "$python" -m zipfile -e "$wheel" "$work/site"; fi
done
export PYTHONPATH=$work/site:$project PYTHONDONTWRITEBYTECODE=1 KERAS_BACKEND=jax KERAS_HOME=$work
export KERNELSCOPE_CACHE=$work/cache JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$work/compiled}
cd "$work"

declare -A most=([fast]=235 [best]=355 [seed]=150 [speed]=150 [robust]=355 [transfer]=120) # seconds, the unpacking included
allowed=0 failed=0
for what in "$@"; do
    [[ ${most[$what]:-} ]] || { echo "there is no $what: choose of ${!most[*]}" >&2; exit 2; }
    allowed=$((allowed + ${most[$what]}))
done
say() { echo "gpu.sh, $SECONDS s: $*"; }
limited() { # SECONDS COMMAND ...: what is too slow must not take the time of the next, nor the whole more than it may
    local limit=$1 left=$((allowed - SECONDS))
    shift
    if ((left < 10)); then
        failed=1 && say "FAILED: no time is left for $*"
        return
    fi
    timeout --signal=INT --kill-after=15 "$((limit < left ? limit : left))" "$@" || { failed=1 && say "FAILED: $*"; }
}
benchmark() { # SECONDS SUBCOMMAND ...
    local limit=$1
    shift
    limited "$limit" "$python" -m benchmarks.gpu "$@" --out "$OUT"
}
read -ra arguments <<<"${GPU_ARGUMENTS:-}"
read -ra more <<<"${GPU_MORE:-}"
train() { # SECONDS RECIPE SEED DATA
    say "$2, seed $3"
    benchmark "$1" run "$2" --seed "$3" --data "$4" --began "$(date +%s.%N)" "${arguments[@]}"
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || say "there is no nvidia-smi"
images=$input/cifar10.npz
if [[ ! -e $images ]] && ls "$input"/*.npz.*.xz >/dev/null 2>&1; then
    images=$work/cifar10.npz
    limited 120 "$python" -m benchmarks.gpu unpack "$input" --data "$images"
    say "the images are unpacked"
fi
for what in "$@"; do
    case $what in
    fast)
        for seed in 0 1 2; do train 100 fast "$seed" "$images"; done
        benchmark 60 profile fast --data "$images" "${arguments[@]}"
        ;;
    best | robust) train 340 "$what" 0 "$images" ;;
    seed) train 120 seed 0 "$images" ;;
    speed) benchmark 150 speed "${more[@]}" ;;
    transfer) train 120 transfer 0 "$input/scenes.zip" ;;
    esac
done
"$python" -m benchmarks.gpu summary --out "$OUT"
say "done"
exit "$failed"
