"""Whether bytes are a pickle that does something when loaded: opcodes are walked as an unpickler would, none is run.

An unpickler acts as it reads, so what follows a harmful opcode makes no difference to the harm: bytes count as a pickle
from the first call on, even where they are no valid pickle in the end. Arguments are not parsed: Python's two
unpicklers and pickletools disagree on what a number may look like. Opcodes: Lib/pickletools.py of CPython.
"""

from __future__ import annotations

import pickletools
import re
from typing import BinaryIO, Final

_IMPORT: Final = re.compile(rb"[\w.]+\n[\w.]+\n")
_PROTOCOLS: Final = frozenset({b"\x02", b"\x03", b"\x04", b"\x05"})
_CALLS: Final = frozenset({"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"})
_IMPORTS: Final = frozenset({"GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"})
_PREFIXES: Final = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_OPCODES: Final = {opcode.code.encode("latin-1"): opcode for opcode in pickletools.opcodes}
_MARK: Final = object()
_ITEM: Final = object()

# Text stops making sense as opcodes within a line or two. What still does after so many is a pickle.
_STEPS: Final = 1_000_000
_LINE_BYTES: Final = 64 * 1024 * 1024


def is_pickle(stream: BinaryIO) -> bool:
    """Whether a pickle of any protocol that could do something when loaded begins here. `stream` can seek."""
    start = stream.read(2)
    if start[:1] == b"\x80" and start[1:] in _PROTOCOLS:
        return True
    stream.seek(-len(start), 1)
    imports = False
    stack: list[object] = []
    for _ in range(_STEPS):
        opcode = _OPCODES.get(stream.read(1))
        if opcode is None:
            return False
        argument = _argument(opcode, stream)
        if argument is None or not _step(opcode, stack):
            return False
        if opcode.name in {"GLOBAL", "INST"} and _IMPORT.fullmatch(argument) is None:
            return False
        imports = imports or opcode.name in _IMPORTS
        if imports and (opcode.name in _CALLS or opcode.name == "STOP"):
            return True
        if opcode.name == "STOP":  # loaders read several in a row: torch.load of old files reads five
            stack.clear()
    return True


def _argument(opcode: pickletools.OpcodeInfo, stream: BinaryIO) -> bytes | None:
    """The lines an opcode takes, or nothing for an argument that is skipped; None where the bytes end before."""
    if opcode.arg is None:
        return b""
    size = opcode.arg.n
    if size == pickletools.UP_TO_NEWLINE:
        count = 2 if opcode.arg.name == "stringnl_noescape_pair" else 1
        lines = [stream.readline(_LINE_BYTES) for _ in range(count)]
        return b"".join(lines) if all(line.endswith(b"\n") or len(line) == _LINE_BYTES for line in lines) else None
    if size < 0:
        width = _PREFIXES[size]
        prefix = stream.read(width)
        size = int.from_bytes(prefix, "little")
        if len(prefix) < width or size >= 2**62:
            return None
    stream.seek(size, 1)
    return b""


def _step(opcode: pickletools.OpcodeInfo, stack: list[object]) -> bool:
    """What the opcode does to the stack; False where it needs more than there is, and an unpickler would stop."""
    if opcode.name == "MARK":
        stack.append(_MARK)
        return True
    before = [item for item in opcode.stack_before if item is not pickletools.stackslice]
    if pickletools.markobject in before:
        while stack and stack[-1] is not _MARK:
            stack.pop()
        if not stack:
            return False
        stack.pop()
        before = before[: before.index(pickletools.markobject)]
    if len(stack) < len(before):
        return False
    if before:
        del stack[-len(before) :]
    stack.extend(_ITEM for _ in opcode.stack_after)
    return True
