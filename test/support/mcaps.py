"""mcap files as programs outside of ROS write them, by the mcap library alone."""

from __future__ import annotations

from mcap.writer import Writer
from support.bags import TYPES

SCHEMAS = {
    "json": ("Panel", "jsonschema", b'{"type": "object"}'),
    "protobuf": ("vendor.Scene", "protobuf", b"\x0a\x01a"),
}


def write_mcap(path, messages, foreign=(), profile="ros2", encoding="cdr", **options):
    """Writes a file.

    Args:
        path: Where.
        messages: (topic, receive time in ns, message), written in this order.
        foreign: Channels of other programs: "json", "protobuf", "schemaless".
        profile: Of the header.
        encoding: What the channels of ROS say that their messages are in.
        options: Of the library's writer.
    """
    with path.open("wb") as file:
        writer = Writer(file, **options)
        writer.start(profile=profile, library="another")
        others = []
        for name in foreign:
            schema = writer.register_schema(*SCHEMAS[name]) if name in SCHEMAS else 0
            others.append(writer.register_channel(f"/other/{name}", name, schema))
        channels = {}
        for number, (topic, stamp, message) in enumerate(messages):
            kind = message.__msgtype__
            if topic not in channels:
                text, _ = TYPES.generate_msgdef(kind, ros_version=2)
                schema = writer.register_schema(kind, "ros2msg", text.encode())
                channels[topic] = writer.register_channel(topic, encoding, schema)
            data = bytes(TYPES.serialize_cdr(message, kind))
            writer.add_message(channels[topic], stamp, data, stamp)
            if number % 20 == 0:
                for channel in others:
                    writer.add_message(channel, stamp, b"{}", stamp)
        writer.finish()
    return path
