#!/usr/bin/env bash
# Builds the images `serve` and `train`, or with the argument `gpu` the image `train-gpu`, for real and tries them, as root
# on a Debian machine where no container engine runs.
#
# buildah gives what runs in an image a root folder and a user of its own, but no network, and none of the limits that
# docker-compose.yml adds: those are not tried here. The base that the Dockerfile names is stood in for by one made of
# Debian's packages. apt and pip are used as this machine has set them up.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "image: $*"; }
fail() {
    say "FAILED: $*" >&2
    exit 1
}

missing=()
for program in buildah curl debootstrap python3; do
    command -v "$program" >/dev/null || missing+=("$program")
done
if ((${#missing[@]})); then
    say "install these Debian packages first: ${missing[*]}" >&2
    exit 2
fi
if ((EUID)); then
    say "run this as root: only root may give a process another root folder" >&2
    exit 2
fi

work=$(mktemp -d "${TMPDIR:-/var/tmp}/kernelscope-image.XXXXXX")
export TMPDIR=$work # for what buildah keeps while it works
buildah=(nice buildah --root "$work/storage" --runroot "$work/state")
run=("${buildah[@]}" run --isolation chroot)
server=

finish() {
    if [[ $server ]]; then
        kill "$server" || true
        wait "$server" || true
    fi
    "${buildah[@]}" rm --all >/dev/null || true
    awk -v under="$work/" 'index($2, under) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount || true
    rm -rf --one-file-system "$work"
}
trap finish EXIT

quietly() { # what it says is of interest only if it fails
    "$@" >"$work/log" 2>&1 || {
        tail -n 40 "$work/log" >&2
        return 1
    }
}

# --- a stand-in for the base: the suite is the last word of its name ----------------------------------------------

base=$(sed -n 's/^FROM \(\S*\) AS base$/\1/p' Dockerfile)
suite=${base##*-}
kept=${XDG_CACHE_HOME:-$HOME/.cache}/kernelscope/image-$suite.tar
if [[ ! -s $kept ]]; then
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$suite" '$1 == suite && !found++ { print $2 }')
    quietly nice debootstrap --variant=minbase --include=ca-certificates,python3-venv,python-is-python3 \
        "$suite" "$work/base" ${mirror:+"$mirror"} || fail "debootstrap"
    mkdir -p "$(dirname "$kept")"
    tar -C "$work/base" --exclude='./dev/*' --exclude='./var/cache/apt/archives/*.deb' -cf "$kept.part" .
    mv "$kept.part" "$kept"
    rm -rf --one-file-system "$work/base"
fi
made=$("${buildah[@]}" from scratch)
quietly "${buildah[@]}" add "$made" "$kept" /
quietly "${buildah[@]}" config --env PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$made"
quietly "${buildah[@]}" commit --rm "$made" "docker.io/library/$base"
say "there is a stand-in for $base, of Debian's packages"

# --- the images ---------------------------------------------------------------------------------------------------

# This machine's settings of pip that say where packages are and how they are reached, the environment's first; the
# certificate and the folders that they name are lent, too. What says which packages to take, such as a file of constraints,
# is left out: the images hold what requirements/ says.
reaching='index-url|extra-index-url|find-links|no-index|trusted-host|cert|proxy|timeout|default-timeout|retries'
settings=$(python3 -m pip config list |
    sed -nE "s/\\\\n/ /g; s/^(:env:|[a-z]+)\.($reaching)='(.*)'$/\2 = \3/p" | awk '!seen[$1]++') || true
lent=(--secret "id=pip.conf,src=$work/pip.conf")
certificate=$(sed -n 's/^cert = //p' <<<"$settings")
if [[ $certificate ]]; then
    lent+=(--secret "id=ca.crt,src=$certificate")
    settings=${settings//"cert = $certificate"/cert = /run/secrets/ca.crt}
fi
while read -r folder; do
    if [[ -d $folder ]]; then lent+=(--volume "$folder:$folder:ro"); fi
done < <(tr ' ' '\n' <<<"$settings" | sed -nE 's|^(file://)?/|/|; s|/simple/?$||; /^\//p' | sort -u)
printf '[global]\n%s\n' "$settings" >"$work/pip.conf"

build() { # NAME [OPTION ...]
    local start=$SECONDS
    quietly "${buildah[@]}" bud --isolation chroot --format docker --layers --pull-never "${lent[@]}" --tag "$@" . ||
        fail "$1 does not build"
    say "$1 builds: $("${buildah[@]}" images --format '{{.Size}}' "$1"), $((SECONDS - start)) s"
}

# --- with `gpu` as its argument: `train-gpu` alone, which takes 25 GB of disk; there is no GPU to lend it ---------------

if [[ ${1:-} == gpu ]]; then
    build kernelscope-train-gpu --target train-gpu
    gpu=$("${buildah[@]}" from --pull-never kernelscope-train-gpu)
    code=0
    "${run[@]}" "$gpu" -- kernelscope train --data /data >"$work/log" 2>&1 || code=$?
    if ((code != 2)) || ! grep -q "JAX finds no such device" "$work/log"; then
        tail -n 5 "$work/log" >&2
        fail "without a GPU it ends with $code, and does not say why"
    fi
    say "without a GPU it says so"
    quietly "${run[@]}" --env JAX_PLATFORMS=cpu "$gpu" -- python3 -c '
import importlib.metadata, importlib.util, jax
assert jax.device_count() == 1
assert importlib.metadata.version("jax-cuda13-plugin") == jax.__version__
for name in ("tensorflow", "tf2onnx"):
    assert importlib.util.find_spec(name), name
assert not importlib.util.find_spec("fastapi")
' || fail "what is in kernelscope-train-gpu"
    say "JAX, its plugin for CUDA, TensorFlow and tf2onnx are in it, and FastAPI is not"
    exit
fi

build kernelscope # without a target: `serve` is the default
build kernelscope-train --target train

megabytes() { # IMAGE
    "${buildah[@]}" images --format '{{.Size}}' "$1" | awk '{ print int($1 * ($2 == "GB" ? 1000 : 1)) }'
}
most=200 # beyond the base
added=$(($(megabytes kernelscope) - $(megabytes "docker.io/library/$base")))
((added <= most)) || fail "kernelscope adds $added MB to its base, more than $most MB"
say "kernelscope adds $added MB to its base"

serve=$("${buildah[@]}" from --pull-never kernelscope)
train=$("${buildah[@]}" from --pull-never kernelscope-train)

of() { # IMAGE FIELD: the words of a field of an image's configuration, one a line
    "${buildah[@]}" inspect --type image --format "{{range .Docker.Config.$2}}{{println .}}{{end}}" "$1" | sed '/^$/d'
}
lacks() { # CONTAINER PACKAGE
    "${run[@]}" "$1" -- python3 -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$2') is not None)"
}

for container in "$serve" "$train"; do
    user=$("${run[@]}" "$container" -- id -u)
    ((user)) || fail "$container runs as root"
done
say "they run as user $user"
lacks "$serve" tensorflow || fail "TensorFlow is in kernelscope"
say "there is no TensorFlow in kernelscope"
lacks "$train" fastapi || fail "FastAPI is in kernelscope-train"
say "there is no FastAPI in kernelscope-train"

# --- serve --------------------------------------------------------------------------------------------------------

# The volumes, as an engine makes them: they start as what the image has in their place. buildah's own, which would be
# mounted over them, are taken out.
root=$("${buildah[@]}" mount "$train")
cp -a "$root/models" "$root/runs" "$work"
"${buildah[@]}" config --volume /models- "$serve"
"${buildah[@]}" config --volume /models- --volume /runs- "$train"

mapfile -t command < <(of kernelscope Entrypoint && of kernelscope Cmd)
mapfile -t probe < <(of kernelscope Healthcheck.Test)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
serving=("${run[@]}" --env "KERNELSCOPE_PORT=$port" --volume "$work/models:/models:ro" "$serve" --)
ask() { curl --silent --show-error --fail --noproxy '*' "$@"; }
wait_for() { # PATH [OPTION ...]: sets `answer`, which may take a minute to come
    local path=$1 end=$((SECONDS + 60))
    shift
    until answer=$(ask "$@" "localhost:$port$path" 2>"$work/log"); do
        if ((SECONDS > end)) || ! kill -0 "$server"; then
            tail -n 20 "$work/server" "$work/log" >&2
            fail "${command[*]}: $path does not answer"
        fi
        sleep 0.5
    done
}

"${serving[@]}" "${command[@]}" >"$work/server" 2>&1 &
server=$!
wait_for /health/ready
say "${command[*]}: /health/ready answers $answer"
"${serving[@]}" "${probe[@]:1}" || fail "the health check fails"
say "the health check passes"

wait_for /predict --form file=@examples/cat.jpg
label=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["label"])' <<<"$answer")
[[ $label == cat ]] || fail "examples/cat.jpg is no cat: $answer"
say "examples/cat.jpg is a cat: $answer"

# --- train, while that serves -------------------------------------------------------------------------------------

quietly "${run[@]}" "$train" -- kernelscope train --help || fail "kernelscope train --help"
say "kernelscope train --help answers"

install --directory --owner="$user" "$work/data"
"${run[@]}" --volume "$work/data:/data" "$train" -- python3 -c '
from pathlib import Path
from PIL import Image
for number, colour in enumerate(("red", "green", "blue")):
    folder = Path("/data", colour)
    folder.mkdir()
    for i in range(20):
        rgb = tuple(255 - 5 * i if channel == number else 5 * i for channel in range(3))
        Image.new("RGB", (16, 16), rgb).save(folder / f"{i}.png")
'
mapfile -t words < <(of kernelscope-train Entrypoint && of kernelscope-train Cmd)
words+=(--name colours --epochs 1 --batch-size 16)
quietly "${run[@]}" --volume "$work/data:/data:ro" --volume "$work/models:/models" --volume "$work/runs:/runs" \
    "$train" -- "${words[@]}" || fail "${words[*]}"
[[ -s $work/models/colours/1/model.onnx ]] || fail "${words[*]}: nothing is published"
say "${words[*]}: published $(cd "$work" && echo models/colours/1/*)"
wait_for "/predict?model=colours" --form "file=@$work/data/red/0.png"
say "what serves has taken it up: $answer"

# --- the end ------------------------------------------------------------------------------------------------------

# An engine signals what runs inside; buildah, which stands above it, would end it by force.
inside=$server
while below=$(pgrep --parent "$inside") && [[ $below != *$'\n'* ]]; do inside=$below; done # its workers are several
kill -TERM "$inside"
code=0
wait "$server" || code=$?
server=
((code == 0)) || fail "SIGTERM ends it with $code"
say "SIGTERM ends it with 0"
if "${serving[@]}" "${probe[@]:1}" 2>"$work/log"; then fail "the health check passes where nothing serves"; fi
say "the health check fails then"

say "all checks passed"
