"""An arm64 Debian userland with Python and engines, for programs that run under qemu-user. Nothing of it is installed:

packages are fetched by an apt with a configuration of its own, which leaves the host's dpkg alone, and unpacked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from edgekit.cache import cache_dir
from edgekit.devices.wheels import TIMEOUT_S, Platform, installed, run, unpack
from edgekit.errors import MissingDependencyError
from edgekit.progress import Progress, Silent

SUITE = "bookworm"
PYTHON, GLIBC_MINOR = "3.11", 36  # what the suite has
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
    "busybox-static",  # a shell, for who enters it
)
# The runtime's own needs and the engines that boards use; those that are installed here, in the same versions.
WHEELS = ("numpy", "tokenizers", "pillow", "onnxruntime", "openvino", "ai-edge-litert")

_APT = """
Dir::State "{apt}/state";
Dir::State::status "{apt}/status";
Dir::Cache "{apt}/cache";
Dir::Etc::SourceList "{apt}/sources.list";
Dir::Etc::SourceParts "{apt}/none";
Dir::Etc::Preferences "{apt}/none/preferences";
Dir::Etc::PreferencesParts "{apt}/none";
APT::Architecture "arm64";
#clear APT::Architectures;
APT::Architectures {{ "arm64"; }};
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
"""


def wheels() -> dict[str, str]:
    """Name -> version of the packages that the userland gets: answers may differ by processor, not by version."""
    return installed(WHEELS)


def folder() -> Path:
    """Where the userland lies, built or not; its name is a hash of what is in it."""
    content = json.dumps([SUITE, PYTHON, PACKAGES, wheels()], sort_keys=True)
    return cache_dir().resolve() / "userland" / hashlib.sha256(content.encode()).hexdigest()[:16]


def userland(progress: Progress = Silent(), mirror: str = "") -> Path:
    """The userland's folder, built on first use (about 310 MB): ``usr`` and ``lib`` as on Debian, wheels in ``site``.

    ``mirror``: where Debian's packages are; "" is where this machine's own apt gets them.
    Raises ``MissingDependencyError`` naming what is not there: apt, Debian's keys, pip, the network.
    """
    target = folder()
    if target.is_dir():
        return target
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise MissingDependencyError(
                tool, found="not on the PATH", expected="a Debian or Ubuntu machine", fix="Emulate on one of those."
            )
    if not KEYRING.is_file():
        raise MissingDependencyError(
            str(KEYRING), found="no such file", expected="Debian's keys", fix="apt-get install debian-archive-keyring"
        )
    progress.say(f"emulate: building an arm64 userland in {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob("*.partial-*"):  # by a process that was killed: a build takes seconds
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{target.name}.partial-", dir=target.parent) as work:
        root = Path(work) / "root"
        root.mkdir()
        _unpack_debian(root, Path(work) / "apt", mirror or debian_mirror())
        pins = [f"{name}=={version}" for name, version in wheels().items()]
        unpack(pins, Platform("aarch64", PYTHON, GLIBC_MINOR), root / "site")
        try:
            os.rename(root, target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same content
                raise
    return target


def debian_mirror() -> str:
    """The address that this machine's apt has for the suite. Raises ``MissingDependencyError`` where it has none."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", f"Release: {SUITE}"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False).stdout.split()
    except OSError:
        listed = []
    if not listed:
        raise MissingDependencyError(
            f"Debian {SUITE}",
            found="no such suite in this machine's apt",
            expected="a line for it in its sources",
            fix=f"Emulate on a machine with Debian {SUITE}, or add its main suite to apt's sources.",
        )
    return listed[0]


def _unpack_debian(root: Path, apt: Path, mirror: str) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "none", "debs"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [arch=arm64 signed-by={KEYRING}] {mirror} {SUITE} main\n")
    (apt / "apt.conf").write_text(_APT.format(apt=apt))
    command = ["apt-get", "-c", str(apt / "apt.conf"), "-qq"]  # read after the host's, so its proxies stay
    what = f"arm64 packages of Debian {SUITE} cannot be fetched"
    run([*command, "update"], what)
    run([*command, "download", *PACKAGES], what, cwd=apt / "debs")
    for package in sorted((apt / "debs").glob("*.deb")):
        run(["dpkg-deb", "--extract", str(package), str(root)], f"{package.name} cannot be unpacked")
