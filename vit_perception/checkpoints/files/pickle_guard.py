"""A look through a pickle before it is unpickled.

Some few bytes can hold a tuple that is hashed for ever, or ask for a table of gigabytes.
"""

import io
import pickletools

from vit_perception.files.errors import InvalidValue

# A training checkpoint of a ViT-L with its optimiser has some 100,000.
_MOST_OPCODES = 1_000_000
# How many things a tuple may hold, with those inside of its tuples; a tensor's takes about 20.
_MOST_IN_TUPLE = 1000
# The number that old files begin with has 77.
_MOST_BITS = 80
# What Python writes from version 2 of the protocol on, without the opcodes of buffers and of
# copyreg's numbers.
_OPCODES = frozenset(
    [
        "PROTO",
        "FRAME",
        "STOP",
        "MARK",
        "POP",
        "POP_MARK",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "SHORT_BINSTRING",
        "BINSTRING",
        "SHORT_BINBYTES",
        "BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
        "SHORT_BINUNICODE",
        "BINUNICODE",
        "BINUNICODE8",
        "EMPTY_LIST",
        "APPEND",
        "APPENDS",
        "LIST",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
        "EMPTY_SET",
        "ADDITEMS",
        "FROZENSET",
        "BINGET",
        "LONG_BINGET",
        "BINPUT",
        "LONG_BINPUT",
        "MEMOIZE",
        "GLOBAL",
        "STACK_GLOBAL",
        "REDUCE",
        "NEWOBJ",
        "NEWOBJ_EX",
        "BUILD",
        "BINPERSID",
    ]
)
# Opcodes whose result holds what they take, as a tuple does.
_NESTING = frozenset({"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "REDUCE", "NEWOBJ"})
_NESTING |= {"NEWOBJ_EX", "FROZENSET"}


def pickle_end(content: bytes) -> int:
    """Find where the pickle at the start of ``content`` ends.

    It follows the unpickler's stack, with the number of things in each tuple in place of values.

    Raises:
        ValueError: The pickle is harmful or has no end.
        IndexError, KeyError: It is broken.
    """
    stack: list[int | None] = []  # None is a mark
    memo: dict[int, int] = {}
    for number, (opcode, argument, position) in enumerate(pickletools.genops(io.BytesIO(content))):
        name = opcode.name
        if name not in _OPCODES:
            raise InvalidValue(f"the opcode {name} in its pickle")
        if number > _MOST_OPCODES:
            raise InvalidValue(f"more than {_MOST_OPCODES} opcodes in its pickle")
        if isinstance(argument, int):
            _check_number(name, argument, len(content))
        if name == "STOP":
            return position + 1
        if name == "MARK":
            stack.append(None)
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            place = len(memo) if name == "MEMOIZE" else argument
            if place > _MOST_OPCODES:
                raise InvalidValue(f"the place {place} in its pickle's memory")
            memo[place] = stack[-1] or 0
        else:
            held = 1 + sum(_taken(stack, opcode))
            if held > _MOST_IN_TUPLE:
                raise InvalidValue(f"a tuple of more than {_MOST_IN_TUPLE} things in its pickle")
            if opcode.stack_after:
                stack.append(held if name in _NESTING else 1)
    raise InvalidValue("no end of its pickle")


def _check_number(name: str, argument: int, length: int) -> None:
    if argument.bit_length() > _MOST_BITS or (name == "FRAME" and argument > length):
        raise InvalidValue(f"a number of {argument.bit_length()} bits in its pickle")


def _taken(stack: list[int | None], opcode: pickletools.OpcodeInfo) -> list[int]:
    """Take off the stack what the opcode takes; give the sizes of what its result nests."""
    wanted = len(opcode.stack_before)
    taken: list[int] = []
    if wanted and opcode.stack_before[-1] is pickletools.stackslice:
        wanted -= 2
        while (value := stack.pop()) is not None:
            taken.append(value)
    elif opcode.stack_before == [pickletools.markobject]:
        wanted = 1
    taken += [stack.pop() or 0 for _ in range(wanted)]
    return taken if opcode.name in _NESTING else []
