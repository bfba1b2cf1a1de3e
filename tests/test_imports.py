"""Imports go one way, and the command line starts without what it does not need."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from importlib.metadata import version
from pathlib import Path

import pytest

import resnet_proto

PACKAGE = Path(resnet_proto.__file__).parent

# From the ground up: a module imports from the lines above its own, or from its own package.
ORDER = [
    "words",
    "errors",
    "files",
    "sniff",
    "layers",
    "schema",
    "settings",
    "recipe",
    "spec",
    "presets",
    "upgrade",
    "state",
    "shared",
    "net",
    "forks",
    "render",
    "graph",
    "structure",
    "text_format",
    "prototxt",
    "solver",
    "training_log",
    "build",
    "training",
    "trunk",
    "naming",
    "recognize",
    "generate",
    "memory",
    "weights",
    "fit",
    "fold",
    "dense",
    "inputs",
    "floor",
    "clips",
    "formats",
    "foreign",
    "state_dict",
    "preprocess",
    "data",
    "check",
    "retarget",
    "engine",
    "torch_models",
    "evaluate",
    "report",
    "cli",
    "__main__",
]
# Nothing behind the net knows what a stage is.
NO_SPEC = {
    "memory", "weights", "fit", "fold", "dense", "inputs", "floor", "formats", "preprocess", "data",
    "engine", "evaluate", "report",
}  # fmt: skip


def imported(path: Path) -> set[str]:
    """First part of each ``resnet_proto.X`` that a file imports, in functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resnet_proto"):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            full = [alias.name for alias in node.names if alias.name.startswith("resnet_proto")]
        else:
            continue
        names |= {name.split(".")[1] for name in full if name.count(".")}
    return names


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def test_every_module_has_its_place():
    homes = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in FILES}

    assert homes == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    home = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    allowed = set(ORDER[: ORDER.index(home) + 1])
    if home in NO_SPEC:
        allowed -= {"spec", "build", "generate"}

    assert imported(path) <= allowed


def module_of(path: Path) -> str:
    """``resnet_proto.engine.plain`` of a file; a package is its __init__.py."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(path: Path) -> set[str]:
    """Each module of the package that a file imports when it runs, in functions too."""
    tree, modules = ast.parse(path.read_text()), {module_of(file) for file in FILES}
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                names.add(full if full in modules else node.module)
    return names & modules - {module_of(path)}


def test_no_module_imports_itself_by_way_of_others():
    graph = {module_of(path): imported_modules(path) for path in FILES}

    order = list(TopologicalSorter(graph).static_order())  # raises CycleError

    assert order.index("resnet_proto.engine.plain") < order.index("resnet_proto.engine")


@pytest.mark.parametrize(
    ("arguments", "absent"),
    [
        (["--help"], {"numpy", "google.protobuf", "jinja2"}),
        (["gen", "--depth", "152", "--only", "deploy", "--out", "-"], {"numpy", "google.protobuf"}),
        (["summary", "--help"], {"numpy", "google.protobuf", "jinja2"}),
    ],
)
def test_a_command_imports_what_it_needs(arguments, absent):
    code = (
        "import sys\n"
        "from resnet_proto.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print(sorted({absent!r} & set(sys.modules)), file=sys.stderr)"
    )

    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("name", resnet_proto.__all__)
def test_public_names(name, request):
    if name == "to_torch":
        request.getfixturevalue("torch")
    assert getattr(resnet_proto, name)


def test_version():
    assert resnet_proto.__version__ == version("resnet-proto")


def test_the_package_is_the_command():
    command = [sys.executable, "-m", "resnet_proto"]

    run = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
    wrong = subprocess.run([*command, "summary"], capture_output=True, text=True, check=False)

    assert run.stdout == f"resnet-proto {resnet_proto.__version__}\n"
    assert wrong.stderr.startswith("Usage: resnet-proto summary ")


def test_unknown_public_name():
    with pytest.raises(AttributeError, match="no attribute 'importer'"):
        resnet_proto.importer  # noqa: B018
