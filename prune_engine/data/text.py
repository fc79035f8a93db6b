"""Texts to token ids, with the model's own `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from prune_engine.data.raw import Array, RawData, Split
from prune_engine.data.tokenizer_file import check_tokenizer
from prune_engine.errors import DataError, PruneError, ShapeMismatchError
from prune_engine.report import TensorInfo

_CHUNK = 4096
_PADDING_TOKENS = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>")


def tokenise(raw: RawData, inputs: Sequence[TensorInfo]) -> RawData:
    """The data with its texts replaced by arrays named like the model's inputs, int64 (rows, tokens).

    Inputs are told by their names: the mask has "mask" in it, the segments "type" or "segment", positions
    "position"; the remaining one takes the token ids. Texts are cut and padded to the model's own length
    where its graph has one, otherwise to `raw.max_length`.

    Raises:
        DataError: no tokenizer was sent, or it cannot be read.
        ShapeMismatchError: the model's inputs are not those of a text model.
    """
    if raw.tokenizer is None:
        raise DataError(
            "the data holds texts, and there is no tokenizer; send the model's tokenizer.json with it "
            "(as the field "
            "'tokenizer'), or send token ids as arrays named like the model's inputs",
            param="tokenizer",
        )
    roles = {info.name: _role(info.name) for info in inputs}
    if sorted(roles.values()).count("ids") != 1:
        raise ShapeMismatchError(
            "texts fit models with one input for token ids (and masks); this model's inputs are "
            f"{', '.join(roles)}"
        )
    sizes = {info.shape[1] for info in inputs if len(info.shape) == 2 and isinstance(info.shape[1], int)}
    length = next((int(size) for size in sizes if isinstance(size, int)), raw.max_length)
    tokenizer = load_tokenizer(raw.tokenizer, length)

    def encoded(split: Split) -> Split:
        texts = next((array for array in split.inputs.values() if array.dtype.kind == "U"), None)
        if texts is None:
            return split
        ids, mask, types = encode(tokenizer, texts.reshape(len(texts)), length)
        positions = np.broadcast_to(np.arange(length, dtype=np.int64), ids.shape)
        by_role = {"ids": ids, "mask": mask, "types": types, "positions": positions}
        return Split({name: by_role[role] for name, role in roles.items()}, split.labels)

    test = encoded(raw.test) if raw.test is not None else None
    return replace(raw, train=encoded(raw.train), test=test)


def load_tokenizer(path: Path, length: int) -> Tokenizer:
    """A tokenizer that cuts and pads to `length` tokens.

    Raises:
        DataError, DataUnsafeError: the file is no tokenizer.json; see `check_tokenizer`.
    """
    check_tokenizer(path)
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except BaseException as error:  # noqa: BLE001  the library raises bare Exception, and panics
        raise _broken(error, "cannot be read") from None
    padding = tokenizer.padding or {}
    known = {token: tokenizer.token_to_id(token) for token in _PADDING_TOKENS}
    pad_token = padding.get("pad_token") or next(
        (t for t, number in known.items() if number is not None), "[PAD]"
    )
    pad_id = padding.get("pad_id") or tokenizer.token_to_id(pad_token) or 0
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(
        length=length, pad_id=pad_id, pad_token=pad_token, direction=padding.get("direction") or "right"
    )
    return tokenizer


def encode(tokenizer: Tokenizer, texts: Array, length: int) -> tuple[Array, Array, Array]:
    """(token ids, attention mask, token types), each int64 (rows, length)."""
    ids, mask, types = (np.zeros((len(texts), length), dtype=np.int64) for _ in range(3))
    for start in range(0, len(texts), _CHUNK):
        rows = slice(start, start + _CHUNK)
        try:
            encodings = tokenizer.encode_batch([str(text) for text in texts[rows]])
            ids[rows] = [encoding.ids for encoding in encodings]
            mask[rows] = [encoding.attention_mask for encoding in encodings]
            types[rows] = [encoding.type_ids for encoding in encodings]
        except BaseException as error:  # noqa: BLE001  a panic is no Exception
            raise _broken(error, "cannot be used on the texts") from None
    return ids, mask, types


def _broken(error: BaseException, how: str) -> DataError:
    """What to say of a tokenizer that fails. Whatever ends the process on purpose goes on its way."""
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit | MemoryError | PruneError):
        raise error
    return DataError(f"tokenizer.json {how}: {str(error)[:200]}", param="tokenizer")


def _role(name: str) -> str:
    lower = name.lower()
    for role, words in (("mask", ("mask",)), ("types", ("type", "segment")), ("positions", ("position",))):
        if any(word in lower for word in words):
            return role
    return "ids"
