"""A Raspberry Pi Pico in rp2040py, booting the very files that a user flashes.

    pico.py robot.elf [policy.uf2 …] --serial SOCKET [--usb] [--flash FILE] [--rtt FILE]

UART0, or with --usb the serial port that its USB becomes, is a Unix socket; a host connects to it as to a serial port. The boot ROM
runs, code runs from flash, writes to flash go through the ROM, and the watchdog resets the chip. `--flash` keeps the flash in a file
from one run to the next, as the chip keeps it without power. Virtual time goes no faster than real time while the board waits for
something, and slower while it computes.
"""

import argparse
import logging
import os
import select
import signal
import socket
import struct
import sys
import time

from elftools.elf.elffile import ELFFile
from rp2040py.device.bootrom import BOOTROM_B1
from rp2040py.execute_batch import execute_batch
from rp2040py.peripherals import ppb, uart
from rp2040py.simulator import Simulator
from rp2040py.usb.cdc import TX_FIFO_SIZE, USBCDC

XIP = 0x1000_0000
SRAM = 0x2000_0000
FLASH_BYTES = 2 << 20
UART_DMACR = 0x48
RECEIVE_QUEUE = 32
RP2040_FAMILY = 0xE48B_FF56


class Uart(uart.RPUART):
    """With what embassy's driver relies on: no DMA, and a transmit interrupt that comes once, after something was sent."""

    def read_uint32(self, offset):
        return 0 if offset == UART_DMACR else super().read_uint32(offset)

    def write_uint32(self, offset, value):
        super().write_uint32(offset, value)
        if offset == uart.UARTDR:
            self._interrupt_status |= uart.UARTTXINTR
            self.check_interrupts()

    def check_interrupts(self):
        self.rp2040.set_interrupt(self.irq, bool(self._interrupt_status & self._interrupt_mask))


class Ppb(ppb.RPPPB):
    """With a SysTick that starts over when it is cleared, as Arm has it (Armv6-M ARM, B3.3.1)."""

    def write_uint32(self, offset, value):
        if offset == ppb.SYST_CVR:
            self.systick_timer.set(self.systick_reload)
        else:
            super().write_uint32(offset, value)


class UsbHost(USBCDC):
    """With patience: while there is nothing to send it asks for nothing, where rp2040py sends one empty packet after the other."""

    def __init__(self, usb):
        super().__init__(usb)
        self._asked = None
        self._serve = usb.on_endpoint_read
        usb.on_endpoint_read = self._on_endpoint_read

    def _on_endpoint_read(self, endpoint, size):
        if endpoint == self._out_endpoint and not self.tx_fifo.item_count:
            self._asked = size
        else:
            self._serve(endpoint, size)

    def _on_controller_reset(self):
        super()._on_controller_reset()
        self._asked = None

    def is_open(self):
        return self._initialized and self.dtr

    def open(self, dtr):
        """What a program does that opens the port, or closes it."""
        if self._initialized and self.dtr != dtr:
            self.set_control_lines(dtr=dtr, rts=dtr)

    def send(self, data):
        for byte in data:
            self.send_serial_byte(byte)
        if data and self._asked is not None:
            size, self._asked = self._asked, None
            self._serve(self._out_endpoint, size)


class Pico:
    """The board. `sent` has the bytes that it sent and nobody took yet."""

    def __init__(self, flash=b"", usb=False):
        logging.disable(logging.CRITICAL)  # It complains about registers that do nothing in it.
        self.simulator = Simulator()
        self.chip = self.simulator.rp2040
        self.chip.load_bootrom(BOOTROM_B1)
        self.chip.flash[: len(flash)] = flash
        self.sent = bytearray()
        self.port = self.chip.uart[0]
        self.port.__class__ = Uart
        self.port.on_byte = self._on_byte
        self.usb = UsbHost(self.chip.usb_ctrl) if usb else None
        if usb:
            self.usb.on_serial_data = self._on_packet
        self.chip.ppb.__class__ = Ppb
        alarm = self.chip.ppb.systick_alarm
        self._systick = alarm.callback
        alarm.callback = self._on_systick
        self.asleep = False
        self.resets = 0
        self._watchdog = self.chip.watchdog.on_watchdog_trigger
        self.chip.watchdog.on_watchdog_trigger = self._on_watchdog

    def _on_byte(self, byte):
        self.sent.append(byte)
        self.simulator.stopped = True

    def _on_packet(self, packet):
        self.sent.extend(packet)
        self.simulator.stopped = True

    def _on_systick(self):
        self.asleep = self.chip.core.waiting
        self._systick()
        self.chip.core.waiting = False  # This interrupt alone does not wake the emulated core.
        self.simulator.stopped = True

    def _on_watchdog(self):
        self.resets += 1
        self._watchdog()

    @property
    def seconds(self):
        """Virtual time since it was switched on."""
        return self.simulator.clock.nanos / 1e9

    @property
    def flash(self):
        """What the flash holds."""
        return bytes(self.chip.flash[:FLASH_BYTES])

    def load(self, path):
        """Puts an image into the flash: an ELF file, or one in the UF2 format, as its boot loader would take it."""
        with open(path, "rb") as file:
            pieces = elf(file) if path.endswith(".elf") or file.read(4) == b"\x7fELF" else uf2(path)
            for address, content in pieces:
                start = address - XIP
                if not 0 <= start <= FLASH_BYTES - len(content):
                    sys.exit(f"{path}: {address:#x} is not in the Pico's flash")
                self.chip.flash[start : start + len(content)] = content

    def run(self, received=b""):
        """Until it has sent something or a millisecond has passed; gives what it could not receive yet."""
        if self.usb:
            room = TX_FIFO_SIZE - self.usb.tx_fifo.item_count if self.usb.is_open() else 0
            self.usb.send(received[:room])
        else:
            room = RECEIVE_QUEUE - self.port.rx_fifo.item_count
            for byte in received[:room]:
                self.port.feed_byte(byte)
        self.simulator.stopped = False
        execute_batch(self.simulator, 1)
        return received[room:]

    def log(self):
        """What is new in the log's RTT buffer, which is read as a debug probe would."""
        sram = bytes(self.chip.sram)
        found = sram.find(b"SEGGER RTT\0\0\0\0\0\0")
        if found < 0:
            return b""
        _, buffer, size, write, read, _ = struct.unpack_from("<6I", sram, found + 24)
        if not size or not SRAM <= buffer <= SRAM + len(sram) - size:
            return b""
        ring = sram[buffer - SRAM : buffer - SRAM + size]
        self.chip.sram[found + 40 : found + 44] = struct.pack("<I", write)
        return ring[read:write] if read <= write else ring[read:] + ring[:write]


def elf(file):
    """The parts of an ELF file that lie in flash."""
    for segment in ELFFile(file).iter_segments():
        if segment["p_type"] == "PT_LOAD" and segment["p_filesz"]:
            yield segment["p_paddr"], segment.data()


def uf2(path):
    """The blocks of a UF2 file, checked as the boot ROM does (RP2040 datasheet, 2.8.4.2)."""
    with open(path, "rb") as file:
        content = file.read()
    blocks = [content[at : at + 512] for at in range(0, len(content), 512)]
    for index, block in enumerate(blocks):
        fields = struct.unpack_from("<8I", block) if len(block) == 512 else (0,) * 8
        magics = fields[:2] == (0x0A324655, 0x9E5D5157) and block[508:] == struct.pack("<I", 0x0AB16F30)
        if not magics or fields[4:] != (256, index, len(blocks), RP2040_FAMILY) or fields[2] != 0x2000:
            sys.exit(f"{path}: block {index} is none that the RP2040's boot ROM takes")
        yield fields[3], block[32 : 32 + 256]


def serve(pico, server, rtt, until_idle):
    """Passes bytes between the board and whoever connects, one at a time, until the process is ended, or the board at rest."""
    host, waiting = None, b""
    ahead = pico.seconds - time.monotonic()
    rested = 0
    while not until_idle or rested < 20:
        rested = rested + 1 if pico.asleep else 0
        if pico.usb:
            pico.usb.open(host is not None)
        waiting = pico.run(waiting)
        if host and pico.sent:
            try:
                host.sendall(pico.sent)
            except OSError:
                host = None
        pico.sent.clear()
        if rtt:
            rtt.write(pico.log())
            rtt.flush()
        # Time lost to computing is not made up for: a second without news is a second.
        early = pico.seconds - time.monotonic() - ahead
        ahead = min(ahead, pico.seconds - time.monotonic())
        source = host or server
        if not waiting and select.select([source], [], [], early if early > 0.001 else 0)[0]:
            if host is None:
                host = server.accept()[0]
                continue
            try:
                waiting = host.recv(4096)
            except OSError:
                waiting = b""
            host = host if waiting else None


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    arguments.add_argument("image", nargs="*", help="ELF or UF2 files, written to flash one after the other")
    arguments.add_argument("--serial", metavar="SOCKET", required=True, help="Unix socket to make for the port")
    arguments.add_argument("--usb", action="store_true", help="the port is USB's instead of UART0")
    arguments.add_argument("--flash", metavar="FILE", help="keeps the flash's content; is made if it is not there")
    arguments.add_argument("--until", choices=["idle"], help="end when the board has been asleep for 20 ms in a row")
    arguments.add_argument("--rtt", metavar="FILE", help="the log as defmt frames, for defmt-print; - for stdout")
    arguments = arguments.parse_args()
    kept = arguments.flash and os.path.exists(arguments.flash)
    if not arguments.image and not kept:
        sys.exit("nothing to boot: name an image, or a --flash that holds one")
    with open(arguments.flash, "rb") if kept else open(os.devnull, "rb") as file:
        pico = Pico(file.read(), arguments.usb)
    for image in arguments.image:
        pico.load(image)
    if os.path.exists(arguments.serial):
        os.unlink(arguments.serial)
    server = socket.socket(socket.AF_UNIX)
    server.bind(arguments.serial)
    server.listen(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    rtt = None
    if arguments.rtt:
        rtt = sys.stdout.buffer if arguments.rtt == "-" else open(arguments.rtt, "wb")
    try:
        serve(pico, server, rtt, arguments.until == "idle")
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        os.unlink(arguments.serial)
        if arguments.flash:
            with open(arguments.flash, "wb") as file:
                file.write(pico.flash)


if __name__ == "__main__":
    main()
