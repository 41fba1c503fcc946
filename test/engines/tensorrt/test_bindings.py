"""The names and signatures of TensorRT that the code uses, held against NVIDIA's own bindings of
several versions.

The bindings are small wheels; the libraries that they link to are not to be had here, and a dozen C
functions that do nothing stand in for them: they let the module load, and nothing is ever called.
"""

import ast
import enum
import inspect
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.engines import standin_tensorrt
from test.waiting import PROGRAM_S
from vit_perception.engines.tensorrt import api as tensorrt_api

VERSIONS = ("10.3.0", "10.13.3.9", "11.4.0.106")  # JetPack 6, JetPack 7, pip
FOLDER = Path(sys.prefix) / "tensorrt_bindings"
SOURCES = [
    ROOT / "vit_perception/engines/tensorrt" / f"{name}.py" for name in ("api", "build", "engine")
]
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
LIBRARIES = ("libnvinfer.so", "libnvonnxparser.so", "libnvinfer_plugin.so")
# What the code calls each object, and its class; "" is the module itself.
CLASSES = {
    "api": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timings": "ITimingCache",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "self._context": "IExecutionContext",
    "images": "ITensor",
    "error": "ParserError",
    "self._loaded[1]": "ICudaEngine",
    "severities": "ILogger.Severity",
}
# In these functions a name means something else, or the code is TensorRT-RTX's alone (held by its
# real builds).
ELSEWHERE = {
    "config": {"make_context"},
    "images": {"_allocate", "_enqueue", "_run"},
    "engine": {"build_engine"},
    "error": {
        "find_gpu",
        "load_api",
        "driver_fault",
        "_open",
        "load_engine",
        "build_engine",
        "_warm_up_and_capture",
    },
}
# Attributes of one runtime alone, which the code asks for by name before it uses them.
PYTHONS = {"__init__", "__name__"}
OF_RTX = {"create_runtime_config", "num_compute_capabilities", "set_compute_capability"}
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)")


def used(path):
    """{(name, attribute, number of arguments or None where it is not called)} in a source file."""
    found = set()
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        calls = {
            id(node.func): len(node.args) + len(node.keywords)
            for node in ast.walk(function)
            if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args)
        }
        starred = {
            id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)
        } - set(calls)
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute):
                continue
            name = ast.unparse(node.value)
            owner = name[len("api.") :] if name.startswith("api.") else CLASSES.get(name)
            if (
                owner is not None
                and function.name not in ELSEWHERE.get(name, ())
                and node.attr not in OF_RTX | PYTHONS
            ):
                found.add((owner, node.attr, None if id(node) in starred else calls.get(id(node))))
    return found


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A folder for each major version with libraries of functions that do nothing."""
    made = {}
    for major in ("10", "11"):
        folder = tmp_path_factory.mktemp(f"libraries{major}")
        (folder / "empty.c").write_text(
            "".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS)
        )
        for library in LIBRARIES:
            subprocess.run(
                [
                    "cc",
                    "-shared",
                    "-fPIC",
                    f"-Wl,-soname,{library}.{major}",
                    "-o",
                    str(folder / f"{library}.{major}"),
                    str(folder / "empty.c"),
                ],
                check=True,
                timeout=PROGRAM_S,
            )
        made[major] = folder
    return made


# In a process of its own: one process loads one version.
INSPECT = """
import ctypes, functools, json, sys
folder, libraries, wanted = sys.argv[1], sys.argv[2].split(","), json.loads(sys.argv[3])
for library in libraries:
    ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
sys.path.insert(0, folder)
import tensorrt_bindings as api
found = {}
for owner, attribute in wanted:
    path = [*filter(None, owner.split(".")), attribute]
    value = functools.reduce(lambda at, name: getattr(at, name, None), path, api)
    found[f"{owner}.{attribute}"] = None if value is None else (getattr(value, "__doc__", None) or "")
print(json.dumps(found))
"""  # noqa: E501


def all_used():
    wanted = set().union(*(used(path) for path in SOURCES))
    assert {
        ("", "Builder", 1),
        ("Builder", "build_serialized_network", 2),
        ("IExecutionContext", "execute_async_v3", 1),
    } <= wanted, "the search finds nothing any more"
    return wanted


def documentation_of(names, version, libraries):
    """{"owner.attribute": NVIDIA's documentation of it, None where there is no such thing} for
    (owner, attribute)s.
    """
    bindings = FOLDER / version
    if not bindings.is_dir():
        pytest.skip(f"tensorrt bindings {version} are not in {FOLDER}; `make test` puts them there")
    major = version.partition(".")[0]
    stubs = ",".join(str(libraries[major] / f"{library}.{major}") for library in LIBRARIES)
    done = subprocess.run(
        [sys.executable, "-c", INSPECT, str(bindings), stubs, json.dumps(sorted(names))],
        capture_output=True,
        text=True,
        timeout=PROGRAM_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_with_the_signature_used(version, libraries):
    wanted = all_used()
    documented = documentation_of(
        {(owner, attribute) for owner, attribute, _ in wanted}, version, libraries
    )
    faults = []
    for owner, attribute, count in sorted(wanted, key=str):
        text = documented[f"{owner}.{attribute}"]
        if text is None:
            faults.append(f"{owner or 'tensorrt'}.{attribute} does not exist")
        elif (
            count is not None and (accepted := arguments(text, attribute)) and count not in accepted
        ):
            faults.append(f"{owner}.{attribute} takes {accepted} arguments, not {count}")
    assert not faults, f"{version}: {faults}"


def arguments(documentation: str, name: str) -> set[int]:
    """The numbers of arguments that pybind11's signatures of ``name`` allow; empty where none is
    documented.
    """
    allowed = set()
    for listed in re.findall(rf"{name}\((.*?)\) ->", documentation):
        given = [
            part
            for part in re.split(r", (?=\w+:)", listed)
            if part and not part.startswith("self:")
        ]
        allowed |= set(range(sum("=" not in part for part in given), len(given) + 1))
    return allowed


def surface(api):
    """{(owner, public attribute): the numbers of arguments that it takes, None where it is not
    called} of a module.
    """
    found = {}
    for name, value in vars(api).items():
        if not isinstance(value, type):
            continue
        found["", name] = None
        members = [attribute for attribute in dir(value) if not attribute.startswith("_")]
        if issubclass(value, enum.Enum):
            members = list(value.__members__)
        for attribute in members:
            member = inspect.getattr_static(value, attribute)
            found[name, attribute] = parameters(member) if inspect.isfunction(member) else None
    return found


def parameters(function):
    given = list(inspect.signature(function).parameters.values())[1:]
    return set(range(sum(one.default is one.empty for one in given), len(given) + 1))


def test_the_standin_has_all_that_the_code_uses(monkeypatch):
    api = standin_tensorrt.install(monkeypatch, device="cpu").api
    has, faults = surface(api), []
    instances = {
        "ITensor": ("name", "dtype", "shape"),
        "IBuilderConfig": ("progress_monitor",),
    }  # set in __init__
    for owner, attribute, count in sorted(all_used(), key=str):
        first, _, inner = owner.partition(".")
        if inner:
            exists = hasattr(getattr(getattr(api, first), inner), attribute)
        elif not owner and not isinstance(getattr(api, attribute, None), type):
            exists = hasattr(api, attribute)
        else:
            exists = (owner, attribute) in has or attribute in instances.get(owner, ())
        if not exists:
            faults.append(f"no {owner}.{attribute}")
        elif count is not None and (takes := has.get((owner, attribute))) and count not in takes:
            faults.append(f"{owner}.{attribute} takes {takes} arguments, not {count}")
    assert not faults, faults


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_the_standin_has_nothing_that_nvidias_module_has_not(version, libraries, monkeypatch):
    """So that no test passes on a name, or a number of arguments, that the real one refuses."""
    has = surface(standin_tensorrt.install(monkeypatch, device="cpu").api)
    documented, faults = documentation_of(has, version, libraries), []
    for (owner, attribute), takes in has.items():
        text = documented[f"{owner}.{attribute}"]
        if (
            text is None and attribute != "STRONGLY_TYPED"
        ):  # which the code asks for by name: 11 has it no more
            faults.append(f"{owner or 'tensorrt'}.{attribute} does not exist")
        elif takes and (accepted := arguments(text or "", attribute)) and not takes <= accepted:
            faults.append(f"{owner}.{attribute} takes {accepted} arguments, the stand-in {takes}")
    assert not faults, f"{version}: {faults}"


@pytest.mark.skipif(
    not tensorrt_api.module_name("tensorrt_rtx"),
    reason="tensorrt-rtx-cu13-libs and -bindings are not installed",
)
def test_the_standin_for_rtx_has_nothing_that_nvidias_module_has_not(monkeypatch):
    real, faults = tensorrt_api.load_api("tensorrt_rtx"), []
    for (owner, attribute), takes in surface(
        standin_tensorrt.install(monkeypatch, "tensorrt_rtx", "cpu").api
    ).items():
        there = getattr(getattr(real, owner, None) if owner else real, attribute, None)
        accepted = arguments(getattr(there, "__doc__", None) or "", attribute)
        if there is None and owner != "ComputeCapability":  # the stand-in runs on any GPU
            faults.append(f"{owner or 'tensorrt_rtx'}.{attribute} does not exist")
        elif takes and accepted and not takes <= accepted:
            faults.append(f"{owner}.{attribute} takes {accepted} arguments, the stand-in {takes}")
    assert not faults, faults


def test_signatures_are_read():
    text = (
        "set_timing_cache(self: x.IBuilderConfig, cache: x.ITimingCache, ignore_mismatch: bool = "
        "True) -> bool"
    )
    assert (
        arguments(text, "set_timing_cache") == {1, 2} and arguments("A property.", "name") == set()
    )
