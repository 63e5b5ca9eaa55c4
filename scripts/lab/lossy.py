"""A cable that loses, repeats and reorders frames: copies them between two devices (scripts/lab/lossy starts it).

Prints `ready` once it copies. Each line of input is answered with the counts so far:
`forwarded=N lost=N duplicated=N reordered=N`. Ends with its input.

A reordered frame waits until two more have gone its way, or for ten milliseconds. Frames other than IPv4 (ARP) pass.
"""
import random
import select
import socket
import sys
import time

EVERY_PROTOCOL = 0x0003
OUTGOING = 4
SO_RCVBUFFORCE = 33
IPV4 = b"\x08\x00"
OVERTAKEN_BY = 2
PATIENCE = 0.01


class Way:
    """One direction."""

    def __init__(self, source, target):
        self.source, self.target = source, target
        self.late = []  # [frame, frames that may still overtake it, when it goes at the latest]

    def take(self, faults, chance, counts):
        frame, address = self.source.recvfrom(65_536)
        if address[2] == OUTGOING:
            return
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


def device(name):
    device = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    # What is lost is lost by chance, not for want of room while others have the processor.
    device.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
    device.bind((name, EVERY_PROTOCOL))
    return device


def main(one, other, loss, duplication, reordering, seed="1"):
    faults = float(loss), float(duplication), float(reordering)
    chance = random.Random(int(seed))
    counts = dict.fromkeys(("forwarded", "lost", "duplicated", "reordered"), 0)
    one, other = device(one), device(other)
    ways = {one: Way(one, other), other: Way(other, one)}
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
