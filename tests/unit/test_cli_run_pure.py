"""`daskflow run` without an engine: parameters, finding the flow, exit codes, tracebacks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskflow.errors import (
    ClusterError,
    DaskflowError,
    FlowFailed,
    NotFoundError,
    ParameterError,
    StoreVersionError,
    TaskCancelled,
    TaskCrashed,
    UsageError,
)
from daskflow.runner.cli.exits import exit_code_of_error, exit_code_of_state
from daskflow.runner.cli.failure import describe_exception
from daskflow.runner.cli.launch import choose_exit_code
from daskflow.runner.cli.parameters import parse_parameters, parse_value
from daskflow.runner.cli.target import Target, find_flow, load_module, parse_target
from daskflow.runner.core.states import FINAL, SUCCESSFUL

# ---- parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("3", 3, id="int"),
        pytest.param("[1, 2]", [1, 2], id="list"),
        pytest.param("true", True, id="bool"),
        pytest.param("null", None, id="null"),
        pytest.param('"3"', "3", id="quoted"),
        pytest.param("may", "may", id="text"),
        pytest.param("007", "007", id="no-json-number"),
        pytest.param("NaN", "NaN", id="nan-is-text"),
        pytest.param("", "", id="empty"),
        pytest.param("a=b", "a=b", id="equals-sign"),
        pytest.param("[" * 100_000, "[" * 100_000, id="too-deep-for-json"),
    ],
)
def test_value_is_json_where_it_parses_else_text(text, value):
    assert parse_value(text) == value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
).filter(lambda value: "Infinity" not in json.dumps(value))


@given(json_values)
def test_any_json_value_arrives_as_it_was(value):
    assert parse_parameters([f"x={json.dumps(value)}"]) == {"x": value}


def test_later_parameters_win_over_files_and_params_json(tmp_path):
    path = tmp_path / "p.json"
    path.write_text('{"a": 2, "b": 2, "c": 2}')
    found = parse_parameters([f"@{path}", "c=3"], '{"a": 1, "d": 1}')
    assert found == {"a": 2, "b": 2, "c": 3, "d": 1}


@pytest.mark.parametrize(
    ("given_", "params_json", "said"),
    [
        pytest.param(["months"], None, "-p 'months' is no parameter", id="no-value"),
        pytest.param(["=3"], None, "-p '=3' is no parameter", id="no-key"),
        pytest.param(["a b=3"], None, "name of an argument", id="key-is-no-name"),
        pytest.param(["@/nowhere.json"], None, "@/nowhere.json cannot be read", id="no-file"),
        pytest.param([], "{", "--params-json is not JSON", id="broken-json"),
        pytest.param([], "[1]", "write a JSON object", id="no-object"),
    ],
)
def test_bad_parameters_say_what_to_write(given_, params_json, said):
    with pytest.raises(UsageError) as raised:
        parse_parameters(given_, params_json)
    assert said in str(raised.value)


# ---- target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        pytest.param("etl.py", Target("etl.py", None), id="file"),
        pytest.param("etl.py:load", Target("etl.py", "load"), id="file-and-flow"),
        pytest.param("pkg.etl:load", Target("pkg.etl", "load"), id="module-and-flow"),
        pytest.param("pkg.etl", Target("pkg.etl", None), id="module"),
        pytest.param("a:b/etl.py:load", Target("a:b/etl.py", "load"), id="colon-in-folder"),
    ],
)
def test_target_is_split_at_the_last_colon(text, target):
    assert parse_target(text) == target


@pytest.mark.parametrize("text", ["etl.py:", ":load", "etl.py:not a name"])
def test_target_without_a_flow_name_is_a_usage_error(text):
    with pytest.raises(UsageError, match="names no flow"):
        parse_target(text)


class FakeFlow:
    """As much of a flow as finding one needs."""

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self.fn = SimpleNamespace(__module__=module)


def module_with(**names: object) -> SimpleNamespace:
    return SimpleNamespace(__name__="etl", **names)


def test_only_flow_of_a_module_is_found_beside_imported_ones():
    own, imported = FakeFlow("own", "etl"), FakeFlow("imported", "elsewhere")
    module = module_with(imported=imported, own=own, alias=own, other=3)
    assert find_flow(module, Target("etl.py", None), FakeFlow) is own


def test_module_that_only_imports_a_flow_runs_that_one():
    imported = FakeFlow("imported", "elsewhere")
    assert find_flow(module_with(f=imported), Target("etl.py", None), FakeFlow) is imported


def test_of_several_flows_the_one_called_as_the_file_is_run():
    main = FakeFlow("main-flow", "etl")
    module = module_with(step=FakeFlow("step", "etl"), etl=main)
    assert find_flow(module, Target("some/etl.py", None), FakeFlow) is main


def test_several_flows_are_listed():
    module = module_with(a=FakeFlow("a", "etl"), b=FakeFlow("b", "etl"))
    with pytest.raises(UsageError, match=r"2 flows: choose etl.py:a, etl.py:b"):
        find_flow(module, Target("etl.py", None), FakeFlow)


@pytest.mark.parametrize("asked", ["variable", "given-name"])
def test_flow_is_found_by_variable_and_by_its_own_name(asked):
    flow = FakeFlow("given-name", "etl")
    module = module_with(variable=flow, other=FakeFlow("x", "etl"))
    assert find_flow(module, Target("etl.py", asked), FakeFlow) is flow


def test_unknown_flow_is_not_found_and_the_others_are_listed():
    with pytest.raises(NotFoundError, match=r"no flow 'c' in 'etl.py': choose etl.py:a"):
        find_flow(module_with(a=FakeFlow("a", "etl")), Target("etl.py", "c"), FakeFlow)


def test_module_without_a_flow_says_so():
    with pytest.raises(UsageError, match="decorate a function with @flow"):
        find_flow(module_with(), Target("etl.py", None), FakeFlow)


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Write scripts into a folder; sys.path and sys.modules are put back afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and name.startswith("script_"):
            del sys.modules[name]


def test_script_is_loaded_under_its_stem_with_its_neighbours(scripts):
    scripts("script_neighbour.py", "X = 5")
    path = scripts(
        "script_a.py",
        "from script_neighbour import X\nNAME = __name__\ndef f(): ...\n"
        "if __name__ == '__main__': raise SystemExit('ran as main')",
    )
    module = load_module(Target(str(path), None))
    assert (module.NAME, module.X) == ("script_a", 5)
    assert sys.modules["script_a"] is module
    assert sys.path[0] == str(path.parent)


def test_script_that_raises_leaves_no_half_module_behind(scripts):
    path = scripts("script_b.py", "1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_module(Target(str(path), None))
    assert "script_b" not in sys.modules


def test_script_named_like_a_loaded_module_is_refused(scripts):
    with pytest.raises(UsageError, match="'json' that is already loaded: rename"):
        load_module(Target(str(scripts("json.py", "")), None))
    assert sys.modules["json"] is json


def test_missing_file_lists_its_neighbours(scripts):
    path = scripts("script_c.py", "")
    with pytest.raises(NotFoundError, match=r"script_c\.py"):
        load_module(Target(str(path.with_name("script_d.py")), None))


def test_module_is_imported_from_the_working_directory(scripts, monkeypatch):
    monkeypatch.chdir(scripts("script_e.py", "X = 1").parent)
    assert load_module(Target("script_e", "x")).X == 1


def test_missing_module_is_not_found_but_what_it_misses_itself_goes_through(scripts, monkeypatch):
    monkeypatch.chdir(scripts("script_f.py", "import script_not_there").parent)
    with pytest.raises(NotFoundError, match="no module 'script_absent'"):
        load_module(Target("script_absent", None))
    with pytest.raises(ModuleNotFoundError, match="script_not_there"):
        load_module(Target("script_f", None))


# ---- exit codes


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(ParameterError("x"), 2, id="parameter"),
        pytest.param(NotFoundError("x"), 3, id="not-found"),
        pytest.param(TaskCancelled("r-1", "x"), 4, id="cancelled"),
        pytest.param(TaskCrashed("r-1", "x"), 5, id="crashed"),
        pytest.param(ClusterError("x"), 6, id="cluster"),
        pytest.param(StoreVersionError("x"), 6, id="store"),
        pytest.param(FlowFailed("r", "x"), 1, id="flow-failed"),
        pytest.param(DaskflowError("x"), 1, id="other"),
    ],
)
def test_exit_code_of_error(error, code):
    assert exit_code_of_error(error) == code


def test_only_successful_states_exit_with_zero():
    assert {state for state in FINAL if exit_code_of_state(state) == 0} == SUCCESSFUL
    assert exit_code_of_state("Cancelled") == 4
    assert exit_code_of_state("Crashed") == 5
    assert exit_code_of_state("Failed") == exit_code_of_state("TimedOut") == 1


@pytest.mark.parametrize(
    ("state", "error", "code"),
    [
        pytest.param("Completed", None, 0, id="completed"),
        pytest.param("Failed", ValueError("x"), 1, id="own-exception"),
        pytest.param("Failed", ClusterError("x"), 6, id="cluster-unreachable"),
        pytest.param("Failed", FlowFailed("r", "x"), 1, id="left-failures"),
        pytest.param("Cancelled", ValueError("x"), 4, id="state-decides"),
    ],
)
def test_choose_exit_code(state, error, code):
    assert choose_exit_code(state, error) == code


# ---- tracebacks


def test_traceback_keeps_only_frames_of_the_user_also_in_causes(tmp_path):
    engine = tmp_path / "engine"
    code = {
        f"{engine}/call.py": "def call(f): return f()",
        "/home/me/flow.py": "def bad(): 1 / 0\n"
        "def flow():\n  try: call(bad)\n  except ZeroDivisionError as e: raise KeyError(1) from e",
    }
    names: dict = {}
    for name, text in code.items():
        exec(compile(text, name, "exec"), names)
    try:
        names["call"](names["flow"])
    except KeyError as error:
        told = describe_exception(error, (f"{engine}/",))
    assert "engine" not in told
    assert told.count("/home/me/flow.py") == 3  # bad and flow in the cause, flow itself
    assert told.endswith("KeyError: 1")
    assert "direct cause" in told


def test_traceback_without_a_frame_of_the_user_stays_whole():
    try:
        exec(compile("1 / 0", "/engine/x.py", "exec"))
    except ZeroDivisionError as error:
        told = describe_exception(error.with_traceback(error.__traceback__.tb_next), ("/engine/",))
    assert "/engine/x.py" in told


def test_frames_of_daskflow_are_the_engines_by_default():
    try:
        load_module(Target("no/such/file.py", None))
    except NotFoundError as error:
        told = describe_exception(error)
    assert "cli/target.py" not in told
    assert "test_cli_run_pure.py" in told
