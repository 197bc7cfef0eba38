"""A made-up gcloud and VM, and the command of the launcher that meets them.

The made-up gcloud writes down its arguments, answers `describe` from a list, and runs
what ssh is given in a real shell, in a home folder of its own, where python, scaling,
sudo and systemctl only write down how they were called.
"""

import json
import os
import shutil
import stat
import subprocess
import sys

from launch import main

GCLOUD = """#!{python} -IS
import json, os, shutil, signal, subprocess, sys, time
home, words = {home!r}, sys.argv[1:]
with open({calls!r}, "a+") as file:
    file.write(json.dumps(words) + "\\n")
    file.seek(0)
    number = len(file.readlines()) - 1
if str(number) == os.environ.get("SIGNAL_AT"):
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(60)
if str(number) in os.environ.get("FAILS_AT", "").split():
    sys.exit("ERROR: connection lost")
if "delete" in words and os.path.exists({calls!r} + ".gone"):
    sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found")
fails = os.environ.get("FAILS", "")
if fails and fails in " ".join(words):
    sys.exit("WARNING: first\\nERROR: quota\\n")
if "describe" in words:
    with open({states!r}) as file:
        state, *rest = json.load(file)
    with open({states!r}, "w") as file:
        json.dump(rest or [state], file)
    if not state:
        sys.exit("ERROR: (gcloud) NOT_FOUND: Resource was not found")
    print(state)
if "scp" in words:
    shutil.copy(words[4], os.path.join(home, words[5].partition(":")[2]))
if "ssh" in words:
    command = [w for w in words if w.startswith("--command=")][0].partition("=")[2]
    environment = {{"HOME": home, "PATH": {tools!r}}}
    done = subprocess.run(["bash", "-c", command], cwd=home, env=environment)
    sys.exit(done.returncode)
"""

# One script under many names; what it is called by and with goes to a file.
TOOL = """#!/bin/bash
name=${0##*/}
printf '%s\\0' "$name" "$@" >> "$HOME/called"
printf '\\n' >> "$HOME/called"
case "$name $*" in
*"-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "$0" "$3/bin/scaling" ;;
sudo\\ tee*) cat > "$HOME/unit" ;;
sudo*) exec "$@" ;;
systemctl\\ restart*) eval "$(sed -n 's/^ExecStart=//p' "$HOME/unit")" ;;
systemctl\\ is-active*) cat "$HOME/active" 2> /dev/null || { echo inactive; exit 3; } ;;
esac
"""
STUBS = ("python3", "python3.13", "sudo", "systemctl", "journalctl")
REAL = ("bash", "cat", "cp", "dirname", "gzip", "id", "mkdir", "rm", "sed", "tar")


class Cloud:
    def __init__(self, folder, monkeypatch, capfd):
        self.monkeypatch, self.capfd = monkeypatch, capfd
        self.home = folder / "vm"
        self.calls_file, self.states_file = folder / "calls", folder / "states"
        self.mine = folder / "mine"
        tools, self.bin = folder / "tools", folder / "bin"
        for made in (self.home, tools, self.bin, self.mine):
            made.mkdir()
        for name in STUBS:
            write_program(tools / name, TOOL)
        for name in REAL:
            (tools / name).symlink_to(shutil.which(name))
        made = {
            "python": sys.executable,
            "home": str(self.home),
            "calls": str(self.calls_file),
            "states": str(self.states_file),
            "tools": str(tools),
        }
        write_program(self.bin / "gcloud", GCLOUD.format(**made))
        self.states("", "ACTIVE\tv5litepod-8")

    def states(self, *states):
        """What `describe` answers, one after the other; "" for no such resource."""
        self.states_file.write_text(json.dumps(states))
        self.calls_file.unlink(missing_ok=True)

    def __call__(self, *words, fails="", path=None, **more):
        """The command in this process: quicker than a process of its own.

        Args:
          fails: part of the gcloud commands that fail.
          more: FAILS_AT, numbers of gcloud calls that fail; SIGNAL_AT, the one during
            which this process gets SIGTERM.
        """
        given = {"FAILS_AT": "", "SIGNAL_AT": ""} | more
        for name, value in (self.environment(fails, path) | given).items():
            self.monkeypatch.setenv(name, value)
        self.capfd.readouterr()
        code = main.main(main.parse(["scaling-launch", *map(str, words)]))
        return subprocess.CompletedProcess(words, code, *self.capfd.readouterr())

    def apart(self, *words):
        """The console script in a process of its own."""
        script = "from launch import main; main.entry()"
        return subprocess.run(
            [sys.executable, "-c", script, *map(str, words)],
            env=os.environ | self.environment(),
            capture_output=True,
            text=True,
        )

    def environment(self, fails="", path=None):
        search = path or f"{self.bin}:{os.environ['PATH']}"
        return {"PATH": str(search), "HOME": str(self.mine), "FAILS": fails}

    @property
    def calls(self):
        if not self.calls_file.exists():
            return []
        return [json.loads(line) for line in self.calls_file.read_text().splitlines()]

    @property
    def verbs(self):
        return [words[3] for words in self.calls]

    @property
    def called(self):
        """Programs of the VM with their arguments."""
        lines = (self.home / "called").read_text().split("\0\n")
        return [line.split("\0") for line in lines if line]


def write_program(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


WHERE = ("--name", "mine", "--zone", "us-west4-a")
WORKDIR = "gs://bucket/it's mine"
NEW = ["describe", "create", "describe", "scp", "ssh", "ssh"]


def ask(study, *more, workdir=WORKDIR, target="v5litepod-8"):
    words = ("up", study, *WHERE, "--target", target, "--workdir", workdir)
    return (*words, "--poll_seconds", "0", *more)


END = "mine may exist and be billed; to delete it: scaling-launch down "
END += "--name mine --zone us-west4-a"
