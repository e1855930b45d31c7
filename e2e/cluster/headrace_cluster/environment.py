"""Which parts of this machine make up the project's environment: what pods with its images must see."""

import os
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from headrace_cluster.errors import ClusterError
from headrace_cluster.images import USER_ID

_SYSTEM = (Path("/usr"), Path("/etc/alternatives"), Path("/etc/ssl/certs"))


def _interpreter_homes() -> list[Path]:
    """Every installation on the way from the environment's `python` link to the real file."""
    program, homes = Path(sys.prefix) / "bin" / "python", [Path(sys.base_prefix)]
    while program.is_symlink():
        program = program.parent / program.readlink()
        homes.append(Path(os.path.normpath(program)).parent.parent)
    return [*homes, *(home.resolve() for home in homes)]


def _editable_roots() -> list[Path]:
    """Source folders that editable installs point to: the .pth files' lines that are paths."""
    site = Path(sysconfig.get_path("purelib"))
    lines = [line.strip() for file in sorted(site.glob("*.pth")) for line in file.read_text().splitlines()]
    return [Path(line) for line in lines if line.startswith("/") and Path(line).is_dir()]


def without_nested(paths: Iterable[Path]) -> list[Path]:
    """The paths that lie in no other of them, in order and once."""
    wanted = list(dict.fromkeys(paths))
    return [path for path in wanted if not any(path != other and path.is_relative_to(other) for other in wanted)]


def folders(models: Path) -> list[Path]:
    """Folders to mount read-only into pods at the same path; raises ClusterError if one can't be read by a pod."""
    own = [*_interpreter_homes(), Path(sys.prefix), *_editable_roots(), models]
    found = without_nested([*(path for path in _SYSTEM if path.is_dir()), *own])
    for folder in found:
        # Folders above don't matter: the kubelet mounts this one, and the image's own parents are open.
        if folder.stat().st_mode & 0o005 != 0o005:
            raise ClusterError(
                f"{folder} can't be read by pods, which run as user {USER_ID}: `chmod o+rx {folder}` and what is in it."
            )
    return found


def search_path() -> str:
    """PATH in the project's image: the environment's programs, the system's, and busybox last."""
    return f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/bb"
