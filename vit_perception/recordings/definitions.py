"""Compare the message definitions that a bag records with those of ROS.

Messages are always read by ROS's own definitions. A definition from a file is never run: no number
in it is computed, no name in it becomes code, and types that nobody reads are not looked at.
"""

import re
from functools import cache
from typing import Any, NamedTuple

from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from vit_perception.recordings.storage import MOST_DEFINITION_BYTES, Channel, Unreadable, shown

MOST_EXCESS = 32  # bytes that may follow a message
# Of packages that no store has.
_FURTHER_TYPES = {
    "vision_msgs/msg/ObjectHypothesis": "string class_id\nfloat64 score\n",
    "vision_msgs/msg/Classification": "std_msgs/Header header\nvision_msgs/ObjectHypothesis[] "
    "results\n",
    "vision_msgs/msg/VisionInfo": "std_msgs/Header header\nstring method\n"
    "string database_location\nint32 database_version\n",
    "ffmpeg_image_transport_msgs/msg/FFMPEGPacket": "std_msgs/Header header\nint32 width\n"
    "int32 height\nstring encoding\nuint64 pts\nuint8 flags\nbool is_bigendian\nuint8[] data\n",
    "foxglove_msgs/msg/CompressedVideo": "builtin_interfaces/Time timestamp\nstring frame_id\n"
    "uint8[] data\nstring format\n",
}
_NO_HASH = re.compile(r"(RIHS01_0{64})?")
_SEPARATOR = re.compile(r"^={10,}[ \t\r]*$", re.MULTILINE)
_MSG_FIELD = re.compile(
    r"\s*([A-Za-z][\w/]*)(<=\d+)?(\[(?:<=)?\d*\])?\s+([A-Za-z]\w*)\s*(=)?", re.ASCII
)
# Comments, texts, directives, and the lines between the types. Each also matches without its end:
# otherwise the end would be searched for again and again. Annotations are left without their texts,
# as `@verbatim(language=, text=)`.
_IDL_NOISE = re.compile(
    r'//[^\n]*|/\*(?:.*?\*/|.*)|"(?:[^"\\\n]|\\.)*"?|^[ \t]*#[^\n]*|^={10,}[ \t\r]*$|^IDL:[^\n]*',
    re.DOTALL | re.MULTILINE,
)
_IDL_ANNOTATION = re.compile(r"@[\w:]+\s*(?:\([^()]*\))?", re.ASCII)
_MOST_SCOPES = 20
_IDL_TOKEN = re.compile(r"[A-Za-z_][\w:]*|\d+|[^\s]", re.ASCII)
# Names of types with the same bytes.
_SAME = {
    "byte": "uint8",
    "char": "uint8",
    "octet": "uint8",
    "boolean": "bool",
    "short": "int16",
    "long": "int32",
    "long long": "int64",
    "unsigned short": "uint16",
    "unsigned long": "uint32",
    "unsigned long long": "uint64",
    "float": "float32",
    "double": "float64",
    "long double": "float128",
}
_BASE = {
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "uint64",
    "int64",
    "float32",
    "float64",
    "float128",
    "string",
    "wstring",
    "wchar",
}


class Field(NamedTuple):
    """One field of a message type."""

    name: str
    kind: str  # such as uint8[], float64[9], std_msgs/msg/Header


Fields = list[Field]


@cache
def typestore() -> Typestore:
    """Return the definitions of ROS 2 Kilted, and those of further packages."""
    store = get_typestore(Stores.ROS2_KILTED)
    for name, definition in _FURTHER_TYPES.items():
        if name not in store.types:
            store.register(get_types_from_msg(definition, name))
    return store


def why_not_readable(channel: Channel) -> str:
    """Return why messages of ``channel`` cannot be read; "" if they can.

    Their type is unknown here, or the recorded definition differs from that of ROS.
    """
    if channel.type_name not in typestore().fielddefs:
        return f"its type {channel.type_name} is none that is read here"
    return difference(channel)


def difference(channel: Channel) -> str:
    """Return how the recorded definition of a type differs from that of ROS; "" if it does not.

    The text is also empty if no definition is recorded, or if the type is unknown here.
    """
    store = typestore()
    name, encoding, text = channel.definition
    if name not in store.fielddefs:
        return ""
    if not text:
        if _NO_HASH.fullmatch(channel.digest) or channel.digest == store.hash_rihs01(name):
            return ""
        return (
            f"the bag's hash of {name} is {shown(channel.digest)}, and that of ROS "
            f"{store.hash_rihs01(name)}"
        )
    if len(text) > MOST_DEFINITION_BYTES:
        return f"the bag's definition of {name} has more than {MOST_DEFINITION_BYTES} characters"
    if encoding not in PARSERS:
        return f"the bag's definition of {name} is written in {shown(encoding)!r}"
    recorded = PARSERS[encoding](text, name)
    if name not in recorded:
        return f"the bag's definition of {name} does not define it"
    found = _difference(name, recorded, store)
    return f"{found}, by the bag's definition of {name}" if found else ""


def deserialised(data: bytes, type_name: str) -> Any:
    """Return the message in ``data``, of a readable type, or an Unreadable that says the fault."""
    # Not the error itself: it would keep this call's data until the next garbage collection.
    failure = ""
    view = memoryview(data)  # slicing it copies nothing
    # In bags written through `rclpy.serialization`, bytes follow a message: it sizes its buffer by
    # an upper bound, up to 4 bytes too large for each empty sequence (a JointState without efforts
    # has one).
    for excess in range(0, MOST_EXCESS + 1, 4):
        try:
            return typestore().deserialize_cdr(view[: len(data) - excess], type_name)
        except SerdeError as error:
            failure = failure or shown(error).rstrip(".")
        except Exception as error:  # of the generated code of a type
            return Unreadable(shown(error) or type(error).__name__)
    return Unreadable(failure)


def _difference(name: str, recorded: dict[str, Fields], store: Typestore) -> str:
    """Return the first field of ``name``, or of a type in it, that differs from ROS.

    Types that are not recorded count as equal.
    """
    waiting = [name]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        ours = [Field(field, described(kind)) for field, kind in store.fielddefs[name][1]]
        theirs = recorded.get(name)
        # A message without fields has one in ROS, which definitions do not write.
        if theirs is not None and not (
            theirs == [] and ours[0].name == "structure_needs_at_least_one_member"
        ):
            for index in range(max(len(ours), len(theirs))):
                mine = ours[index] if index < len(ours) else None
                other = theirs[index] if index < len(theirs) else None
                if mine != other:
                    return f"{name} has {_said(other)} where ROS has {_said(mine)}"
        inner = [field.kind.split("[")[0] for field in ours]
        waiting += [kind for kind in inner if kind in store.fielddefs]
    return ""


def _said(field: Field | None) -> str:
    return f"`{shown(field.kind)} {shown(field.name)}`" if field else "nothing"


def described(kind: tuple) -> str:
    """Return a kind of rosbags as the text that :class:`Field` has."""
    if kind[0] == Nodetype.BASE:
        return _SAME.get(kind[1][0], kind[1][0])
    if kind[0] == Nodetype.NAME:
        return kind[1]
    inner, size = kind[1]
    return described(inner) + (f"[{size}]" if kind[0] == Nodetype.ARRAY else "[]")


def _of_msg(text: str, name: str) -> dict[str, Fields]:
    """Return the fields by type of a ros2msg definition.

    The text has the type itself, then each type in it after a line of ``=``.
    """
    found: dict[str, Fields] = {}
    for index, part in enumerate(_SEPARATOR.split(text)):
        lines = part.strip("\r\n").split("\n") if index else part.split("\n")
        if index:
            head = lines.pop(0).strip()
            name = _full_name(head.removeprefix("MSG:").strip(), name.split("/")[0])
        fields: Fields = found.setdefault(name, [])
        for line in lines:
            bare = line.split("#", 1)[0].strip()
            match = _MSG_FIELD.match(bare)
            if not bare or (match and match[5]):
                continue  # a constant has no bytes
            if match is None:
                fields.append(Field(shown(bare), "what is no field"))
                continue
            base = _SAME.get(match[1], match[1])
            kind = base if base in _BASE else _full_name(base, name.split("/")[0])
            size = match[3] or ""
            fields.append(Field(match[4], kind + ("[]" if size.startswith("[<=") else size)))
    return found


def _full_name(name: str, package: str) -> str:
    """Return ``std_msgs/msg/Header`` for ``Header``, ``std_msgs/Header`` and itself."""
    parts = name.split("/")
    if len(parts) == 1:
        return f"{'std_msgs' if name == 'Header' else package}/msg/{name}"
    return name if len(parts) > 2 else f"{parts[0]}/msg/{parts[1]}"


def _of_idl(text: str, name: str) -> dict[str, Fields]:
    """Return the fields by type of an IDL definition.

    It knows modules, structs, typedefs and constants; anything else becomes a field that ROS does
    not have.
    """
    found: dict[str, Fields] = {}
    typedefs: dict[str, str] = {}  # the type by its other name
    scopes: list[str] = []
    fields: Fields | None = None
    words: list[str] = []
    for match in _IDL_TOKEN.finditer(_IDL_ANNOTATION.sub(" ", _IDL_NOISE.sub(" ", text))):
        if match[0] not in ";{}":
            words.append(match[0])
            continue
        if match[0] == "{" and words[:1] == ["struct"]:
            fields = found.setdefault("/".join([*scopes, *words[1:]]), [])
        elif match[0] == "{":
            scopes.append(" ".join(words[1:]))
            if len(scopes) > _MOST_SCOPES:
                return {}
        elif match[0] == "}" and fields is not None:
            fields = None
        elif match[0] == "}":
            del scopes[-1:]
        elif words[:1] == ["typedef"]:
            alias, kind = _idl_field(words[1:], scopes, typedefs)
            typedefs["/".join([*scopes, alias])] = kind
        elif fields is not None and words and words[0] != "const":
            fields.append(_idl_field(words, scopes, typedefs))
        words = []
    return found


def _idl_field(words: list[str], scopes: list[str], typedefs: dict[str, str]) -> Field:
    """Return one field.

    ``words`` are those of ``sequence<uint8, 5> data``, ``double k[9]`` or
    ``std_msgs::msg::Header header``.
    """
    size = ""
    if words[-1:] == ["]"] and len(words) > 4 and words[-3] == "[":
        size = f"[{words[-2]}]"
        words = words[:-3]
    *kind, name = words or [""]
    if kind[:2] == ["sequence", "<"]:
        size = "[]"
        kind = kind[2:]
        kind = kind[: kind.index(",")] if "," in kind else kind[:-1]
    if kind[:1] in (["string"], ["wstring"]):
        kind = kind[:1]
    plain = " ".join(kind)
    plain = _SAME.get(plain, plain)
    if plain not in _BASE:
        plain = plain.replace("::", "/") if "::" in plain else "/".join([*scopes, plain])
    return Field(name, typedefs.get(plain, plain) + size)


PARSERS = {"ros2msg": _of_msg, "ros2idl": _of_idl, "omgidl": _of_idl}
