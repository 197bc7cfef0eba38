#!/usr/bin/env bash
# Makes a virtual environment with the newest suitable Python and the pinned packages.
#   bash install.sh FOLDER EXTRAS
set -euo pipefail
folder=$1 extras=$2

# A name on the PATH may be a shim of a version that is not installed: ask each to run.
newest() {
  local version candidate
  for version in 13 12 11; do
    for candidate in "python3.$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$version".*/bin/python \
        python3 python; do
      if "$candidate" -c "import sys, venv; sys.exit(sys.version_info[:2] != (3, $version))" \
          >/dev/null 2>&1; then
        command -v "$candidate"
        return
      fi
    done
  done
  echo "No Python 3.11, 3.12 or 3.13 found on the PATH; install one and try again." >&2
  return 1
}

python=$(newest)
echo "Installing into $folder with $("$python" --version) ..."
if ! { [ -x "$folder/bin/python" ] && "$folder/bin/python" -c "pass"; } 2>/dev/null; then
  "$python" -m venv "$folder"
fi
# uv installs in seconds what takes pip a minute; without it, pip does the same.
if "$folder/bin/python" -m pip install --quiet --disable-pip-version-check uv -c constraints.txt; then
  "$folder/bin/python" -m uv pip install --quiet --python "$folder/bin/python" \
    -c constraints.txt -e ".[$extras]"
else
  "$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
    -c constraints.txt -e ".[$extras]"
fi
