"""A plant in plain Python, to see that PLANT.md suffices to write one; and all that can be wrong with one.

A point on a line: observations are position and velocity, the action is a push, ten steps an episode. The argument says what
goes wrong, in the third step: nothing, die, hang, raise, nan, reward, shape, kind, other, sequence, garble, print; or from the start:
version, mute, empty, names, reset.
"""
import os, struct, sys, time, zlib

FAULT = sys.argv[1]
# With a count, only so many processes go wrong: each leaves a mark in this folder.
if len(sys.argv) > 3:
    marks, most = sys.argv[2], int(sys.argv[3])
    if len(os.listdir(marks)) >= most:
        FAULT = "nothing"


def mark():
    if len(sys.argv) > 3:
        open(os.path.join(marks, str(os.getpid())), "w").close()


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def blob(data):
    return varint(len(data)) + data


def floats(*values):
    return blob(struct.pack(f"<{len(values)}f", *values))


def cobs(data):
    out = b""
    for run in data.split(b"\0"):
        while len(run) >= 254:
            out, run = out + b"\xff" + run[:254], run[254:]
        out += bytes([len(run) + 1]) + run
    return out


def uncobs(wire):
    data, i = b"", 0
    while i < len(wire):
        code = wire[i]
        data += wire[i + 1 : i + code] + (b"\0" if code < 255 and i + code < len(wire) else b"")
        i += code
    return data


def read_varint(data):
    n = shift = 0
    for at, byte in enumerate(data):
        n |= (byte & 127) << shift
        if byte < 128:
            return n, data[at + 1 :]
        shift += 7


def send(sequence, message):
    content = struct.pack("<BBH", 0x81, 0, sequence) + message
    os.write(1, b"\0" + cobs(content + struct.pack("<I", zlib.crc32(content))) + b"\0")


def hello():
    version = 9 if FAULT == "version" else 1
    inf = float("inf")
    space = varint(0) + (floats() + floats() if FAULT == "empty" else floats(-inf, -inf) + floats(inf, inf))
    names = b"position" if FAULT == "names" else b"position\nvelocity"
    return (
        varint(0) + varint(version) + blob(b"point") + varint(int(os.environ.get("ENVS", 3))) + space + varint(0) + floats(-1.0) + floats(1.0)
        + varint(10) + varint(20_000) + b"\0" + blob(names) + blob(b"push")
    )  # fmt: skip


def state(env, x, v, reward, terminated=False, truncated=False):
    return varint(1) + varint(env) + varint(0) + floats(x, v) + struct.pack("<d??", reward, terminated, truncated)


envs = {}
received = b""
while True:
    piece = os.read(0, 4096)
    if not piece:
        break
    *frames, received = (received + piece).split(b"\0")
    for content in map(uncobs, filter(None, frames)):
        sequence = struct.unpack_from("<H", content, 2)[0]
        kind, rest = read_varint(content[4:-4])
        if kind == 0:
            if FAULT == "mute":
                print("no comment", file=sys.stderr, flush=True)
                time.sleep(1000)
            send(sequence, hello())
            continue
        env, rest = read_varint(rest)
        if kind == 1:
            if FAULT == "reset":
                send(sequence, varint(3) + blob(b"no point on the line"))
                continue
            seed, _ = read_varint(rest)
            envs[env] = (seed % 8 / 8, 0.0, 0)
            send(sequence, state(env, *envs[env][:2], 0.0))
            continue
        push = struct.unpack("<f", rest[1:])[0]
        x, v, steps = envs[env]
        v = v + push / 4
        x, steps = x + v, steps + 1
        envs[env] = x, v, steps
        message = state(env, x, v, -abs(x), truncated=steps == 10)
        if steps == 3 and FAULT != "nothing":
            mark()
            if FAULT == "die":
                print("the spring broke", file=sys.stderr, flush=True)
                sys.exit(7)
            if FAULT == "hang":
                print("thinking", file=sys.stderr, flush=True)
                time.sleep(1000)
            if FAULT == "print":
                os.write(1, b"step three\n")
            if FAULT == "garble":
                os.write(1, b"\0half a fra")
                sys.exit(0)
            if FAULT == "sequence":
                sequence = sequence + 1
            message = {
                "raise": varint(3) + blob("the spring is stuck".encode()),
                "nan": state(env, x, float("nan"), -abs(x)),
                "reward": state(env, x, v, float("-inf")),
                "shape": varint(1) + varint(env) + varint(0) + floats(x, v, 0.0) + struct.pack("<d??", 0.0, False, False),
                "kind": hello(),
                "other": state(env + 1, x, v, -abs(x)),
            }.get(FAULT, message)
        send(sequence, message)
