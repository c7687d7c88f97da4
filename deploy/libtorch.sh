#!/usr/bin/env bash
# Prepares the libtorch that the feature `tch` builds against and runs on.
#
#   eval "$(deploy/libtorch.sh DIR)"      # then: cargo build --release --features tch
#
# Prints the `export` lines that cargo and the binaries need; progress goes to stderr.
# Taken in this order:
#   1. a libtorch 2.9.0 that $LIBTORCH already names (CPU, CUDA or ROCm): used as it is;
#   2. DIR from an earlier call;
#   3. otherwise DIR is made from the PyPI wheel torch==2.9.0: its CPU libraries and headers only, about 500 MB.
#      Needs python3 with pip, and no GPU. For CUDA, install PyTorch's own libtorch and set LIBTORCH.
set -euo pipefail

torch_version=2.9.0
# The two CUDA libraries that the wheel's libtorch_cpu.so is linked against, even where there is no GPU.
cuda_wheels=(nvidia-cuda-runtime-cu12==12.8.90 nvidia-cuda-cupti-cu12==12.8.90)

say() { echo "libtorch: $*" >&2; }

exports() {
  echo "export LIBTORCH='$1'"
  echo "export LIBTORCH_CXX11_ABI=1"
  echo "export LD_LIBRARY_PATH='$1/lib'\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
}

if [ $# -ne 1 ]; then
  say "usage: deploy/libtorch.sh DIR"
  exit 2
fi

if [ -n "${LIBTORCH:-}" ]; then
  if [ ! -e "$LIBTORCH/lib/libtorch_cpu.so" ]; then
    say "LIBTORCH is $LIBTORCH, which holds no lib/libtorch_cpu.so; unset it or point it at a libtorch $torch_version"
    exit 1
  fi
  say "using $LIBTORCH"
  exports "$LIBTORCH"
  exit 0
fi

mkdir -p "$1"
dir=$(cd "$1" && pwd)
if [ ! -e "$dir/complete" ]; then
  wheels=$(mktemp -d)
  trap 'rm -rf "$wheels"' EXIT
  say "downloading torch $torch_version from PyPI (900 MB)"
  python3 -m pip download --quiet --no-deps --dest "$wheels" "torch==$torch_version" "${cuda_wheels[@]}" >&2
  say "unpacking the CPU libraries and headers into $dir"
  python3 - "$wheels" "$dir" <<'PYTHON'
import pathlib, shutil, sys, zipfile

wheels, target = map(pathlib.Path, sys.argv[1:])
libraries = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1", "libcudart.so.12", "libcupti.so.12")
(target / "lib").mkdir(exist_ok=True)
found = set()
for wheel in wheels.glob("*.whl"):
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = pathlib.PurePosixPath(member.filename)
            if path.parts[:2] == ("torch", "include"):
                out = target / pathlib.Path(*path.parts[1:])
            elif path.name in libraries and "lib" in path.parts:
                out = target / "lib" / path.name
                found.add(path.name)
            else:
                continue
            if not member.is_dir():
                out.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(out, "wb") as sink:
                    shutil.copyfileobj(source, sink)
missing = sorted(set(libraries) - found)
if missing:
    sys.exit("libtorch: the wheels do not hold " + ", ".join(missing))
# tch links -ltorch and -lgomp by name.
(target / "lib/libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
(target / "lib/libgomp.so").write_text("INPUT(libgomp.so.1)\n")
PYTHON
  echo "$torch_version" > "$dir/build-version"
  touch "$dir/complete"
fi
say "ready in $dir"
exports "$dir"
