"""The shell commands that the VM runs: install, start, show."""

from __future__ import annotations

UNIT = "datalaw.service"
ARCHIVE = "datalaw.tar.gz"


# The images' own Python is older than the package allows, so uv brings a newer one
# for install.sh to find. An old source tree is removed: a family is found by its file.
INSTALL = " && ".join(
    (
        "rm -rf datalaw/source",
        "mkdir -p datalaw/source",
        f"tar -xzf {ARCHIVE} -C datalaw/source",
        "cd datalaw/source",
        "python3 -m pip install --quiet --user -c constraints.txt uv",
        "python3 -m uv python install --quiet 3.13",
        'PATH="$HOME/.local/bin:$PATH" bash install.sh ../venv tpu,corpora,gcs',
    )
)

# Five starts a day: a crash or a lost network is tried again, but not for ever. Exit
# code 2 is a mistake in the study, which no restart mends. KillMode: the study passes
# SIGTERM on to its child itself, once.
_UNIT_LINES = (
    "'[Unit]'",
    "'Description=a scaling study'",
    "'Wants=network-online.target'",
    "'After=network-online.target'",
    "'StartLimitIntervalSec=1d'",
    "'StartLimitBurst=5'",
    "'[Service]'",
    '"User=$(id -un)"',
    '"ExecStart=/bin/bash $HOME/datalaw/source/study.sh run"',
    "'Restart=on-failure'",
    "'RestartSec=60'",
    "'RestartPreventExitStatus=2'",
    "'KillMode=mixed'",
    "'[Install]'",
    "'WantedBy=multi-user.target'",
)
START = " && ".join(
    (
        f"printf '%s\\n' {' '.join(_UNIT_LINES)}"
        f" | sudo tee /etc/systemd/system/{UNIT} > /dev/null",
        "sudo systemctl daemon-reload",
        f"{{ sudo systemctl reset-failed {UNIT} 2> /dev/null || true; }}",
        f"sudo systemctl enable --quiet {UNIT}",
        f"sudo systemctl restart {UNIT}",
    )
)
RUNNING = (
    f"systemctl is-active {UNIT}; cat datalaw/source/study.sh 2> /dev/null || true"
)
STATUS = (
    f"systemctl show {UNIT} --property=ActiveState,SubState,Result,NRestarts"
    " && bash datalaw/source/study.sh status"
)
LOGS = f"sudo journalctl --unit={UNIT} --no-pager --output=cat --lines=100"
