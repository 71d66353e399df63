"""The rules of the house, as tests. A failure lists every place that breaks the law."""

import ast
import re
from collections.abc import Iterator

from tests.tidy.repository import Offence, assert_none, files, lines, names_used, python_files, tree

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
SOURCES = (".py", ".sql", ".lua", ".js")

# Only these may read the environment.
READERS_OF_THE_ENVIRONMENT = ("src/ebbgate/settings.py", "src/ebbgate/cli/")

# Tests that have to let real time pass: path -> why neither a fake clock nor `wait_until` will do.
SLEEPERS: dict[str, str] = {}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[str]:
    """What we wrote in src; `vendor` folders hold the work of others."""
    return [path for path in files() if path.startswith("src/") and "/vendor/" not in path]


def length(function: Function) -> int:
    """The lines of a function from its `def` on; its docstring costs nothing."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    match function.body[0]:
        case ast.Expr(value=ast.Constant(value=str())) as docstring:
            return total - ((docstring.end_lineno or docstring.lineno) - docstring.lineno + 1)
        case _:
            return total


def test_a_source_file_stays_under_600_lines() -> None:
    """A file has one subject; a longer one has two."""

    def offences() -> Iterator[Offence]:
        for path in sources():
            count = sum(1 for _ in lines(path)) if path.endswith(SOURCES) else 0
            if count > MAX_FILE_LINES:
                yield Offence(path, count, f"{count} lines, at most {MAX_FILE_LINES}")

    assert_none(offences())


def test_a_function_stays_under_60_lines() -> None:
    """A function fits on one screen, its docstring apart."""

    def offences() -> Iterator[Offence]:
        for path in python_files("src"):
            for node in ast.walk(tree(path)):
                if isinstance(node, Function) and (count := length(node)) > MAX_FUNCTION_LINES:
                    yield Offence(
                        path, node.lineno, f"{node.name}: {count} lines, at most {MAX_FUNCTION_LINES}"
                    )

    assert_none(offences())


def test_every_source_module_says_what_it_is_for() -> None:
    """The docstring of a module is the first thing that its reader meets."""
    assert_none(
        Offence(path, 1, "no module docstring")
        for path in python_files("src")
        if not ast.get_docstring(tree(path))
    )


def test_nothing_in_the_sources_is_left_for_later() -> None:
    """What is missing is an issue or a known limit in the docstring, never a note in the code."""
    later = re.compile(r"\b(TODO|FIXME|XXX|NotImplementedError)\b")
    assert_none(
        Offence(path, number, found.group())
        for path in sources()
        for number, line in lines(path)
        if (found := later.search(line))
    )


def test_the_sources_never_run_text_as_code() -> None:
    """No eval, exec, pickle or shell: data from outside stays data."""
    pickles = {"pickle", "marshal", "shelve", "dill", "cloudpickle"}

    def offences() -> Iterator[Offence]:
        for path in python_files("src"):
            yield from names_used(path, "os", "system", "popen")
            for node in ast.walk(tree(path)):
                match node:
                    case ast.Call(func=ast.Name(id="eval" | "exec" as called)):
                        yield Offence(path, node.lineno, f"{called}()")
                    case ast.keyword(arg="shell", value=ast.Constant(value=False)):
                        pass
                    case ast.keyword(arg="shell"):
                        yield Offence(path, node.lineno, "shell=")
                    case ast.Import(names=names):
                        for name in names:
                            if name.name.split(".")[0] in pickles:
                                yield Offence(path, node.lineno, f"import {name.name}")
                    case ast.ImportFrom(module=str(module)) if module.split(".")[0] in pickles:
                        yield Offence(path, node.lineno, f"from {module} import ...")
                    case _:
                        pass

    assert_none(offences())


def test_only_settings_and_cli_read_the_environment() -> None:
    """One place knows every variable; all else gets values."""
    assert_none(
        offence
        for path in python_files("src")
        if not path.startswith(READERS_OF_THE_ENVIRONMENT)
        for offence in names_used(
            path, "os", "environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"
        )
    )


def test_no_test_sleeps() -> None:
    """Sleeping is slow where it works and wrong where it does not: use a fake clock or `wait_until`."""
    assert_none(
        offence
        for path in python_files("tests")
        if path not in SLEEPERS
        for offence in names_used(path, "time", "sleep")
    )


def test_every_permission_to_sleep_is_used() -> None:
    """A permission whose file is gone, or sleeps no more, would cover the next one by accident."""
    present = set(files())
    assert_none(
        Offence(path, 1, "listed in SLEEPERS, does not sleep")
        for path in SLEEPERS
        if path not in present or not any(names_used(path, "time", "sleep"))
    )


def test_no_assertion_is_true_by_itself() -> None:
    """`assert True` proves nothing and looks like proof."""
    assert_none(
        Offence(path, node.lineno, "an assertion that cannot fail")
        for path in python_files()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant) and node.test.value
    )


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    """Absolute paths of a home or a work folder hold on one machine only."""
    places = "work|root|home"
    absolute = re.compile(rf"(?<![\w.~$}})\]-])/(?:{places})/")
    assert_none(
        Offence(path, number, line.strip()[:100])
        for path in files()
        for number, line in lines(path)
        if absolute.search(line)
    )
