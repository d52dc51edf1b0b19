"""The documented names are all there, as documented, and static tools see the same names."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import fifteen
import fifteen.data
import fifteen_data_devices
import fifteen_data_loaders
import fifteen_data_protocols
import pytest

_PARTS = [fifteen_data_protocols, fifteen_data_loaders, fifteen_data_devices]
_MODULES = [*_PARTS, fifteen, fifteen.data]
_REQUIRED = inspect.Parameter.empty

# Parameters in their order, with their defaults, as the documented API has them; the default
# collate function is documented by what it does.
_DOCUMENTED: dict[str, dict[str, Any]] = {
    "cycled_minibatches": {"dataloader": _REQUIRED, "shuffle_seed": _REQUIRED},
    "prefetching_map": {"inputs": _REQUIRED, "device": None, "buffer_size": 2},
    "sharding_map": {"inputs": _REQUIRED, "devices": _REQUIRED},
    "DataLoader": {
        "dataset": _REQUIRED,
        "minibatch_size": _REQUIRED,
        "num_workers": 0,
        "drop_last": True,
        "collate_fn": ...,
    },
    "InMemoryDataLoader": {"dataset": _REQUIRED, "minibatch_size": _REQUIRED, "drop_last": True},
    "DataLoader.minibatch_count": {},
    "DataLoader.minibatches": {"shuffle_seed": _REQUIRED},
    "InMemoryDataLoader.minibatch_count": {},
    "InMemoryDataLoader.minibatches": {"shuffle_seed": _REQUIRED},
    "DataLoaderProtocol.minibatch_count": {},
    "DataLoaderProtocol.minibatches": {"shuffle_seed": _REQUIRED},
    "MapDatasetProtocol.__getitem__": {"index": _REQUIRED},
    "MapDatasetProtocol.__len__": {},
}
_OF_ITS_OWN = {"Diagnosis", "MeasuredSetting", "diagnose"}
_ADDED = {
    *_OF_ITS_OWN,
    "BatchedMapDatasetProtocol",
    "IterationStatistics",
    "MeasuredIterator",
    "Minibatches",
    "MinibatchIterator",
    "WorkerDiedError",
    "WorkerError",
    "check_resume",
    "padding_map",
    "process_shard",
    "sample_rng",
}


def _look_up(path: str) -> Any:
    value: Any = fifteen.data
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _public_functions(value: Any) -> list[tuple[str, Any]]:
    """What a class defines for its users: methods, properties and the dunders that it documents."""
    return [
        (name, member)
        for name, member in vars(value).items()
        if not name.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
    ]


@pytest.mark.parametrize("path", _DOCUMENTED)
def test_documented_parameters_keep_names_order_and_defaults(path: str) -> None:
    parameters = [
        p for p in inspect.signature(_look_up(path)).parameters.values() if p.name != "self"
    ]
    documented = _DOCUMENTED[path]
    for parameter, (name, default) in zip(parameters, documented.items(), strict=False):
        assert parameter.name == name
        if default is ...:
            assert parameter.default is not _REQUIRED
        else:
            assert parameter.default == default
    assert len(parameters) >= len(documented)


@pytest.mark.parametrize("path", _DOCUMENTED)
def test_parameters_beyond_the_documented_ones_are_keyword_only(path: str) -> None:
    parameters = [
        p for p in inspect.signature(_look_up(path)).parameters.values() if p.name != "self"
    ]
    for parameter in parameters[len(_DOCUMENTED[path]) :]:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY, parameter
        assert parameter.default is not _REQUIRED, parameter


def test_fifteen_data_has_every_name_and_no_other() -> None:
    documented = {path.partition(".")[0] for path in _DOCUMENTED}
    assert set(fifteen.data.__all__) == documented | {"SizedIterable"} | _ADDED


@pytest.mark.parametrize("part", _PARTS, ids=lambda part: part.__name__)
def test_fifteen_data_gives_the_very_objects_of_the_parts(part: ModuleType) -> None:
    for name in set(part.__all__) & set(fifteen.data.__all__):
        assert getattr(fifteen.data, name) is getattr(part, name)


def test_each_name_of_fifteen_data_is_exported_by_one_part() -> None:
    for name in fifteen.data.__all__:
        assert sum(name in part.__all__ for part in _PARTS) == (name not in _OF_ITS_OWN), name


def test_the_package_leads_to_its_module() -> None:
    """``import fifteen`` is enough to write ``fifteen.data.DataLoader``."""
    code = "import fifteen; fifteen.data.DataLoader"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_exported_name_exists(module: ModuleType) -> None:
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert hasattr(module, name)


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_static_tools_see_every_exported_name(module: ModuleType) -> None:
    """They read the file: plain imports beside a plain ``__all__``."""
    assert module.__file__ is not None
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("fifteen")
        for alias in node.names
    }
    (listed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    assert imported == set(listed)


@pytest.mark.parametrize("name", fifteen.data.__all__)
def test_every_public_name_has_a_docstring(name: str) -> None:
    value = getattr(fifteen.data, name)
    assert inspect.getdoc(value)
    if inspect.isclass(value):
        # An inherited docstring would be that of another class.
        assert value.__doc__
        for method, function in _public_functions(value):
            assert inspect.getdoc(function), f"{name}.{method}"


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_importing_does_not_import_jax(module: ModuleType) -> None:
    """A worker imports what the dataset's module imports; jax would cost it time and memory."""
    code = f"import sys, {module.__name__}; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
