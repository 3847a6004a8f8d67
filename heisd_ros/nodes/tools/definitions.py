"""Message definitions of importable types, for the recorder.

Every generated class knows its fields' names and types, so neither `.msg` files nor an index of
packages is needed. Constants are lost; they are not part of a message.
"""

from __future__ import annotations

import importlib
import re
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>")
_BOUNDED = re.compile(r"(w?string)<(\d+)>")
_ARRAY = re.compile(r"(.+)\[(\d+)\]")
_IDL_TO_MSG = {"boolean": "bool", "octet": "byte", "float": "float32", "double": "float64"}


class MessageTypes:
    """Classes and definitions of message types by their names, `std_msgs/msg/String`.

    Attributes:
        store: rosbags' definitions of the requested types and of their fields' types.
    """

    def __init__(self) -> None:
        self.store: Typestore = get_typestore(Stores.EMPTY)
        self._ros = get_typestore(Stores.ROS2_JAZZY)

    def message_class(self, name: str) -> Any:
        """Returns the class of a type, and adds its definition to `store`.

        Raises:
            ValueError: Its package is not installed, or it has a field that rosbags cannot read.
        """
        package, _, kind = name.partition("/msg/")
        try:
            found = getattr(importlib.import_module(f"{package}.msg"), kind)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"messages of type {name} are not installed here") from error
        self._define(name, found)
        return found

    def _define(self, name: str, found: Any) -> None:
        if name in self.store.fielddefs:
            return
        if name in self._ros.fielddefs and not found.get_fields_and_field_types():
            self.store.register({name: self._ros.fielddefs[name]})  # an empty message
            return
        lines = []
        for field, kind in found.get_fields_and_field_types().items():
            text, inner = _msg_type(kind)
            lines.append(f"{text} {field}")
            if "/" in inner:
                package, _, nested = inner.partition("/")
                self.message_class(f"{package}/msg/{nested}")
        self.store.register(get_types_from_msg("\n".join(lines), name))


def _msg_type(kind: str) -> tuple[str, str]:
    """Returns a field's type as in `.msg` files, and the type of one element.

    Args:
        kind: Type in a generated class, for instance `sequence<double>` or `uint8[16]`.
    """
    sequence = _SEQUENCE.fullmatch(kind)
    if sequence:
        text, inner = _msg_type(sequence[1])
        return f"{text}[<={sequence[2]}]" if sequence[2] else f"{text}[]", inner
    array = _ARRAY.fullmatch(kind)
    if array:
        text, inner = _msg_type(array[1])
        return f"{text}[{array[2]}]", inner
    bounded = _BOUNDED.fullmatch(kind)
    if bounded:
        return f"{bounded[1]}<={bounded[2]}", bounded[1]
    return _IDL_TO_MSG.get(kind, kind), kind
