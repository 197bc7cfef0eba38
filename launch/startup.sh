# What every machine of a fleet runs as root at each boot. launch/startup.py puts the
# fleet's own values before it:
#   ROLE       alone (one machine, no cluster), head, or worker
#   MACHINE    its name; HEAD: the address of the head, empty where there is none
#   BUCKET, OBJECTS   where the source and the token are; OBJECTS percent-encoded
#   EXTRAS     of the package; PYTHON, UV: versions
#   LIFETIME, DELETE_URL   after how many seconds and how it deletes itself; empty where
#              the cloud does that
#   ACCELERATOR, TOPOLOGY   of a slice of several hosts on Compute Engine, else empty
set -euo pipefail

ROOT=${DATALAW_ROOT:-/opt/datalaw}
ETC=${DATALAW_ETC:-/etc}
DEV=${DATALAW_DEV:-/dev}
METADATA=http://${GCE_METADATA_HOST:-metadata.google.internal}/computeMetadata/v1/instance
STORAGE=${STORAGE_EMULATOR_HOST:-https://storage.googleapis.com}
export HOME=${HOME:-/root} PATH=$ROOT/bin:$PATH

say() { echo "datalaw: $*" >&2; }

metadata() { # PATH [SECONDS]
  curl -sSf --max-time "${2:-10}" -H "Metadata-Flavor: Google" "$METADATA/$1"
}

# Calls Google as this machine. The login goes through a pipe, so that it stands in no
# command line.
as_machine() { # CURL'S ARGUMENTS
  local login
  login=$(metadata service-accounts/default/token |
    sed -n 's/.*"access_token" *: *"\([^"]*\)".*/\1/p')
  printf 'header = "Authorization: Bearer %s"\n' "$login" |
    curl -sSf --retry 5 --config - "$@"
}

fetch() { # OBJECT FILE
  as_machine -o "$2" "$STORAGE/storage/v1/b/$BUCKET/o/$OBJECTS%2F$1?alt=media"
}

# The images' own Pythons differ and are older than the package allows; Ray needs one
# minor everywhere. An old source tree is removed: a family is found by its file.
install() {
  local digest
  fetch source.tar.gz "$ROOT/source.tar.gz"
  digest=$(sha256sum < "$ROOT/source.tar.gz")
  if [ "$(cat "$ROOT/installed" 2> /dev/null)" = "$digest" ]; then return; fi
  rm -rf "$ROOT/source"
  mkdir -p "$ROOT/source" "$ROOT/bin"
  tar -xzf "$ROOT/source.tar.gz" -C "$ROOT/source"
  if ! [ -x "$ROOT/bin/uv" ]; then
    curl -LsSf --retry 5 "https://astral.sh/uv/$UV/install.sh" |
      env UV_INSTALL_DIR="$ROOT/bin" UV_NO_MODIFY_PATH=1 sh
  fi
  UV_PYTHON_BIN_DIR="$ROOT/bin" uv python install --quiet "$PYTHON"
  (cd "$ROOT/source" && bash install.sh "$ROOT/venv" "$EXTRAS")
  echo "$digest" > "$ROOT/installed"
}

# What an earlier program left keeps JAX from the TPU, or makes it wait for slices that
# are not there.
free_accelerator() {
  local try
  for try in $(seq 60); do
    if ! fuser -s "$DEV"/vfio/[0-9]* "$DEV"/accel* 2> /dev/null; then break; fi
    say "the TPU is busy (look $try)"
    sleep "${DATALAW_PAUSE:-5}"
  done
  rm -f "${TMPDIR:-/tmp}"/libtpu_lockfile*
  if [ -f "$ETC/environment" ]; then sed -i '/^MEGASCALE_/d' "$ETC/environment"; fi
  unset "${!MEGASCALE_@}"
}

# JAX reads the port, the engine the seconds, Ray the keepalives: a host that is lost
# without a word is noticed after seconds and not after minutes.
environment() {
  local worker
  cat << EOF
HOME=$HOME
JAX_COORDINATOR_PORT=8476
SCALING_INITIALIZATION_SECONDS=300
RAY_AUTH_MODE=token
RAY_AUTH_TOKEN_PATH=$ROOT/token
RAY_grpc_keepalive_time_ms=5000
RAY_grpc_keepalive_timeout_ms=5000
RAY_grpc_client_keepalive_time_ms=5000
RAY_grpc_client_keepalive_timeout_ms=5000
EOF
  if [ -n "$TOPOLOGY" ]; then
    worker=$(metadata attributes/agent-worker-number 2> /dev/null || echo 0)
    cat << EOF
TPU_NAME=$MACHINE
TPU_ACCELERATOR_TYPE=$ACCELERATOR
TPU_TOPOLOGY=$TOPOLOGY
TPU_WORKER_ID=$worker
EOF
  fi
}

# The study: five starts a day, as a crash or a lost network is tried again but not for
# ever; exit code 2 is a mistake in the study, which no restart mends, and no cluster yet
# would be one. KillMode: the study passes SIGTERM on to its child itself, once.
study_unit() {
  cat << EOF
[Unit]
Description=a scaling study
Wants=network-online.target
After=network-online.target datalaw-ray.service
StartLimitIntervalSec=1d
StartLimitBurst=5
[Service]
EnvironmentFile=$ROOT/environment
TimeoutStartSec=15min
$(if [ "$ROLE" = head ]; then echo "ExecStartPre=/bin/bash $ROOT/startup.sh ready"; fi)
ExecStart=/bin/bash $ROOT/source/study.sh run
ExecStopPost=/bin/bash $ROOT/source/study.sh ended
Restart=on-failure
RestartSec=60
RestartPreventExitStatus=2
KillMode=mixed
[Install]
WantedBy=multi-user.target
EOF
}

# The head's own Ray takes some seconds to begin.
ready() {
  until "$ROOT/venv/bin/ray" status --address localhost:6379 > /dev/null 2>&1; do
    sleep "${DATALAW_PAUSE:-5}"
  done
}

# A service that is started again whatever happens to it.
steady_unit() { # COMMAND
  cat << EOF
[Unit]
Wants=network-online.target
After=network-online.target
[Service]
EnvironmentFile=$ROOT/environment
ExecStart=$1
Restart=always
RestartSec=5
[Install]
WantedBy=multi-user.target
EOF
}

start() { # UNIT
  cat > "$ETC/systemd/system/$1.service"
  systemctl daemon-reload
  systemctl enable --quiet "$1"
  systemctl restart "$1"
}

# A timer ends with a reboot, and the machine's hours do not begin again.
limit() {
  local left
  if ! [ -s "$ROOT/until" ]; then echo $(($(date +%s) + LIFETIME)) > "$ROOT/until"; fi
  left=$(($(cat "$ROOT/until") - $(date +%s)))
  if [ "$left" -lt 1 ]; then left=1; fi
  systemd-run --quiet --on-active="${left}s" /bin/bash "$ROOT/startup.sh" end
}

# `up` deletes a machine that could not start, and asks for it again twice at most.
failed() { # LINE COMMAND
  trap - ERR
  say "$MACHINE: line $1 failed: $2"
  as_machine --data-binary "$2" -o /dev/null \
    "$STORAGE/upload/storage/v1/b/$BUCKET/o?uploadType=media&name=$OBJECTS%2Ffailed-$MACHINE"
}

boot() {
  set -E
  trap 'failed "$LINENO" "$BASH_COMMAND"' ERR
  umask 077
  mkdir -p "$ROOT"
  if [ "$0" != "$ROOT/startup.sh" ]; then cp "$0" "$ROOT/startup.sh"; fi
  if [ -n "$DELETE_URL" ]; then limit; fi
  install
  environment > "$ROOT/environment"
  if [ "$ROLE" != alone ]; then fetch token "$ROOT/token"; fi
  if [ "$ROLE" != head ]; then
    free_accelerator
    steady_unit "/bin/bash $ROOT/startup.sh watch" | start datalaw-watch
  fi
  case $ROLE in
  head) steady_unit "$ROOT/venv/bin/ray start --head --port=6379 --num-cpus=0 --block" ;;
  worker) steady_unit "$ROOT/venv/bin/ray start --address=$HEAD --block" ;;
  esac | if [ "$ROLE" != alone ]; then start datalaw-ray; fi
  if [ "$ROLE" != worker ]; then study_unit | start datalaw; fi
  say "$MACHINE: started"
}

# Spot and Flex-start machines are told half a minute before they are lost.
watch() {
  local said
  until said=$(metadata preempted) && [ "$said" = TRUE ]; do
    metadata "preempted?wait_for_change=true&timeout_sec=600" 700 > /dev/null ||
      sleep "${DATALAW_PAUSE:-5}"
  done
  say "$MACHINE: told that it will be preempted"
  drain
}

# No new work comes here, and what runs here ends at a checkpoint.
drain() {
  local node
  if [ "$ROLE" = worker ]; then
    set -a
    # shellcheck disable=SC1091
    . "$ROOT/environment"
    set +a
    if ! { node=$("$ROOT/venv/bin/python" -m launch.node) &&
      "$ROOT/venv/bin/ray" drain-node --address "$HEAD" --node-id "$node" \
        --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "$MACHINE is preempted" \
        --deadline-remaining-seconds 25; }; then
      say "$MACHINE: the head was not told"
    fi
    sleep "${DATALAW_GRACE:-20}"
    systemctl stop datalaw-ray
  else
    systemctl stop datalaw
  fi
  # Whoever starts this service again is told again, and the machine is lost by then.
  sleep "${DATALAW_REST:-600}"
}

end() {
  say "$MACHINE: its hours are used"
  until as_machine -X DELETE "$DELETE_URL"; do sleep "${DATALAW_PAUSE:-60}"; done
}

"${1:-boot}"
