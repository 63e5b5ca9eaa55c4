"""A cable that cuts TCP segments into such of one byte (scripts/lab/cut starts it): copies frames between two devices.

Only connections with the given port at either end are cut. Prints `ready` once it copies. Each line of input is answered with
how many segments were cut so far. Ends with its input.
"""
import select
import socket
import struct
import sys
import time

EVERY_PROTOCOL = 0x0003
OUTGOING = 4
SO_RCVBUFFORCE = 33
IPV4 = b"\x08\x00"
TCP = 6
ETHERNET_BYTES = 14
FIN, PUSH = 0x01, 0x08
# What is not cut, by the name that the command line gives it: how it begins, and its length.
WHOLE = {
    "all": (b"", 0),
    "all-but-crlf": (b"\r\n", 2),
    "all-but-sccrq": (b"\x00\x9c\x00\x01\x1a\x2b\x3c\x4d\x00\x01", 156),
}
# The other end of a cable holds so many frames at least.
BREATH_AFTER = 64


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pieces(frame, l4_port, whole):
    """The frames that a frame becomes, byte by byte, `whole` in one; itself alone where there is nothing to cut."""
    if frame[12:14] != IPV4 or frame[ETHERNET_BYTES + 9] != TCP:
        return [frame]
    tcp_at = ETHERNET_BYTES + (frame[ETHERNET_BYTES] & 0x0F) * 4
    (total,) = struct.unpack_from(">H", frame, ETHERNET_BYTES + 2)
    data_at = tcp_at + (frame[tcp_at + 12] >> 4) * 4
    data = frame[data_at : ETHERNET_BYTES + total]
    if l4_port not in struct.unpack_from(">HH", frame, tcp_at) or len(data) < 2:
        return [frame]
    frames, at = [], 0
    while at < len(data):
        beginning, length = whole
        size = length if length and data.startswith(beginning, at) else 1
        frames.append(piece(frame, tcp_at, data_at, data, at, size))
        at += size
    return frames


def piece(frame, tcp_at, data_at, data, at, size):
    part = data[at : at + size]
    head = bytearray(frame[:data_at])
    (ip_id,) = struct.unpack_from(">H", head, ETHERNET_BYTES + 4)
    (sequence,) = struct.unpack_from(">I", head, tcp_at + 4)
    struct.pack_into(">HH", head, ETHERNET_BYTES + 2, data_at - ETHERNET_BYTES + len(part), (ip_id + at) & 0xFFFF)
    struct.pack_into(">H", head, ETHERNET_BYTES + 10, 0)
    struct.pack_into(">H", head, ETHERNET_BYTES + 10, checksum(bytes(head[ETHERNET_BYTES:tcp_at])))
    struct.pack_into(">I", head, tcp_at + 4, (sequence + at) & 0xFFFFFFFF)
    if at + size < len(data):
        head[tcp_at + 13] &= ~(FIN | PUSH)
    struct.pack_into(">H", head, tcp_at + 16, 0)
    segment = bytes(head[tcp_at:]) + part
    pseudo = bytes(head[ETHERNET_BYTES + 12 : ETHERNET_BYTES + 20]) + struct.pack(">HH", TCP, len(segment))
    struct.pack_into(">H", head, tcp_at + 16, checksum(pseudo + segment))
    return bytes(head) + part


def device(name):
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    # Pieces leave slowly, and nothing that waits behind them shall be lost.
    device.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    device.bind((name, EVERY_PROTOCOL))
    return device


def copy(source, target, l4_port, whole):
    """Passes one frame on; returns whether it was cut."""
    frame, address = source.recvfrom(65_536)
    if address[2] == OUTGOING:
        return False
    parts = pieces(frame, l4_port, whole)
    for number, part in enumerate(parts, 1):
        try:
            target.send(part)
        except OSError:
            pass  # The other end is down for the moment, as a cable may be.
        if number % BREATH_AFTER == 0:
            time.sleep(0.001)
    return len(parts) > 1


def main(one, other, l4_port, what):
    one, other = device(one), device(other)
    ways = {one: other, other: one}
    cuts = 0
    print("ready", flush=True)
    while True:
        for readable in select.select([*ways, sys.stdin], [], [])[0]:
            if readable is not sys.stdin:
                cuts += copy(readable, ways[readable], int(l4_port), WHOLE[what])
            elif not sys.stdin.readline():
                return
            else:
                print(cuts, flush=True)


main(*sys.argv[1:])
