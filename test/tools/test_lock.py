"""The locks hold what requirements/*.txt ask for, every file with a digest, and name no
registry.
"""

import re

import pytest

from test.conftest import ROOT

pytest.importorskip("tomllib", reason="tools/lock.py runs on CPython 3.11 and newer")
from tools.lock import CPU_BUILDS, digests_of, fits, python_of

FOLDER = ROOT / "requirements"
PIN = re.compile(r"^([\w.-]+)==(\S+)( ; python_version == '3\.1[12]')?$")
# The locks that are installed for each list.
LOCKS = {
    "runtime.txt": ("build", "runtime", "torch", "torch-cuda"),
    "fleet.txt": ("build", "runtime", "fleet"),
    "test.txt": ("build", "runtime", "fleet", "test"),
    "parity-frameworks.txt": ("build", "runtime", "fleet", "test", "parity-frameworks"),
    "parity.txt": ("parity",),
    "python310.txt": ("python310",),
    "sim.txt": ("sim",),
}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins_of(lock: str) -> dict[str, set[str]]:
    """Versions by name; every line of the file is a header, a pin that has digests, or a digest."""
    text = (FOLDER / f"{lock}.lock").read_text()
    pins: dict[str, set[str]] = {}
    for entry in text.partition("\n")[2].replace(" \\\n    ", " ").splitlines():
        pin, *digests = entry.split(" --hash=sha256:")
        match = PIN.fullmatch(pin)
        assert match and digests and all(re.fullmatch("[0-9a-f]{64}", d) for d in digests), entry
        pins.setdefault(normal(match[1]), set()).add(match[2])
    return pins


@pytest.mark.parametrize("listed", LOCKS)
def test_a_lock_has_what_its_list_asks_for(listed):
    """After a change of a list, `make lock` is due."""
    locked: dict[str, set[str]] = {}
    for lock in LOCKS[listed]:
        for name, versions in pins_of(lock).items():
            locked[name] = (
                versions
                if listed.startswith("parity") and lock.startswith("parity")
                else locked.get(name, set()) | versions
            )
    asked = [re.sub(r"\s*(#.*)?$", "", line) for line in (FOLDER / listed).read_text().splitlines()]
    asked = [re.sub(r"\[.*\]", "", line).split("==") for line in asked if line]  # without extras
    assert asked and all(locked.get(normal(name)) == {version} for name, version in asked), [
        (name, version, locked.get(normal(name)))
        for name, version in asked
        if locked.get(normal(name)) != {version}
    ]


@pytest.mark.parametrize(
    "path", sorted(p for p in FOLDER.rglob("*") if p.is_file()), ids=lambda path: path.name
)
def test_no_list_names_a_registry_or_a_machine(path):
    assert not re.search(
        r"https?:|file:|index-url|find-links|/(home|root|tmp|work|opt)/", path.read_text()
    )


def test_both_builds_of_torch_are_locked_at_one_version():
    (version,) = pins_of("torch")["torch"]
    assert pins_of("torch-cpu")["torch"] == {f"{version}+cpu"} and set(CPU_BUILDS) == {version}
    assert not any(name.startswith("nvidia") for name in (*pins_of("runtime"), *pins_of("test")))


@pytest.mark.parametrize(
    "wheel, wanted",
    [
        ("numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl", True),
        ("numpy-2.4.6-cp313-cp313-manylinux_2_28_x86_64.whl", False),
        ("numpy-2.4.6-cp312-cp312-musllinux_1_2_x86_64.whl", False),
        ("numpy-2.4.6-cp312-cp312-manylinux_2_28_aarch64.whl", False),
        ("numpy-2.4.6-cp312-cp312-win_amd64.whl", False),
        ("safetensors-0.8.0-cp310-abi3-manylinux_2_17_x86_64.whl", True),
        ("x-1-cp313-abi3-manylinux_2_17_x86_64.whl", False),
        ("typer-0.29.2-py3-none-any.whl", True),
        ("six-1-py2.py3-none-any.whl", True),
        ("old-1-py2-none-any.whl", False),
    ],
)
def test_only_wheels_that_can_be_installed_are_locked(wheel, wanted):
    assert fits(wheel) is wanted


def test_a_package_without_such_a_wheel_is_locked_by_its_source():
    package = {
        "sdist": {"hashes": {"sha256": "source"}},
        "wheels": [
            {
                "url": "https://x/a-1-cp313-cp313-manylinux_2_28_x86_64.whl",
                "hashes": {"sha256": "wheel"},
            }
        ],
    }
    assert digests_of(package) == ["source"]
    assert python_of("python_full_version == '3.12.*' and sys_platform == 'linux'") == "3.12"
    assert python_of("python_full_version >= '3.11' and python_full_version < '3.13'") == ""
