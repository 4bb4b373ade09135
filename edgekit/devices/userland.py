"""An arm64 Debian userland with Python and engines, for programs that run under qemu-user. Nothing of it is installed:

packages are fetched by an apt with a configuration of its own, which leaves the host's dpkg alone, and unpacked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from edgekit.cache import cache_dir
from edgekit.errors import MissingDependencyError
from edgekit.progress import Progress, Silent

SUITE = "bookworm"
PYTHON, GLIBC_MINOR = "3.11", 36  # what the suite has
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PACKAGES = (
    *("libc6", "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libffi8", "libbz2-1.0", "liblzma5", "libssl3"),
    *(f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib"),
)
# The runtime's own needs and the engines that boards use; those that are installed here, in the same versions.
WHEELS = ("numpy", "tokenizers", "pillow", "onnxruntime", "openvino", "ai-edge-litert")
TIMEOUT_S = 600

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
    found = {}
    for name in WHEELS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


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
        _unpack_wheels(root / "site")
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
    _run([*command, "update"], what)
    _run([*command, "download", *PACKAGES], what, cwd=apt / "debs")
    for package in sorted((apt / "debs").glob("*.deb")):
        _run(["dpkg-deb", "--extract", str(package), str(root)], f"{package.name} cannot be unpacked")


def _unpack_wheels(site: Path) -> None:
    platforms = ["manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, GLIBC_MINOR + 1))]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-compile", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    for abi in (f"cp{PYTHON.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in platforms:
        command += ["--platform", platform]
    pins = [f"{name}=={version}" for name, version in wheels().items()]
    _run([*command, "--target", str(site), *pins], f"arm64 wheels of {', '.join(pins)} cannot be fetched")


def _run(command: Sequence[str], what: str, cwd: Path | None = None) -> None:
    fix = "Check the network and the proxy."
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise MissingDependencyError(what, found=f"no end after {TIMEOUT_S} s", fix=fix) from None
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        errors = [line for line in lines if line.startswith(("E:", "ERROR:"))] or lines
        raise MissingDependencyError(what, found=errors[0] if errors else f"exit {done.returncode}", fix=fix)
