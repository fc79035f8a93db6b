"""Changes to files that know what is inside: fields of messages, members of archives, headers, code, JSON."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.message import Message

INTEGERS = (
    0, 1, -1, 2, 3, 7, 64, 255, 256, 65_535, 2**31 - 1, 2**31, -(2**31), 2**32, 10**10, 2**62, 2**63 - 1,
    -(2**63),
)  # fmt: skip
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
WORDS = (
    "", "x", "y", "w", "..", "../../etc/passwd", "/etc/passwd", "C:\\x", "\0", "é" * 9, "a" * 300, "big",
    "-1", "1e999",
)  # fmt: skip
_OPERATORS = """
    Add MatMul Conv Reshape Expand Tile ConstantOfShape Range Resize Pad OneHot Concat Split Slice
    Gather GatherND ScatterND If Loop Scan LSTM GRU TopK NonZero Einsum ConvTranspose MaxPool
    BatchNormalization Cast Shape Unsqueeze Squeeze RandomNormal Constant Identity Transpose Softmax
    QuantizeLinear DequantizeLinear Gemm CumSum Trilu DFT STFT Col2Im GridSample RoiAlign
    NonMaxSuppression SequenceInsert Evil
"""
OPERATORS = tuple(_OPERATORS.split())
CODE = (
    '    torch.save(x, "/tmp/prunery-fuzz")\n',
    "    y = torch.as_strided(x, [9], [9], 9)\n",
    "    y = ops.mine.evil(x)\n",
    "    while True:\n      pass\n",
    "    y = torch.zeros([1000000, 1000000])\n",
    "    y = torch.relu(x)\n",
    "  def __setstate__(self, s) -> NoneType:\n    return None\n",
    "    y = [1, 2][99]\n",
    "    assert False\n",
)
Mutation = Callable[[bytes, random.Random], bytes]


def mutated(kind: str, data: bytes, dice: random.Random) -> bytes:
    """One broken version of a file of this kind."""
    change = _OF_KIND[kind]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        data = (change if dice.random() < 0.8 else raw)(data, dice)
    return data


def raw(data: bytes, dice: random.Random) -> bytes:
    """Bytes changed, taken out, put in, doubled or cut off."""
    content = bytearray(data)
    if not content:
        return dice.randbytes(dice.randrange(20))
    for _ in range(dice.choice((1, 1, 2, 4, 16))):
        if not content:
            break
        place = dice.randrange(min(len(content), dice.choice((64, 1000, 10**9))))
        way = dice.randrange(6)
        if way == 0:
            content[place] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        elif way == 1:
            del content[place : place + dice.choice((1, 2, 8, 64))]
        elif way == 2:
            content[place:place] = dice.randbytes(dice.choice((1, 2, 8)))
        elif way == 3:
            content[place] ^= 1 << dice.randrange(8)
        elif way == 4:
            content[place:place] = content[place : place + dice.choice((4, 32, 256))]
        elif dice.random() < 0.2:
            del content[place:]
    return bytes(content)


def model(data: bytes, dice: random.Random) -> bytes:
    """A field somewhere in an ONNX file."""
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(data)
    except Exception:  # noqa: BLE001  it is broken already
        return raw(data, dice)
    messages: list[Message] = []
    _collect(proto, messages)
    for _ in range(dice.choice((1, 1, 2, 3))):
        _change(dice.choice(messages), dice)
    try:
        return bytes(proto.SerializeToString())
    except Exception:  # noqa: BLE001  larger than a message can be
        return data


def _collect(message: Message, found: list[Message]) -> None:
    """A message and those in it; of many alike the first hundred."""
    found.append(message)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in list(value)[:100] if field.is_repeated else [value]:
            _collect(inner, found)


def _change(message: Message, dice: random.Random) -> None:
    fields = message.DESCRIPTOR.fields
    there = [field for field, _ in message.ListFields()]
    field = dice.choice(there if there and dice.random() < 0.85 else list(fields))
    if field.is_repeated:
        _change_list(getattr(message, field.name), field, dice)
    elif field.message_type is not None:
        if dice.random() < 0.3:
            message.ClearField(field.name)
        else:
            getattr(message, field.name).SetInParent()
    elif dice.random() < 0.15:
        message.ClearField(field.name)
    else:
        _set(message, field, dice)


def _change_list(values: Any, field: Any, dice: random.Random) -> None:
    way = dice.randrange(5)
    if way == 0 and len(values):
        del values[dice.randrange(len(values))]
    elif way == 1 and len(values) and len(values) < 500:
        one = values[dice.randrange(len(values))]
        values.add().CopyFrom(one) if field.message_type is not None else values.append(one)
    elif way == 2 and len(values) > 1:
        a, b = dice.randrange(len(values)), dice.randrange(len(values))
        if field.message_type is not None:
            held = type(values[a])()
            held.CopyFrom(values[a])
            values[a].CopyFrom(values[b])
            values[b].CopyFrom(held)
        else:
            values[a], values[b] = values[b], values[a]
    elif field.message_type is not None:
        values.add()
    elif len(values) and way == 3:
        values[dice.randrange(len(values))] = _value(field, dice)
    else:
        values.append(_value(field, dice))


def _set(message: Message, field: Any, dice: random.Random) -> None:
    if field.name == "op_type":
        message.op_type = dice.choice(OPERATORS)
        return
    try:
        setattr(message, field.name, _value(field, dice))
    except (ValueError, TypeError):
        message.ClearField(field.name)


def _value(field: Any, dice: random.Random) -> Any:
    if field.type == field.TYPE_BYTES:
        return dice.randbytes(dice.choice((0, 1, 4, 8, 64)))
    if field.type == field.TYPE_STRING:
        return dice.choice(WORDS).replace("\0", "")
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return dice.choice(FLOATS)
    number = dice.choice(INTEGERS)
    if field.type in (field.TYPE_INT32, field.TYPE_ENUM):
        return (number + 2**31) % 2**32 - 2**31 if field.type == field.TYPE_INT32 else number % 30
    return number % 2**64 if field.type == field.TYPE_UINT64 else number


def archive(data: bytes, dice: random.Random) -> bytes:
    """A member's content, its name, another member, or what the directory says of one."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            members = [(entry.filename, source.read(entry)) for entry in source.infolist()]
    except Exception:  # noqa: BLE001  it is broken already
        return raw(data, dice)
    if not members:
        return raw(data, dice)
    place = dice.randrange(len(members))
    name, content = members[place]
    way = dice.randrange(10)
    if way < 6:
        members[place] = name, _of_member(name)(content, dice)
    elif way == 6:
        members[place] = (
            dice.choice((dice.choice(WORDS), name.upper(), f"../{name}", name[:-1])) or "x",
            content,
        )
    elif way == 7:
        del members[place]
    elif way == 8:
        members.append((dice.choice((name, f"{name}.py", "m/model.json", "x.npy", "a/1.png")), content))
    stream = io.BytesIO()
    method = dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2))
    with zipfile.ZipFile(stream, "w", method) as target:
        for one, inner in members:
            target.writestr(one.replace("\0", "") or "x", inner)
    packed = stream.getvalue()
    return _directory(packed, dice) if way == 9 else packed


def _directory(data: bytes, dice: random.Random) -> bytes:
    """A number of an entry in the directory: flags, method, sizes, attributes, place."""
    content = bytearray(data)
    entries = [found.start() for found in re.finditer(b"PK\x01\x02", data)]
    if entries:
        at = dice.choice(entries) + dice.choice((8, 10, 16, 20, 24, 38, 42))
        struct.pack_into(
            "<I", content, at, dice.choice((0, 1, 0xFFFF, 2**31, 2**32 - 1, dice.randrange(2**32)))
        )
    return bytes(content)


def _of_member(name: str) -> Mutation:
    lower = name.lower()
    for ending, change in _OF_MEMBER.items():
        if lower.endswith(ending):
            return change
    return raw


def array(data: bytes, dice: random.Random) -> bytes:
    """The header of a .npy array."""
    length = struct.unpack_from("<H", data, 8)[0] if len(data) > 10 else 0
    header, rest = data[10 : 10 + length].decode("latin-1"), data[10 + length :]
    way = dice.randrange(5)
    if way == 0:
        header = re.sub(r"\(\d+", f"({dice.choice(INTEGERS)}", header)
    elif way == 1:
        kinds = ("|O", "<f8", "<U99999", "|S0", "<c16", ">i8", "|V8")
        header = re.sub(r"'[<>|=]\w+'", repr(dice.choice(kinds)), header)
    elif way == 2:
        header = header.replace("False", dice.choice(("True", "None", "[]")))
    elif way == 3:
        header = header.replace("'shape'", dice.choice(("'shap'", "'descr'")))
    else:
        return raw(data, dice)
    text = header.encode("latin-1")
    return data[:8] + struct.pack("<H", len(text) % 65536) + text + rest


def picture(data: bytes, dice: random.Random) -> bytes:
    """A chunk of a PNG, with its checksum made right; bytes of other images."""
    if not data.startswith(b"\x89PNG") or dice.random() < 0.3:
        return raw(data, dice)
    chunks, at = [], 8
    while at + 8 <= len(data):
        length = struct.unpack_from(">I", data, at)[0]
        chunks.append([data[at + 4 : at + 8], data[at + 8 : at + 8 + length]])
        at += 12 + length
    if not chunks:
        return raw(data, dice)
    one = dice.choice(chunks)
    way = dice.randrange(4)
    if way == 0 and one[0] == b"IHDR" and len(one[1]) >= 8:
        one[1] = (
            struct.pack(">II", dice.choice((0, 1, 2**15, 2**31 - 1)), dice.choice((0, 8, 2**20))) + one[1][8:]
        )
    elif way == 1:
        one[1] = raw(one[1], dice)
    elif way == 2:
        content = b"k\0\0" + zlib.compress(bytes(dice.choice((0, 10**6))))
        kind = dice.choice((b"zTXt", b"iCCP", b"PLTE", b"acTL", b"tRNS"))
        chunks.insert(dice.randrange(len(chunks) + 1), [kind, content])
    else:
        chunks.remove(one)
    parts = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks]
    return data[:8] + b"".join(parts)


def code(data: bytes, dice: random.Random) -> bytes:
    """A line of TorchScript put in, taken out, doubled, or a word of it changed."""
    lines = data.decode("latin-1").splitlines(keepends=True)
    if not lines:
        return raw(data, dice)
    place = dice.randrange(len(lines))
    way = dice.randrange(5)
    if way == 0:
        lines.insert(place, dice.choice(CODE))
    elif way == 1:
        del lines[place]
    elif way == 2:
        lines.insert(place, lines[place])
    elif way == 3:
        instead = dice.choice(("torch.from_file", "ops.aten.\\1", "torch.size", "x.\\1"))
        lines[place] = re.sub(r"torch\.(\w+)", instead, lines[place])
    else:
        lines[place] = re.sub(r"\d+", str(dice.choice(INTEGERS)), lines[place])
    return "".join(lines).encode("latin-1")


def pickled(data: bytes, dice: random.Random) -> bytes:
    """A name, an instruction or a number of a pickle."""
    way = dice.randrange(3)
    if way == 0:
        evil = dice.choice((b"cos\nsystem\n", b"cbuiltins\neval\n", b"c__torch__.torch.classes.x\nY\n"))
        return data.replace(b"ctorch._utils\n_rebuild_tensor_v2\n", evil, 1)
    places = [place for place, byte in enumerate(data) if byte in b"KMJ"]
    if way == 1 and places:
        content, place = bytearray(data), dice.choice(places)
        content[place + 1 : place + 3] = struct.pack("<H", dice.randrange(65536))
        return bytes(content)
    return raw(data, dice)


def values(data: bytes, dice: random.Random) -> bytes:
    """Something in a JSON file."""
    try:
        content = json.loads(data)
    except ValueError:
        return raw(data, dice)
    holders: list[Any] = []
    waiting = [content]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict | list) and part:
            holders.append(part)
            waiting.extend(part.values() if isinstance(part, dict) else part)
    if holders:
        holder = dice.choice(holders)
        key = dice.choice(list(holder)) if isinstance(holder, dict) else dice.randrange(len(holder))
        way = dice.randrange(4)
        if way == 0:
            del holder[key]
        elif way == 1:
            holder[key] = dice.choice((None, True, [], {}, *INTEGERS, *WORDS, 1e308))
        elif way == 2:
            holder[key] = [holder[key]] * dice.choice((1, 2, 50))
        elif isinstance(holder[key], str):
            name = dice.choice(("aten", "prims", "mine"))
            holder[key] = holder[key].replace("aten", name) + dice.choice(("", "(a+)+$", "."))
    return json.dumps(content).encode()


def table(data: bytes, dice: random.Random) -> bytes:
    """A cell, a line or a separator of a CSV."""
    text = data.decode("utf-8", errors="replace")
    lines = text.splitlines(keepends=True) or [""]
    place = dice.randrange(len(lines))
    way = dice.randrange(6)
    if way == 0:
        cells = lines[place].split(",")
        cells[dice.randrange(len(cells))] = dice.choice(
            ('"', "nan", "1e999", "", "=1+1", "x" * 5000, "\0", "é")
        )
        lines[place] = ",".join(cells)
    elif way == 1:
        lines[place] = lines[place] * dice.choice((0, 2, 100))
    elif way == 2:
        lines[place] = lines[place].replace(",", dice.choice((";", "\t", "", ",,")))
    elif way == 3:
        lines.insert(place, dice.choice(("\n", '"', "a,b\n", "," * 3000 + "\n")))
    elif way == 4:
        return text.encode(dice.choice(("utf-16", "latin-1", "utf-8-sig", "utf-32")), errors="replace")
    else:
        return raw(data, dice)
    return "".join(lines).encode()


_OF_MEMBER: dict[str, Mutation] = {
    ".onnx": model, ".npy": array, ".png": picture, ".py": code, ".pkl": pickled, ".json": values,
    ".pt": archive,
}  # fmt: skip
_OF_KIND: dict[str, Mutation] = {
    "onnx": model, "hostile": model, "bundle": archive, "torchscript": archive, "pt2": archive,
    "npz": archive, "images": archive, "csv": table, "parquet": raw, "tokenizer": values,
}  # fmt: skip
