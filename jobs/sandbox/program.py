"""A seccomp filter as the kernel reads it: classic BPF, assembled from rules.

Every rule is for one system call and says when it is refused; whatever no rule refuses is allowed. The
first lines refuse another architecture's calls, which have other numbers, and calls that are newer than the
table: they could do what an older name is refused for.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jobs.sandbox.syscalls import NEWEST, Architecture, number

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # LD|W|ABS, ALU|AND|K, RET|K
_EQUAL, _GREATER = 0x15, 0x25  # JMP|JEQ|K, JMP|JGT|K
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_MASK: Final = 0xFFFFFFFF


@dataclass(frozen=True)
class Test:
    """Whether `argument & mask` is (or, with `unless`, is not) one of `values`; low 32 bits only."""

    argument: int
    values: tuple[int, ...]
    mask: int = _MASK
    unless: bool = False


@dataclass(frozen=True)
class Rule:
    """Refuse the call `name` where all of `tests` hold, with `error`. Of several rules any may refuse."""

    name: str
    tests: tuple[Test, ...] = ()
    error: int = errno.EPERM


def assemble(rules: Sequence[Rule], of: Architecture) -> bytes:
    """The filter as an array of `struct sock_filter`."""
    begin = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, of.audit, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
        _line(_GREATER, NEWEST, 0, 1),
        _line(_RETURN, _ERRNO | errno.ENOSYS),
    ]
    lines = [line for rule in rules for line in _rule(rule, of)]
    return b"".join([*begin, *lines, _line(_RETURN, _ALLOW)])


def _rule(rule: Rule, of: Architecture) -> list[bytes]:
    """Begins and ends with the call's number loaded."""
    call = number(rule.name, of)
    if call is None:
        return []
    refuse = [_line(_RETURN, _ERRNO | rule.error)]
    if not rule.tests:
        return [_line(_EQUAL, call, 0, 1), *refuse]
    body: list[bytes] = refuse
    for test in reversed(rule.tests):
        body = _test(test, len(body)) + body
    body.append(_line(_LOAD, _NUMBER))
    return [_line(_EQUAL, call, 0, len(body)), *body]


def _test(test: Test, ahead: int) -> list[bytes]:
    """Falls through where the test holds, else jumps over the `ahead` lines that follow."""
    lines = [_line(_LOAD, _ARGUMENTS + 8 * test.argument)]
    if test.mask != _MASK:
        lines.append(_line(_AND, test.mask))
    for place, value in enumerate(test.values):
        left = len(test.values) - place - 1
        if test.unless:
            lines.append(_line(_EQUAL, value, left + ahead, 0))
        else:
            lines.append(_line(_EQUAL, value, left, 0 if left else ahead))
    return lines


def _line(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    """One instruction; a jump says how many of the next ones are left out."""
    return struct.pack("<HBBI", code, if_true, if_false, value & _MASK)
