"""Write requirements/*.lock: every package that is installed, with its version and the digests of
its files.

    make lock

Each ROS release has a lock of its own (ros-*.lock); all other packages are the same for each.
Directly needed packages are pinned in requirements/*.txt by hand. All others are resolved anew, to
the newest that fit, for Linux on x86-64 with CPython 3.11 and 3.12; python310.txt for 3.10. A lock
lists the wheels for these alone, and the source of what has no wheel. It names neither a registry
nor this machine, so that a mirror which serves the same files will do.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import tomllib

FOLDER = Path(__file__).resolve().parent.parent / "requirements"
ENVIRONMENT = (
    "sys_platform == 'linux' and platform_machine == 'x86_64' and implementation_name == 'cpython' "
    "and platform_python_implementation == 'CPython' "
    "and python_full_version >= '3.{}' and python_full_version < '3.{}'"
)
PYTHONS = (11, 12)  # of CPython 3
ONE_PYTHON = re.compile(r"python_full_version == '(3\.1[12])\.\*'")
ROS_RELEASES = ("kilted", "jazzy")
# What only torch's CUDA build needs; its CPU build does without.
CUDA = re.compile(r"(nvidia|cuda)-.*|triton")
# torch's own builds without CUDA, as its makers publish them. PyPI has none; a mirror or a folder
# of wheels may.
CPU_BUILDS = {
    "2.13.0": (
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",  # CPython 3.11
        "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",
    )
}  # CPython 3.12
HEADER = "# Written by `make lock`, from {}. Do not edit.\n"

Package = tuple[
    str, str, str
]  # name, version, and "3.11" or "3.12" where it is for that Python alone
Locked = dict[Package, list[str]]  # the digests of the files


def main() -> int:
    build = resolve(["build.txt"])
    runtime = resolve(["build.txt", "runtime.txt", f"ros-{ROS_RELEASES[0]}.txt"])
    every, ros = without_ros(runtime)
    write(f"ros-{ROS_RELEASES[0]}", [f"ros-{ROS_RELEASES[0]}.txt"], ros)
    for release in ROS_RELEASES[1:]:
        given = resolve(["build.txt", "runtime.txt", f"ros-{release}.txt"], like=every)
        others, ros = without_ros(given)
        if more := without(others, every):
            raise SystemExit(f"ROS {release} also needs {sorted(more)}: name it in runtime.txt")
        write(f"ros-{release}", [f"ros-{release}.txt"], ros)
    runtime = every
    fleet = resolve(["build.txt", "runtime.txt", "fleet.txt"], like=runtime)
    test = resolve(["build.txt", "runtime.txt", "fleet.txt", "test.txt"], like=fleet)
    torch = {package: digests for package, digests in runtime.items() if package[0] == "torch"}
    cpu = {("torch", f"{version}+cpu", ""): list(CPU_BUILDS[version]) for _, version, _ in torch}
    cuda = {package: digests for package, digests in runtime.items() if CUDA.fullmatch(package[0])}
    write("build", ["build.txt"], build)
    write("runtime", ["runtime.txt"], without(runtime, build, torch, cuda))
    write("torch", ["runtime.txt"], torch)
    write("torch-cpu", ["runtime.txt"], cpu)
    write("torch-cuda", ["runtime.txt"], cuda)
    write("fleet", ["fleet.txt"], without(fleet, runtime))
    write("test", ["test.txt"], without(test, fleet))
    write(
        "parity-frameworks",
        ["parity-frameworks.txt"],
        without(resolve(["parity-frameworks.txt"], like=test), test),
    )
    write("parity", ["parity.txt"], resolve(["parity.txt"], "--no-deps"))
    write("sim", ["sim.txt"], resolve(["sim.txt"]))
    write("python310", ["python310.txt"], resolve(["python310.txt"], pythons=(10,)))
    return 0


def without_ros(packages: Locked) -> tuple[Locked, Locked]:
    """(all others, the wheels of ROS)."""
    ros = {
        package: digests for package, digests in packages.items() if package[0].startswith("ros-")
    }
    return without(packages, ros), ros


def resolve(
    files: list[str], *options: str, like: Locked | None = None, pythons: tuple[int, ...] = PYTHONS
) -> Locked:
    """What is installed for ``files``; of ``like`` are the versions that are taken where they
    fit.
    """
    environment = ENVIRONMENT.format(pythons[0], pythons[-1] + 1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for file in files:
            shutil.copy(FOLDER / file, folder)
        (folder / "pyproject.toml").write_text(f'[tool.uv]\nenvironments = ["{environment}"]\n')
        if like:
            (folder / "liked.txt").write_text(
                "".join(
                    f"{name}=={version}"
                    + (f" ; python_full_version == '{python}.*'" if python else "")
                    + "\n"
                    for name, version, python in like
                )
            )
            # uv keeps to the versions in the file that it is to write.
            shutil.copy(folder / "liked.txt", folder / "out.txt")
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            *files,
            "--universal",
            "--python-version",
            f"3.{pythons[0]}",
            "--no-header",
            "--quiet",
            *options,
        ]
        subprocess.run([*command, "--output-file", "out.txt"], cwd=folder, check=True)
        # The same versions again, with the names of the files that the digests belong to.
        subprocess.run(
            [
                *command,
                "--constraint",
                "out.txt",
                "--format",
                "pylock.toml",
                "--output-file",
                "pylock.toml",
            ],
            cwd=folder,
            check=True,
        )
        packages = tomllib.loads((folder / "pylock.toml").read_text())["packages"]
    return {
        (p["name"], p["version"], python_of(p.get("marker", ""))): digests_of(p, pythons)
        for p in packages
    }


def python_of(marker: str) -> str:
    """The one Python that a package is for; "" for both."""
    match = ONE_PYTHON.search(marker)
    return match[1] if match else ""


def digests_of(package: dict, pythons: tuple[int, ...] = PYTHONS) -> list[str]:
    """Of the wheels that are for Linux on x86-64 and these Pythons; of the source where there is no
    such wheel.
    """
    wheels = [
        wheel
        for wheel in package.get("wheels", ())
        if fits(wheel["url"].rpartition("/")[2], pythons)
    ]
    files = wheels or [package["sdist"]]
    return sorted(file["hashes"]["sha256"] for file in files)


def fits(wheel: str, pythons: tuple[int, ...] = PYTHONS) -> bool:
    """Whether one of these CPythons on x86-64 Linux with glibc can take the file."""
    python, abi, platform = wheel.removesuffix(".whl").split("-")[-3:]
    if platform != "any" and not ("manylinux" in platform and "x86_64" in platform):
        return False
    oldest = re.fullmatch(r"cp3(\d+)", python)
    if abi == "abi3" and oldest:
        return int(oldest[1]) <= pythons[-1]
    return python in {f"cp3{minor}" for minor in pythons} or "py3" in python.split(".")


def without(packages: Locked, *others: Iterable[Package]) -> Locked:
    left_out = {package for other in others for package in other}
    return {package: digests for package, digests in packages.items() if package not in left_out}


def write(name: str, files: list[str], packages: Locked) -> None:
    lines = [HEADER.format(" and ".join(f"requirements/{file}" for file in files))]
    for (package, version, python), digests in sorted(packages.items()):
        marker = f" ; python_version == '{python}'" if python else ""
        hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in digests)
        lines.append(f"{package}=={version}{marker}{hashes}\n")
    (FOLDER / f"{name}.lock").write_text("".join(lines))
    print(f"requirements/{name}.lock: {len(packages)} packages")


if __name__ == "__main__":
    sys.exit(main())
