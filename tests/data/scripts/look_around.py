"""Reports what a job finds in its container."""

import json
import os
import stat
from pathlib import Path

from worker.job import current

programs, setuid, writable = [], [], []
for folder, folders, files in os.walk("/"):
    if folder in ("/proc", "/sys"):
        folders.clear()
        continue
    if os.access(folder, os.W_OK) and not folder.startswith("/dev/fd"):
        writable.append(folder)
    for name in files:
        path = Path(folder) / name
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & 0o111 and folder in ("/usr/bin", "/usr/sbin", "/usr/local/bin"):
            programs.append(str(path))
        if stat.S_ISREG(mode) and mode & 0o6000:
            setuid.append(str(path))
status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
current().output(
    "look.json",
    json.dumps(
        {
            "programs": programs,
            "setuid": setuid,
            "uid": os.getuid(),
            "capabilities": status["CapEff"],
            "no_new_privileges": status["NoNewPrivs"],
            "seccomp": status["Seccomp"],
            "interfaces": sorted(p.name for p in Path("/sys/class/net").iterdir()),
            "writable": sorted(writable),
        }
    ),
    role="report",
)
