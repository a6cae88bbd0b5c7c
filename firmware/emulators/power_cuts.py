"""Power cuts on the emulated Pico: each one hits a page that is being written or a sector that is being erased, at random.

    power_cuts.py robot.elf OLD.dtb NEW.dtb NEXT.dtb [--cuts N] [--seed S]

A device runs OLD; a host sends NEW, which runs and is confirmed. The power fails somewhere in that, and in every second case
again in what follows. Afterwards OLD or NEW must run, and an update to NEXT must work. The host speaks dt-link/LINK.md; the
slots are those of dt-device/SLOTS.md. The last line of the output is one JSON object.
"""

import argparse
import json
import os
import random
import struct
import sys
import zlib

from rp2040py.peripherals import ssi

sys.path.insert(0, os.path.dirname(__file__))  # Python leaves it out where it runs isolated.
from pico import Pico  # noqa: E402

TICKS = 110  # more than dt_device::session::TRIAL
PIECE = 512
TRIES = 100
PATIENCE = 0.1  # virtual seconds until a question is asked again
HELLO, ARM, START, STOP, OBSERVATION, BEGIN, CHUNK, FINISH = 0, 3, 4, 5, 6, 7, 8, 9
IS_HELLO, IS_DONE, IS_REFUSAL, IS_ACTION, IS_UPLOAD = 0, 3, 4, 5, 6
RUNNING = 5


class PowerCut(Exception):
    """The power is off."""


class Wrong(Exception):
    """Something that must not happen."""


class Refused(Wrong):
    """The device said no."""


class Power:
    """Counts what is done to flash, and fails in the middle of it."""

    def __init__(self, noise):
        self.noise, self.left, self.done = noise, None, 0

    def holds(self):
        self.done += 1
        if self.left is None:
            return True
        self.left -= 1
        return self.left >= 0


class Flash(ssi.RPSSI):
    """The serial flash, whose power may fail."""

    def _apply_command(self):
        buffer, power = self._tx_buffer, self.power
        erases = buffer[:1] == bytes([ssi.CMD_SECTOR_ERASE]) and len(buffer) >= 4
        writes = buffer[:1] == bytes([ssi.CMD_PAGE_PROGRAM]) and len(buffer) > 4
        if self._write_enabled and (erases or writes) and not power.holds():
            start = self._address_from_buffer()
            if erases:
                start &= -ssi.FLASH_SECTOR_SIZE
                self._tear(start, [0xFF] * ssi.FLASH_SECTOR_SIZE, int.__or__)
            else:
                self._tear(start, buffer[4:], int.__and__)
            raise PowerCut
        super()._apply_command()

    def _tear(self, start, to, combine):
        """Some of the bits that change: none, all, those of the first or the last bytes, or any."""
        flash, noise = self.rp2040.flash, self.power.noise
        model, at = noise.randrange(6), noise.randrange(len(to))
        for i, byte in enumerate(to):
            old = flash[start + i]
            new = combine(old, byte)
            changed = [False, True, i < at, i >= at, None, None][model]
            if changed is None:
                mask = noise.randrange(256)
                flash[start + i] = old & ~mask | new & mask
            elif changed:
                flash[start + i] = new


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


def take_varint(data):
    low, rest = data[0], data[1:]
    if low < 128:
        return low, rest
    high, rest = take_varint(rest)
    return low & 127 | high << 7, rest


def take_bytes(data):
    length, rest = take_varint(data)
    return rest[:length], rest[length:]


def cobs(data):
    wire = b""
    for block in data.split(b"\0"):
        while len(block) >= 254:
            wire, block = wire + b"\xff" + block[:254], block[254:]
        wire += bytes([len(block) + 1]) + block
    return wire + b"\0"


def uncobs(wire):
    data = b""
    while wire:
        code, block, wire = wire[0], wire[1 : wire[0]], wire[wire[0] :]
        data += block + (b"\0" if wire and 0 < code < 255 else b"")
    return data


class Device:
    """A Pico that has just been switched on, as its host sees it."""

    sessions = 0

    def __init__(self, pico):
        self.pico = pico
        Device.sessions = Device.sessions % 255 + 1
        self.session, self.number, self.heard = Device.sessions, 0, b""
        rest = self.ask(bytes([HELLO]), IS_HELLO)
        for _ in ("board", "version"):
            _, rest = take_bytes(rest)
        crc, rest = take_varint(rest)
        length, rest = take_varint(rest)
        self.policy = (crc, length)
        _, rest = take_bytes(rest)
        self.state_dim, rest = take_varint(rest)
        self.act_dim, rest = take_varint(rest)

    def frame(self, message):
        content = struct.pack("<BBH", 1, self.session, self.number) + message
        self.number += 1
        return b"\0" + cobs(content + struct.pack("<I", zlib.crc32(content)))

    def ask(self, message, wanted, before=b""):
        """What the device answers, after the number of its message. What is sent `before` is answered at the same time."""
        for _ in range(TRIES):
            waiting = before + self.frame(message)
            patience = self.pico.seconds + PATIENCE
            while self.pico.seconds < patience:
                waiting = self.pico.run(waiting)
                for answer in self.hear():
                    if answer[0] == wanted:
                        return answer[1:]
                    if answer[0] == IS_REFUSAL:
                        raise Refused(f"message {message[0]} is refused: {answer[1:].hex(' ')}")
        raise Wrong(f"message {message[0]} is not answered")

    def hear(self):
        """The messages that have arrived."""
        self.heard += self.pico.sent
        self.pico.sent.clear()
        while b"\0" in self.heard:
            wire, self.heard = self.heard.split(b"\0", 1)
            content, crc = uncobs(wire)[:-4], uncobs(wire)[-4:]
            if crc == struct.pack("<I", zlib.crc32(content)) and content[:2] == bytes([0x81, self.session]):
                yield content[4:]

    def send(self, policy):
        offset = self.ask(bytes([BEGIN]) + named(policy) + b"\0", IS_UPLOAD)
        while (at := take_varint(offset)[0]) < len(policy):
            piece = policy[at : at + PIECE]
            offset = self.ask(bytes([CHUNK]) + varint(at) + varint(len(piece)) + piece, IS_UPLOAD)
        self.ask(bytes([FINISH]), IS_DONE)

    def observe(self, step, before=b""):
        values = bytes(4 * self.state_dim)
        reward = b"\1" + bytes(4)
        message = varint(step) + varint(0) + reward + b"\0" + varint(len(values)) + values
        return take_varint(self.ask(bytes([OBSERVATION]) + message, IS_ACTION, before))[1][0]

    def prove(self):
        """An episode that is long enough to end a trial."""
        self.ask(bytes([STOP]), IS_DONE)
        policy = varint(self.policy[0]) + varint(self.policy[1])
        dims = varint(self.state_dim) + varint(self.act_dim)
        self.ask(bytes([ARM]) + policy + dims + b"\1\1", IS_DONE)
        self.observe(0)
        # The tick that starts is that of the first observation.
        start = self.frame(bytes([START]) + bytes(4) + b"\0")
        for step in range(TICKS):
            mode = self.observe(step, start if step == 0 else b"")
            if mode != RUNNING:
                raise Wrong(f"the device stopped in mode {mode}")
        self.ask(bytes([STOP]), IS_DONE)


def named(policy):
    return varint(struct.unpack_from("<I", policy, 12)[0]) + varint(len(policy))


def identity(policy):
    return (struct.unpack_from("<I", policy, 12)[0], len(policy)) if policy else (0, 0)


class Bench:
    """A device through power cycles."""

    def __init__(self, policies, power):
        self.old, self.new, self.next = policies
        self.power, self.pico, self.device = power, None, None

    def switch_on(self, flash, *policies):
        """Boots; one of these policies has to run."""
        self.pico = Pico(flash)
        self.pico.chip.ssi.__class__ = Flash
        self.pico.chip.ssi.power = self.power
        self.device = Device(self.pico)
        if self.device.policy not in [identity(policy) for policy in policies]:
            raise Wrong(f"policy {self.device.policy[0]:08x} runs")

    def update(self, policy):
        """Sends a policy, and looks whether it runs."""
        self.device.send(policy)
        self.switch_on(self.pico.flash, policy)

    def live(self, flash, before, policy):
        """An update that proves itself."""
        self.switch_on(flash, before)
        self.update(policy)
        self.device.prove()
        self.switch_on(self.pico.flash, policy)

    def recover(self, flash, *allowed):
        """Whatever runs, the next update works; if the policy that runs is on trial, after it has proved itself."""
        self.switch_on(flash, *allowed)
        try:
            self.update(self.next)
        except Refused:
            self.device.prove()
            self.update(self.next)

    def cut(self, steps, life, *arguments):
        """What the flash holds if the power fails in this step of a life."""
        self.power.left = steps
        try:
            life(*arguments)
        except PowerCut:
            return self.pico.flash
        finally:
            self.power.left = None
        raise Wrong("the power did not fail")

    def steps(self, life, *arguments):
        before = self.power.done
        life(*arguments)
        return self.power.done - before


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("image")
    arguments.add_argument("policies", nargs=3, metavar="POLICY", help="that runs, of the update, of the next update")
    arguments.add_argument("--cuts", type=int, default=30)
    arguments.add_argument("--seed", type=int, default=0)
    arguments = arguments.parse_args()

    policies = [open(path, "rb").read() for path in arguments.policies]
    noise = random.Random(arguments.seed)
    bench = Bench(policies, Power(noise))
    factory = Pico()
    factory.load(arguments.image)
    bench.live(factory.flash, b"", bench.old)
    flash = bench.pico.flash
    update = (flash, bench.old, bench.new)
    life = bench.steps(bench.live, *update)
    recovery = bench.steps(bench.recover, flash, bench.old)

    first = second = 0
    while first + second < arguments.cuts:
        step = (first + noise.randrange(2) * life // 2) % life
        where = f"step {step} of {life}"
        try:
            left = bench.cut(step, bench.live, *update)
            first += 1
            allowed = [bench.old, bench.new]
            if first % 2 == 0:
                again = noise.randrange(recovery)
                where += f", then step {again} of {recovery}"
                left = bench.cut(again, bench.recover, left, *allowed)
                second += 1
                allowed.append(bench.next)
            bench.recover(left, *allowed)
        except Wrong as wrong:
            sys.exit(f"power cut in {where}, seed {arguments.seed}: {wrong}")
        print(f"power cut in {where}: survived", flush=True)
    print(json.dumps({"steps": life, "power_cuts": first + second, "in_recovery": second, "survived": first + second}))


if __name__ == "__main__":
    main()
