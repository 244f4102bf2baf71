"""What keeps the tree readable, held by counting: sizes, docstrings, errors, habits of tests, what is checked in."""

from __future__ import annotations

import ast
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foreman import errors

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "foreman").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MOST_MODULE_LINES, MOST_CLASS_LINES, MOST_FUNCTION_LINES = 300, 200, 50
MOST_MOCKS = 10

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def lines(node: Definition) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def members(node: ast.Module | ast.ClassDef) -> Iterator[Definition]:
    """Classes and functions of a module and of its classes; not those inside functions."""
    for child in node.body:
        if isinstance(child, Definition):
            yield child
        if isinstance(child, ast.ClassDef):
            yield from members(child)


def is_public(node: Definition) -> bool:
    overloads = {"overload", "typing.overload"}
    return not node.name.startswith("_") and not any(ast.unparse(mark) in overloads for mark in node.decorator_list)


def called(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_is_within_its_size_budget(path):
    assert len(path.read_text("utf-8").splitlines()) <= MOST_MODULE_LINES


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_classes_and_functions_are_within_their_size_budget(path):
    found = [node for node in ast.walk(tree(path)) if isinstance(node, Definition)]
    budget = {node: MOST_CLASS_LINES if isinstance(node, ast.ClassDef) else MOST_FUNCTION_LINES for node in found}
    assert [f"{node.name}: {lines(node)} lines" for node in found if lines(node) > budget[node]] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_classes_and_public_functions_have_docstrings(path):
    module = tree(path)
    owed = [node for node in members(module) if isinstance(node, ast.ClassDef) or is_public(node)]
    assert ast.get_docstring(module), "the module says neither what it owns nor what it must not do"
    assert [node.name for node in owed if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_todo_names_its_issue(path):
    notes = re.findall(r"#.*\b(?:TODO|FIXME|XXX)\b.*", path.read_text("utf-8"))
    assert [note for note in notes if not re.search(r"#\d+", note)] == []


def error_classes() -> list[type[errors.ForemanError]]:
    found = [value for value in vars(errors).values() if inspect.isclass(value)]
    return [value for value in found if issubclass(value, errors.ForemanError)]


def test_the_tree_of_errors_is_drawn_as_it_is():
    drawn, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"([ │├└─]*)(\w+)$", line.removeprefix("    ")):
            if not path and match[2] != "ForemanError":
                continue
            path = [*path[: len(match[1]) // 4], match[2]]
            drawn[match[2]] = path[-2] if len(path) > 1 else "Exception"
    assert drawn == {error.__name__: error.__base__.__name__ for error in error_classes()}


def test_every_error_says_something_of_its_own():
    said = [(error.__doc__ or "").strip() for error in error_classes()]
    assert all(said)
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_every_error_has_a_stable_code_of_its_own_class(error):
    assert "code" in vars(error)
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)


@pytest.mark.parametrize("path", TESTS, ids=relative)
def test_no_test_is_skipped_or_expected_to_fail(path):
    marks = r"(skip|skipif|skipIf|skipUnless|skipTest|xfail|importorskip|expectedFailure)"
    nodes = list(ast.walk(tree(path)))
    used = [ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute)]
    imported = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module in {"pytest", "unittest"}]
    used += [f"pytest.{alias.name}" for node in imported for alias in node.names]
    assert [name for name in used if re.fullmatch(rf"(.*\.)?(pytest|mark|unittest|self)\.{marks}", name)] == []


@pytest.mark.parametrize(
    "path", [path for path in TESTS if not relative(path).startswith(("tests/e2e/", "tests/fakes/"))], ids=relative
)
def test_a_test_waits_for_what_happens_and_not_for_time(path):
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call) and called(node) == "sleep"]
    # `sleep(0)` waits for no time: it lets the other tasks have their turn.
    timed = [call for call in calls if ast.unparse(call.args[0] if call.args else call) != "0"]
    assert [f"line {call.lineno}" for call in timed] == []


def test_the_tests_hardly_mock():
    names = {"monkeypatch", "mocker", "Mock", "MagicMock", "AsyncMock", "create_autospec"}
    uses = []
    for path in TESTS:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.arg) and node.arg in names:
                uses.append(f"{relative(path)}:{node.lineno} {node.arg}")
            if isinstance(node, ast.Call) and (called(node) in names or re.search(r"\bmock\.", ast.unparse(node.func))):
                uses.append(f"{relative(path)}:{node.lineno} {ast.unparse(node.func)}")
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("patch"):
                uses.append(f"{relative(path)}:{node.lineno} patch")
    assert len(uses) <= MOST_MOCKS, uses


def checked_in() -> Iterator[Path]:
    """Files of the tree that are not made by tools; by walking, since a source archive has no Git."""
    made = {"build", "dist", "results", "node_modules", "__pycache__"}
    for folder, folders, files in os.walk(ROOT):
        hidden = {name for name in folders if name.startswith(".") and name not in {".ci", ".github"}}
        folders[:] = [name for name in folders if name not in made | hidden and not name.endswith(".egg-info")]
        yield from (Path(folder, name) for name in files)


def test_no_lock_file_of_another_tool_is_checked_in():
    locks = {"poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml",
             "pylock.toml", "go.sum", "Cargo.lock"}  # fmt: skip
    assert [relative(path) for path in checked_in() if path.name in locks] == []


def test_no_address_of_a_package_registry_is_checked_in():
    # In pieces, so that this file does not hold what it forbids.
    hosts = [
        *("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "proxy.golang" + ".org", "crates" + ".io"),
        *("maven" + ".org", "--index" + "-url", "--extra-index" + "-url", "--find" + "-links"),
    ]
    found = []
    for path in checked_in():
        content = path.read_bytes()
        found += [f"{relative(path)}: {host}" for host in hosts if host.encode() in content]
    assert found == []
