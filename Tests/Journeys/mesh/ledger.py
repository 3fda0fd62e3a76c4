"""What a run has made on this machine, written down before it is made, so that nothing is ever left behind."""

import json
import os
import threading
import shutil
import signal
import time
from pathlib import Path

from .machine import BPF_FILE_SYSTEM, cgroup2, processes_in, run, start_time

#: Where ledgers live. Not in the build directory: `make clean` must not forget what runs.
DIRECTORY = Path("/run/weft-journeys")


class Ledger:
    """Owned by one world. `close()` undoes everything in the reverse order."""

    def __init__(self, name):
        DIRECTORY.mkdir(exist_ok=True)
        self.path = DIRECTORY / f"{name}.json"
        #: Clients of a test open sockets, and servers start, on threads of their own.
        self.saving = threading.Lock()
        if self.path.exists():
            raise RuntimeError(f"a world called {name} runs already (process {json.loads(self.path.read_text())['owner']}): end it first")
        self.state = {"owner": os.getpid(), "started": start_time(os.getpid()), "namespaces": [], "cgroups": [], "pins": [], "directories": [], "processes": []}
        self._save()

    def _save(self):
        draft = self.path.with_suffix(".draft")
        with self.saving:
            draft.write_text(json.dumps(self.state))
            draft.rename(self.path)

    def note(self, kind, what):
        """Remember something of `kind` that is about to exist."""
        self.state[kind].append(what)
        self._save()

    def note_process(self, pid):
        """Remember a process by pid and start time."""
        self.note("processes", [pid, start_time(pid)])

    def forget(self, kind, what):
        """It was removed in the ordinary way."""
        if what in self.state[kind]:
            self.state[kind].remove(what)
            self._save()

    def close(self):
        """Undo everything."""
        undo(self.state)
        self.path.unlink(missing_ok=True)


def undo(state):
    """Removes everything a ledger names; what is gone already is fine."""
    for pid, started in state["processes"]:
        if started is not None and start_time(pid) == started:
            _kill(pid)
    cgroups = [Path(c) for c in state["cgroups"]]
    root = cgroup2()
    for cgroup in cgroups:
        if root in cgroup.parents:
            _empty(cgroup)
    for name in state["namespaces"]:
        run("ip", "netns", "del", name, check=False)
        shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)
    for pin in state["pins"]:
        if BPF_FILE_SYSTEM in Path(pin).parents:
            shutil.rmtree(pin, ignore_errors=True)
    for cgroup in sorted(cgroups, key=lambda c: -len(c.parts)):
        _remove(cgroup)
    for directory in state["directories"]:
        shutil.rmtree(directory, ignore_errors=True)


def sweep():
    """Removes what runs that ended without cleaning up have left. Worlds of live runs are not touched."""
    if not DIRECTORY.exists():
        return
    for path in DIRECTORY.glob("*.json"):
        try:
            state = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if start_time(state["owner"]) != state["started"]:
            undo(state)
            path.unlink(missing_ok=True)


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass


def _empty(cgroup):
    """Ends every process below one of our own cgroups."""
    for directory in [cgroup, *cgroup.rglob("*/")] if cgroup.exists() else []:
        for _ in range(200):
            members = processes_in(directory)
            if not members:
                break
            for pid in members:
                _kill(pid)
            time.sleep(0.01)


def _remove(cgroup):
    if not cgroup.exists():
        return
    for directory in sorted([cgroup, *(d for d in cgroup.rglob("*") if d.is_dir())], key=lambda d: -len(d.parts)):
        for _ in range(100):
            try:
                directory.rmdir()
                break
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.01)
