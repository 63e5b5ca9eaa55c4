"""A cable that loses, repeats, reorders and cuts frames: copies them between two devices (scripts/lab/lossy starts it).

Prints `ready` once it copies. Each line of input is answered with the counts so far:
`forwarded=N lost=N duplicated=N reordered=N`. Ends with its input.

A reordered frame waits until two more have gone its way, or for ten milliseconds. Frames other than IPv4 (ARP) pass.
Segments from or to the TCP port that is cut become segments of one byte, first of all.
"""
import random
import select
import socket
import sys
import time

EVERY_PROTOCOL = 0x0003
OUTGOING = 4
IPV4 = b"\x08\x00"
OVERTAKEN_BY = 2
PATIENCE = 0.01
TCP = 6
FIN_AND_PSH = 0x09


class Way:
    """One direction."""

    def __init__(self, source, target, cut_port):
        self.source, self.target, self.cut_port = source, target, cut_port
        self.late = []  # [frame, frames that may still overtake it, when it goes at the latest]

    def take(self, faults, chance, counts):
        frame, address = self.source.recvfrom(65_536)
        if address[2] == OUTGOING:
            return
        for piece in cut(frame, self.cut_port):
            self.carry(piece, faults, chance, counts)

    def carry(self, frame, faults, chance, counts):
        counts["forwarded"] += 1
        loss, duplication, reordering = faults if frame[12:14] == IPV4 else (0, 0, 0)
        if chance.uniform(0, 100) < loss:
            counts["lost"] += 1
            return
        if chance.uniform(0, 100) < reordering:
            counts["reordered"] += 1
            self.late.append([frame, OVERTAKEN_BY, time.monotonic() + PATIENCE])
            return
        self.send(frame)
        if chance.uniform(0, 100) < duplication:
            counts["duplicated"] += 1
            self.send(frame)
        for late in self.late:
            late[1] -= 1

    def release(self, now):
        due = [late for late in self.late if late[1] <= 0 or late[2] <= now]
        self.late = [late for late in self.late if late[1] > 0 and late[2] > now]
        for late in due:
            self.send(late[0])

    def send(self, frame):
        try:
            self.target.send(frame)
        except OSError:
            pass  # The other end is down for the moment, as a cable may be.


def cut(frame, port):
    """The segment's bytes in segments of their own; anything else as it is."""
    if frame[12:14] != IPV4 or frame[23] != TCP or len(frame) < 54:
        return [frame]
    tcp = 14 + (frame[14] & 15) * 4
    data = tcp + (frame[tcp + 12] >> 4) * 4
    payload = frame[data : 14 + int.from_bytes(frame[16:18], "big")]
    ports = {int.from_bytes(frame[tcp + at : tcp + at + 2], "big") for at in (0, 2)}
    if len(payload) < 2 or port not in ports:
        return [frame]
    seq = int.from_bytes(frame[tcp + 4 : tcp + 8], "big")
    pieces = []
    for at in range(len(payload)):
        piece = bytearray(frame[:data]) + payload[at : at + 1]
        piece[16:18] = (len(piece) - 14).to_bytes(2, "big")
        piece[tcp + 4 : tcp + 8] = ((seq + at) % 2**32).to_bytes(4, "big")
        if at + 1 < len(payload):
            piece[tcp + 13] &= ~FIN_AND_PSH
        piece[24:26] = piece[tcp + 16 : tcp + 18] = b"\0\0"
        piece[24:26] = checksum(piece[14:tcp])
        pseudo = piece[26:34] + bytes([0, TCP]) + (len(piece) - tcp).to_bytes(2, "big")
        piece[tcp + 16 : tcp + 18] = checksum(pseudo + piece[tcp:])
        pieces.append(bytes(piece))
    return pieces


def checksum(data):
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def device(name):
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    device.bind((name, EVERY_PROTOCOL))
    return device


def main(one, other, loss, duplication, reordering, seed="1", cut_port="0"):
    faults = float(loss), float(duplication), float(reordering)
    chance = random.Random(int(seed))
    counts = dict.fromkeys(("forwarded", "lost", "duplicated", "reordered"), 0)
    one, other = device(one), device(other)
    ways = {one: Way(one, other, int(cut_port)), other: Way(other, one, int(cut_port))}
    print("ready", flush=True)
    while True:
        wait = PATIENCE / 2 if any(way.late for way in ways.values()) else None
        for readable in select.select([*ways, sys.stdin], [], [], wait)[0]:
            if readable is not sys.stdin:
                ways[readable].take(faults, chance, counts)
            elif not sys.stdin.readline():
                return
            else:
                print(*(f"{name}={count}" for name, count in counts.items()), flush=True)
        for way in ways.values():
            way.release(time.monotonic())


main(*sys.argv[1:])
