"""Speaks LINK.md: greets the board behind a serial device or Unix socket, lets it act on observations, prints its actions.

    python3 link.py DEVICE TARGET_RETURN X,Y,… [X,Y,… …]        (for a serial device: pip install pyserial)
"""
import os, socket, stat, struct, sys, zlib

def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

def take_varint(data):
    low, rest = data[0], data[1:]
    if low < 128: return low, rest
    high, rest = take_varint(rest)
    return low & 127 | high << 7, rest

def take_bytes(data):
    n, rest = take_varint(data)
    return rest[:n], rest[n:]

def cobs(data):  # no block of a request is 254 bytes long
    return b"".join(bytes([len(block) + 1]) + block for block in data.split(b"\0")) + b"\0"

def uncobs(wire):
    data = b""
    while wire:
        code, block, wire = wire[0], wire[1:wire[0]], wire[wire[0]:]
        data += block + (b"\0" if wire and code < 255 else b"")
    return data

class Board:
    def __init__(self, path):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            wire = socket.socket(socket.AF_UNIX)
            wire.settimeout(10)
            wire.connect(path)
            self.wire = wire.makefile("rwb", buffering=0)
        else:
            import serial
            self.wire = serial.Serial(path, 921600, timeout=10)
        self.session, self.number = os.urandom(1)[0] | 1, 0

    def tell(self, message):
        content = struct.pack("<BBH", 1, self.session, self.number) + message
        self.number += 1
        self.wire.write(b"\0" + cobs(content + struct.pack("<I", zlib.crc32(content))))

    def hear(self, wanted):
        """The next message of this number, without that."""
        while True:
            frame = b""
            while (byte := self.wire.read(1)) != b"\0":
                if not byte: sys.exit("no answer")
                frame += byte
            content, crc = uncobs(frame)[:-4], uncobs(frame)[-4:]
            if struct.pack("<I", zlib.crc32(content)) != crc or content[:2] != bytes([0x81, self.session]): continue
            if content[4] == 4: sys.exit(f"refused: {content[5:].hex(' ')}")
            if content[4] == wanted: return content[5:]

board, target = Board(sys.argv[1]), float(sys.argv[2])
observations = [[float(x) for x in argument.split(",")] for argument in sys.argv[3:]]

board.tell(b"\0")
name, rest = take_bytes(board.hear(0))
version, rest = take_bytes(rest)
crc, rest = take_varint(rest)
length, rest = take_varint(rest)
env, rest = take_bytes(rest)
state_dim, rest = take_varint(rest)
act_dim, rest = take_varint(rest)
print(f"{name.decode()} with policy {crc:08x} for {env.decode()}", file=sys.stderr)

def observe(step, values):
    values = struct.pack(f"<{state_dim}f", *values)
    reward = b"\1" + struct.pack("<f", 0)  # a real client says what was earned
    board.tell(b"\6" + varint(step) + varint(0) + reward + b"\0" + varint(len(values)) + values)
    step, rest = take_varint(board.hear(5))
    mode, rest = rest[:4], rest[4:]
    latency, rest = take_varint(rest)
    slack, rest = take_varint(rest)
    return mode, struct.unpack(f"<{act_dim}f", take_bytes(rest)[0])

board.tell(b"\5"), board.hear(3)  # stop
arm = varint(crc) + varint(length) + varint(state_dim) + varint(act_dim) + b"\1\1"  # one observation first; lock step
board.tell(b"\3" + arm), board.hear(3)
observe(0, observations[0])
board.tell(b"\4" + struct.pack("<f", target) + b"\0")  # start; its answer comes with the first action
for step, values in enumerate(observations):
    mode, action = observe(step, values)
    if mode[0] != 5: sys.exit(f"the board has stopped: {mode.hex(' ')}")
    print(*action)
board.tell(b"\5"), board.hear(3)
