"""TorchScript that would do more than compute is refused before torch opens the file."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prune_engine.errors import ModelError, ModelUnsafeError
from prune_engine.formats import read_model
from prune_engine.formats.conversion import operators
from prune_engine.formats.conversion.torchscript import plain_copy, scan_archive
from prune_engine.formats.conversion.torchscript_code import operator_names
from tests.prune_engine.formats.conversion.archives import CODE, Plain, changed
from tests.prune_engine.formats.zoo import NETS, build, inputs

pytestmark = pytest.mark.filterwarnings("ignore")
SHAPES = [(((2, 2), "float32"),)]


def test_a_model_that_writes_a_file_when_it_is_loaded_is_refused_and_nothing_is_written(
    tmp_path: Path,
) -> None:
    written = tmp_path / "written"

    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(2, 2))

        @torch.jit.export
        def __getstate__(self) -> tuple[Tensor, bool]:
            return self.w, self.training

        @torch.jit.export
        def __setstate__(self, state: tuple[Tensor, bool]) -> None:
            self.w, self.training = state

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.w

    path = tmp_path / "m.pt"
    torch.jit.script(Writes()).save(str(path))
    trap = tmp_path / "trap.pt"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(trap, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith(".py"):
                text = content.decode()
                at = text.index("def __setstate__")
                end = text.index("return None", at)
                content = f'{text[:end]}torch.save(self.w, "{written}")\n    {text[end:]}'.encode()
            target.writestr(entry, content)
    torch.jit.load(str(trap))
    assert written.exists(), "the trap is a real one"
    written.unlink()
    with pytest.raises(ModelUnsafeError, match=r"__[sg]etstate__ in code/.*\.py, line \d+"):
        read_model(trap, candidate_shapes=SHAPES)
    assert not written.exists()


def test_a_model_that_reads_a_file_when_it_runs_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x00\x00\x80?" * 4)
    trap = changed(tmp_path, f'    return torch.mm(torch.from_file("{secret}", False, 4).view([2, 2]), w)\n')
    read = torch.jit.load(str(trap))(torch.ones(2, 2))
    assert float(read.sum()) == 8.0, "the trap is a real one"
    with pytest.raises(ModelUnsafeError, match=r"calls torch\.from_file in code/.*archives\.py, line 10"):
        read_model(trap, candidate_shapes=SHAPES)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('    torch.save(w, "/tmp/x")\n    return x\n', r"torch\.save"),
        ("    return torch.as_strided(x, [2, 2], [1, 1], 99)\n", r"torch\.as_strided"),
        ("    return ops.aten.as_strided(x, [2, 2], [1, 1], 99)\n", "aten::as_strided"),
        ("    return x.as_strided_([2, 2], [1, 1], 99)\n", r"as_strided_"),
        ("    y = x.set_\n    return y(w)\n", "calls y"),
        ("    return torch.set_(x, w)\n", r"torch\.set_"),
        ("    return torch.resize_(x, [99])\n", r"torch\.resize_"),
        ("    return ops.mine.evil(x)\n", "mine::evil"),
        ("    return ops.c10d.allreduce_(x)\n", "c10d::allreduce_"),
        ("    return ops.prim.rpc_sync(x)\n", "prim::rpc_sync"),
        ("    return ops.image.read_file(x)\n", "image::read_file"),
        ("    return ops.aten.deeper.relu(x)\n", "deeper::relu"),
        ("    return torch.ops.aten.relu(x)\n", r"torch\.ops\.aten\.relu"),
        ("    return fork(x)\n", "calls fork"),
        ('    print("x")\n    return x\n', "calls print"),
        ('    return getattr(x, "as_strided")([2], [1])\n', "getattr"),
        (
            "    y = __torch__.torch.classes.mine.Evil\n    return x\n",
            r"custom class __torch__\.torch\.classes",
        ),
        ("    __torch__ = x\n    return __torch__.as_strided([2], [1])\n", "a value '__torch__'"),
        ("    y = __torch__.f\n    y = x.set_\n    return y(w)\n", "calls y"),
        ("    return x # harmless\n", "a comment"),
        ("    return x \\\n + w\n", "a continued line"),
        ('    y = """a\nb"""\n    return x\n', "a string of several lines"),
        ("    return [y for y in x]\n", "ListComp"),
        ("    return (lambda: x)()\n", "Lambda"),
        ("    import os\n    return x\n", "Import"),
        ("    return x\n  def as_strided(self) -> Tensor:\n    return x\n", "the name of an operator"),
        ("    return x +\n", "cannot be looked through"),
        (f"    return {'(' * 300}x{')' * 300}\n", "cannot be looked through"),
        ("class A(Module):\n  x : int = len([])\n", "in the body of the class A"),
        (b"class A(Module):\r  pass\n", r"byte b'\\r'"),
        ("class A(Module):\n  é : int\n".encode(), "never writes into code"),
    ],
)
def test_code_that_calls_anything_off_the_list_is_refused_by_name_and_place(
    tmp_path: Path, body: str | bytes, says: str
) -> None:
    with pytest.raises(ModelUnsafeError, match=says) as refused:
        scan_archive(changed(tmp_path, body))
    assert CODE in str(refused.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00lsq\x00\x85R.", r"names os\.system \(at byte 2\)"),
        (b"\x80\x02cbuiltins\neval\n.", r"builtins\.eval"),
        (b"\x80\x02c__torch__.torch.classes.mine\nEvil\n)\x81.", r"torch\.classes\.mine\.Evil"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n.", "_rebuild_qtensor"),
        (pickle.dumps({"a": [1]}, 4), "pickle instruction"),
        (b"\x80\x02i__main__\nX\n.", "pickle instruction INST"),
    ],
)
def test_pickles_that_name_anything_off_the_list_are_refused(
    tmp_path: Path, content: bytes, says: str
) -> None:
    for member in ("data.pkl", "constants.pkl", "DATA.PKL"):
        path = changed(tmp_path, members={member: content}, without=("data.pkl",) if member.isupper() else ())
        with pytest.raises(ModelUnsafeError, match=says):
            scan_archive(path)


def tensor(shape: str, strides: str, offset: int = 0, key: str = "0", count: int = 4) -> bytes:
    """A pickle of one tensor, its shape and strides as pickled tuples of bytes."""
    return (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        + f"X{chr(len(key))}\0\0\0{key}".encode()
        + b"X\x03\x00\x00\x00cpu"
        + b"J" + count.to_bytes(4, "little", signed=True) + b"tQ"
        + b"J" + offset.to_bytes(4, "little", signed=True)
        + shape.encode("latin-1") + strides.encode("latin-1") + b"\x89ccollections\nOrderedDict\n)RtR."
    )  # fmt: skip


BIG = "\x8a\x05\x00\x00\x00\x00\x10"  # 2**36


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tensor("K\x02K\x02\x86", "K\x02K\x01\x86", offset=1), "offset 1, of which only 4 values"),
        (tensor("K\x02K\x03\x86", "K\x03K\x01\x86"), "of which only 4"),
        (tensor(f"{BIG}\x85", "K\x00\x85"), r"shape \[68719476736\]"),
        (tensor("J\xff\xff\xff\xff\x85", "K\x01\x85"), "damaged"),
        (tensor("K\x02\x85", "K\x01K\x01\x86"), "damaged"),
        (tensor("K\x02\x85", "K\x01\x85", key="7"), "lacks data/7"),
        (tensor("K\x02\x85", "K\x01\x85", key="../x"), r"lacks data/\.\./x"),
        (tensor("K\x02\x85", "K\x01\x85", count=5), "has 5 values of 4 bytes"),
        (tensor("K\x02\x85", "K\x01\x85", count=-1), "has -1 values"),
        (b"\x80\x02", "damaged"),
        (b"\x80\x02R.", "damaged"),
        (b"\x80\x02K\x01Q.", "damaged"),
        (b"\x80\x02h\x09.", "damaged"),
        (b"", "damaged"),
    ],
)
def test_tensors_that_are_not_there_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        scan_archive(changed(tmp_path, members={"data.pkl": content}))


def test_torch_reads_what_was_looked_at_and_nothing_else(tmp_path: Path) -> None:
    """A `model.json` would make torch read the archive in an old way, with code from any member."""
    path = changed(
        tmp_path, members={"model.json": "{}", "extra/x.so": b"\x7fELF", "bytecode.pkl": b"cos\nsystem\n."}
    )
    copy = tmp_path / "copy.pt"
    plain_copy(path, copy)
    with zipfile.ZipFile(copy) as archive_of_copy:
        names = {name.partition("/")[2] for name in archive_of_copy.namelist()}
    assert {CODE, "data.pkl", "constants.pkl", "data/0", "version"} <= names
    assert not names & {"model.json", "extra/x.so", "bytecode.pkl"}
    assert torch.jit.load(str(copy))(torch.ones(2, 2)).tolist() == [[2.0, 2.0], [2.0, 2.0]]


def test_an_archive_with_two_roots_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("other/code/x.py", "")
    with pytest.raises(ModelUnsafeError, match="outside of its folder 'm'"):
        scan_archive(path)


@pytest.mark.parametrize("name", NETS)
def test_what_people_save_is_let_through(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.pt"
    net = build(name).eval()
    torch.jit.trace(net, inputs(name, 2), check_trace=False).save(str(path))
    scan_archive(path)


@pytest.mark.parametrize(
    "net",
    [nn.LSTM(4, 4), nn.GRU(4, 4, bidirectional=True), nn.TransformerEncoderLayer(4, 2), nn.RReLU(), Plain(),
     nn.Conv2d(4, 4, 3, padding_mode="reflect"), nn.Upsample(scale_factor=2)],
    ids=lambda net: type(net).__name__,
)  # fmt: skip
def test_scripted_layers_are_let_through(tmp_path: Path, net: nn.Module) -> None:
    path = tmp_path / "m.pt"
    torch.jit.script(net.eval()).save(str(path))
    scan_archive(path)


def test_the_list_has_operators_that_torch_has_and_none_that_reach_out() -> None:
    known = operator_names() | {"tolist"}
    assert operators.TORCH - known == set()
    assert known >= {"from_file", "save", "as_strided"}
    parts = ("file", "save", "load", "resize", "strided", "storage", "rpc_", "backward")
    reaching_out = {name for name in known if any(part in name for part in parts)}
    assert reaching_out & operators.TORCH == set()
    assert not operators.TORCH & {"set_", "set_data", "record_stream", "wait", "sparse_coo_tensor"}
