"""What kind of machine this is, as far as `ebbgate doctor` wants to know: container, file system, room."""

import os
import sys
from pathlib import Path
from typing import Final

_REMOTE: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs", "lustre"}
)
_CONTAINER_FILES: Final = (
    ("/.dockerenv", "a Docker container"),
    ("/run/.containerenv", "a Podman container"),
)
_CONTAINER_GROUPS: Final = ("docker", "kubepods", "containerd", "libpod", "lxc")


def container() -> str:
    """Return what kind of container this process is in; "" for none, as far as one can tell."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return "a Kubernetes pod"
    for file, kind in _CONTAINER_FILES:
        if Path(file).exists():
            return kind
    try:
        groups = Path("/proc/1/cgroup").read_text(encoding="utf-8")
    except OSError:
        return ""
    return "a container" if any(word in groups for word in _CONTAINER_GROUPS) else ""


def lies_on_volume(path: Path) -> bool:
    """Tell whether a file lies on another file system than the root, which is a container's own."""
    return path.stat().st_dev != Path("/").stat().st_dev


def file_system(path: Path) -> str:
    """Return the type of the file system that a file lies on; "unknown" where the system does not tell."""
    if not sys.platform.startswith("linux"):
        return "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return "unknown"
    best, kind = "", "unknown"
    for line in mounts.splitlines():
        fields = line.split()
        place = fields[1].replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, fields[2]
    return kind


def is_network_disk(kind: str) -> bool:
    """Tell whether files of this file system live on another machine."""
    return kind in _REMOTE


def free_bytes(path: Path) -> int:
    """Return how much this user may still write on the disk of a file."""
    room = os.statvfs(path.parent)
    return room.f_bavail * room.f_frsize
