"""The code of a TorchScript archive, read and never run: every call is one of a list, or of the code's own.

The code is Python as far as it goes (`torch/csrc/jit/serialization/python_print.cpp` writes it). What Python
and torch could read in two ways (comments, continued lines, letters beyond ASCII) is never written by torch
and is refused.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import torch

from prune_engine.errors import ModelUnsafeError
from prune_engine.formats.conversion.operators import BUILT_IN, OTHERS, TORCH

_INSTEAD = "Send an ONNX export of the model instead."
_LARGEST_FILE = 16 << 20
_LARGEST_CODE = 64 << 20
_HIDDEN_CODE = re.compile(rb"__(?:set|get)state__")
_FOREIGN_BYTE = re.compile(rb"[^\n -~]")
_CUSTOM_CLASSES = ("__torch__", "torch", "classes")
_NODES = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.Load, ast.Store, ast.Expr),
    *(ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.If, ast.While, ast.For, ast.Pass, ast.With),
    *(ast.Break, ast.Continue, ast.Raise, ast.Assert, ast.Name, ast.Attribute, ast.Call, ast.keyword),
    *(ast.Subscript, ast.Slice, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.IfExp, ast.Compare),
    *(ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.operator, ast.boolop, ast.unaryop, ast.cmpop, ast.withitem),
)


@dataclass(frozen=True)
class _File:
    name: str
    text: str
    tree: ast.Module


def scan_code(files: Mapping[str, bytes]) -> None:
    """Looks through all files of code of an archive, given by name.

    Raises:
        ModelUnsafeError: code that runs on loading, or a call of anything that is neither on the list of
        operators nor defined in the files; the message names the call, its file and its line.
    """
    if sum(map(len, files.values())) > _LARGEST_CODE:
        raise ModelUnsafeError(f"The TorchScript archive has more than {_LARGEST_CODE} bytes of code.")
    parsed = [_parsed(name, content) for name, content in files.items()]
    own = {node.name for file in parsed for node in ast.walk(file.tree) if isinstance(node, ast.FunctionDef)}
    foreign = operator_names() - TORCH - OTHERS
    for file in parsed:
        for node in ast.walk(file.tree):
            _check_node(node, file, foreign)
        for outer in _outermost(file.tree):
            functions = _functions_by_value(outer) if isinstance(outer, ast.FunctionDef) else frozenset()
            for node in ast.walk(outer):
                if isinstance(node, ast.Call):
                    _check_call(node, file, own - foreign, functions)


def operator_names() -> frozenset[str]:
    """Every operator that torch has here, without its namespace: what a method of a tensor could be."""
    return frozenset(schema.name.partition("::")[2] for schema in torch._C._jit_get_all_schemas())


def _parsed(name: str, content: bytes) -> _File:
    if len(content) > _LARGEST_FILE:
        raise ModelUnsafeError(f"The TorchScript archive has {len(content)} bytes of code in {name}.")
    if match := _HIDDEN_CODE.search(content):
        line = content.count(b"\n", 0, match.start()) + 1
        raise ModelUnsafeError(
            f"The TorchScript archive defines {match[0].decode()} in {name}, line {line}, which runs while "
            f"it is loaded. {_INSTEAD}"
        )
    if match := _FOREIGN_BYTE.search(content):
        line = content.count(b"\n", 0, match.start()) + 1
        raise ModelUnsafeError(
            f"The TorchScript archive has the byte {match[0]!r} in {name}, line {line}, which "
            f"torch.jit.save never writes into code. {_INSTEAD}"
        )
    text = content.decode("ascii")
    try:
        tree = ast.parse(text)
        _refuse_ambiguous(name, text)
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        raise ModelUnsafeError(
            f"The TorchScript archive has code in {name} that cannot be looked through "
            f"({str(error)[:100]}). {_INSTEAD}"
        ) from None
    return _File(name, text, tree)


def _refuse_ambiguous(name: str, text: str) -> None:
    """What torch's own reader could see otherwise than Python's."""
    found = ""
    if "\\\n" in text:
        found = "a continued line"
    elif "#" in text or '"""' in text or "'''" in text:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                found = "a comment"
            elif token.type == tokenize.STRING and token.string.lstrip("rRbBuUfF")[:3] in ('"""', "'''"):
                found = "a string of several lines"
    if found:
        raise ModelUnsafeError(
            f"The TorchScript archive has {found} in {name}, which torch.jit.save never writes. {_INSTEAD}"
        )


def _check_node(node: ast.AST, file: _File, foreign: AbstractSet[str]) -> None:
    if not isinstance(node, _NODES):
        raise _refused(f"has {type(node).__name__} in its code", file, node)
    if isinstance(node, ast.FunctionDef) and (node.decorator_list or node.name in foreign):
        raise _refused(f"defines {node.name}, which is the name of an operator", file, node)
    if isinstance(node, ast.Attribute) and _path(node)[:3] == _CUSTOM_CLASSES:
        raise _refused(f"uses the custom class {'.'.join(_path(node))}", file, node)
    if isinstance(node, ast.arg) or (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)):
        _check_name(node, file)
    if isinstance(node, ast.ClassDef):
        _check_class(node, file)


def _outermost(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a file, with those of its classes in place of the classes."""
    for statement in tree.body:
        yield from statement.body if isinstance(statement, ast.ClassDef) else (statement,)


def _functions_by_value(function: ast.FunctionDef) -> frozenset[str]:
    """The values that are nothing but functions of the code's own: `_0 = __torch__.torch.nn.functional.relu`.

    A name that is ever given something else is none.
    """
    given = Counter(
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    given.update(node.arg for node in ast.walk(function) if isinstance(node, ast.arg))
    functions = Counter(
        node.targets[0].id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and len(node.targets) == 1
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Attribute)
        and _path(node.value)[:1] == ("__torch__",)
    )
    return frozenset(name for name, count in functions.items() if count == given[name])


def _check_name(node: ast.Name | ast.arg, file: _File) -> None:
    """A value of the code's own must not be called as the roots of all operators are."""
    name = node.arg if isinstance(node, ast.arg) else node.id
    if name in ("torch", "ops", "__torch__"):
        raise _refused(f"calls a value {name!r}", file, node)


def _check_class(node: ast.ClassDef, file: _File) -> None:
    """A class body declares and defines; nothing in it is computed."""
    for statement in node.body:
        if not isinstance(statement, ast.FunctionDef) and any(
            isinstance(part, ast.Call) for part in ast.walk(statement)
        ):
            raise _refused(f"calls something in the body of the class {node.name}", file, statement)


def _check_call(node: ast.Call, file: _File, own: AbstractSet[str], functions: AbstractSet[str]) -> None:
    called = node.func
    path = _path(called) if isinstance(called, ast.Name | ast.Attribute) else ()
    if len(path) == 1:
        known = path[0] in BUILT_IN or path[0] in functions
    elif path[:1] == ("torch",):
        known = len(path) == 2 and path[1] in TORCH
    elif path[:1] == ("ops",):
        known = len(path) == 3 and (
            path[2] in TORCH if path[1] == "aten" else f"{path[1]}::{path[2]}" in OTHERS
        )
    elif path[:1] == ("__torch__",):
        known = True  # defined in the files, or torch does not find it
    elif isinstance(called, ast.Attribute):
        known = called.attr in own or called.attr in TORCH
    else:
        known = False
    if not known:
        shown = "::".join(path[1:]) if path[:1] == ("ops",) else ast.unparse(called)[:100]
        raise _refused(f"calls {shown}", file, node)


def _path(node: ast.expr) -> tuple[str, ...]:
    """("torch", "relu") for `torch.relu`; () for what does not begin with a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else ()


def _refused(what: str, file: _File, node: ast.AST) -> ModelUnsafeError:
    line = getattr(node, "lineno", 0)
    return ModelUnsafeError(
        f"The TorchScript archive {what} in {file.name}, line {line}, which is nothing that a model needs. "
        f"{_INSTEAD}"
    )
