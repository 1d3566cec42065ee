#!/usr/bin/env bash
# Make .venv hold exactly what requirements.lock names, and this tree as an editable install. Instant when nothing has changed.
#
# uv is used where it is there, plain pip otherwise; both check every hash. PYTHON names the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=.venv
stamp=$venv/.penstock-stamp

say() { printf 'setup: %s\n' "$*" >&2; }

wanted=$(cat requirements.lock pyproject.toml hack/venv.sh | cksum)
if [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  say "'$python' is not Python 3.11 or later. Install one and name it: make setup PYTHON=python3.11"
  exit 1
fi

# Debian splits venv off: without this package `python3 -m venv` makes an environment without pip.
ensure_venv_module() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "installing Debian's python3-venv"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
  else
    say "'$python' cannot make environments. On Debian and Ubuntu: sudo apt-get install python3-venv. Or install uv."
    exit 1
  fi
}

with_uv() {
  [ -x $venv/bin/python ] || uv venv --quiet --python "$python" $venv
  uv pip install --quiet --python $venv/bin/python --require-hashes --no-deps -r requirements.lock
  uv pip install --quiet --python $venv/bin/python --no-deps --no-build-isolation --editable .
}

with_pip() {
  if ! $venv/bin/python -m pip --version >/dev/null 2>&1; then
    ensure_venv_module
    "$python" -m venv $venv
  fi
  $venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
  $venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
}

started=$(date +%s)
say "filling $venv from requirements.lock (about a minute when nothing is cached)"
rm -f $stamp
if command -v uv >/dev/null; then
  with_uv || { say "uv could not; trying pip"; with_pip; }
else
  with_pip
fi
printf '%s' "$wanted" >$stamp
say "done in $(($(date +%s) - started)) s"
