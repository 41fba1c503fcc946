"""The names and signatures of TensorRT that the code uses, held against NVIDIA's own bindings of several versions.

The bindings are small wheels; the libraries that they link to are not to be had here, and a dozen C functions that
do nothing stand in for them: they let the module load, and nothing is ever called.
"""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest

from test.conftest import ROOT

VERSIONS = ("10.3.0", "10.13.3.9", "11.4.0.106")  # JetPack 6, JetPack 7, pip
FOLDER = ROOT / ".venv" / "tensorrt_bindings"
SOURCES = [ROOT / "vit_perception/engines" / f"tensorrt_{name}.py" for name in ("api", "build", "engine")]
FUNCTIONS = ("createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
             "createNvOnnxParser_INTERNAL", "createNvOnnxParserRefitter_INTERNAL", "getBuilderPluginRegistry",
             "getNvOnnxParserVersion", "getPluginRegistry", "initLibNvInferPlugins")
LIBRARIES = ("libnvinfer.so", "libnvonnxparser.so", "libnvinfer_plugin.so")
# What the code calls each object, and its class; "" is the module itself.
CLASSES = {"api": "", "builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser",
           "config": "IBuilderConfig", "profile": "IOptimizationProfile", "timings": "ITimingCache",
           "runtime": "Runtime", "engine": "ICudaEngine", "self._context": "IExecutionContext", "images": "ITensor",
           "error": "ParserError", "self._loaded[1]": "ICudaEngine", "severities": "ILogger.Severity"}
# In these functions a name means something else, or the code is TensorRT-RTX's alone (held by its real builds).
ELSEWHERE = {"config": {"make_context"}, "images": {"_allocate", "_enqueue", "_run"}, "engine": {"build_engine"},
             "error": {"find_gpu", "load_api", "driver_fault", "_open", "load_engine", "build_engine",
                       "_warm_up_and_capture"}}
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
        calls = {id(node.func): len(node.args) + len(node.keywords) for node in ast.walk(function)
                 if isinstance(node, ast.Call) and not any(isinstance(a, ast.Starred) for a in node.args)}
        starred = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)} - set(calls)
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute):
                continue
            name = ast.unparse(node.value)
            owner = name[len("api."):] if name.startswith("api.") else CLASSES.get(name)
            if owner is not None and function.name not in ELSEWHERE.get(name, ()) and node.attr not in OF_RTX | PYTHONS:
                found.add((owner, node.attr, None if id(node) in starred else calls.get(id(node))))
    return found


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    """A folder for each major version with libraries of functions that do nothing."""
    made = {}
    for major in ("10", "11"):
        folder = tmp_path_factory.mktemp(f"libraries{major}")
        (folder / "empty.c").write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in FUNCTIONS))
        for library in LIBRARIES:
            subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{library}.{major}", "-o",
                            str(folder / f"{library}.{major}"), str(folder / "empty.c")], check=True, timeout=60)
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
"""


@needs_compiler
@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_exists_with_the_signature_used(version, libraries):
    bindings = FOLDER / version
    if not bindings.is_dir():
        pytest.skip(f"tensorrt bindings {version} are not in {FOLDER.relative_to(ROOT)}: make .venv/.ready-test")
    wanted = set().union(*(used(path) for path in SOURCES))
    assert {("", "Builder", 1), ("Builder", "build_serialized_network", 2),
            ("IExecutionContext", "execute_async_v3", 1)} <= wanted, "the search finds nothing any more"
    major = version.partition(".")[0]
    stubs = ",".join(str(libraries[major] / f"{library}.{major}") for library in LIBRARIES)
    done = subprocess.run([sys.executable, "-c", INSPECT, str(bindings), stubs,
                           json.dumps(sorted({(owner, attribute) for owner, attribute, _ in wanted}))],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    documented, faults = json.loads(done.stdout), []
    for owner, attribute, count in sorted(wanted, key=str):
        text = documented[f"{owner}.{attribute}"]
        if text is None:
            faults.append(f"{owner or 'tensorrt'}.{attribute} does not exist")
        elif count is not None and (accepted := arguments(text, attribute)) and count not in accepted:
            faults.append(f"{owner}.{attribute} takes {accepted} arguments, not {count}")
    assert not faults, f"{version}: {faults}"


def arguments(documentation: str, name: str) -> set[int]:
    """The numbers of arguments that pybind11's signatures of ``name`` allow; empty where none is documented."""
    allowed = set()
    for listed in re.findall(rf"{name}\((.*?)\) ->", documentation):
        given = [part for part in re.split(r", (?=\w+:)", listed) if part and not part.startswith("self:")]
        allowed |= set(range(sum("=" not in part for part in given), len(given) + 1))
    return allowed


def test_signatures_are_read():
    text = "set_timing_cache(self: x.IBuilderConfig, cache: x.ITimingCache, ignore_mismatch: bool = True) -> bool"
    assert arguments(text, "set_timing_cache") == {1, 2} and arguments("A property.", "name") == set()
