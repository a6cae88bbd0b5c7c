//! The boards' names and memory: for `build.rs`, which links by them, and for `cargo xtask firmware`, which builds and flashes.

use dt_device::slots::{Layout, parts};

/// A board that people own.
#[derive(Debug, PartialEq)]
pub struct Board {
    /// As in `--board`; also this package's feature.
    pub name: &'static str,
    /// What it is called.
    pub title: &'static str,
    /// The compiler's target.
    pub target: &'static str,
    /// What the compiler generates code for, where that is more than the target says.
    pub processor: Option<&'static str>,
    /// probe-rs' name of the part.
    pub chip: &'static str,
    /// How an image gets in without a debug probe.
    pub boot: Boot,
    /// Where the program and the slots of policies lie in flash.
    pub flash: Layout,
    /// Where RAM begins and how many KiB it has.
    pub ram: (u32, u32),
    /// KiB for the black box.
    pub black_box_kib: u32,
    /// Where the black box begins, if it has RAM of its own.
    pub black_box_at: Option<u32>,
}

/// KiB of RAM for the stack.
pub const STACK_KIB: u32 = 16;

/// KiB of RAM for queues of the wire, the log and other statics.
pub const STATICS_KIB: u32 = 8;

impl Board {
    /// 32-bit words of RAM that a policy may have.
    pub fn arena_words(&self) -> u32 {
        let (_, ram_kib) = self.ram;
        let black_box_kib = match self.black_box_at {
            None => self.black_box_kib,
            Some(_) => 0,
        };
        (ram_kib - STACK_KIB - STATICS_KIB - black_box_kib) * 1024 / 4
    }
}

/// How an image gets into a board without a debug probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Boot {
    /// By a file in the UF2 format, dragged to a drive; the family that the boot loader answers to.
    Uf2 {
        /// Of the parts that take the file.
        family: u32,
        /// What to do so that the drive appears.
        enter: &'static str,
        /// The drive's name.
        drive: &'static str,
    },
    /// By `dfu-util`, through ST's boot loader in ROM.
    Dfu {
        /// What to do so that it answers.
        enter: &'static str,
    },
    /// By a file in Intel's HEX format, dragged to the drive of the debug probe on the board.
    Hex {
        /// The drive's name.
        drive: &'static str,
    },
}

const PICO: Board = Board {
    name: "pico",
    title: "Raspberry Pi Pico",
    target: "thumbv6m-none-eabi",
    processor: None,
    chip: "RP2040",
    boot: Boot::Uf2 {
        family: 0xE48B_FF56,
        enter: "hold BOOTSEL while plugging the board in by USB",
        drive: "RPI-RP2",
    },
    flash: parts::RP2040,
    ram: (0x2000_0000, 256),
    black_box_kib: 96,
    black_box_at: None,
};

const PICO2: Board = Board {
    name: "pico2",
    title: "Raspberry Pi Pico 2",
    target: "thumbv8m.main-none-eabihf",
    processor: Some("cortex-m33"),
    chip: "RP235x",
    boot: Boot::Uf2 {
        family: 0xE48B_FF59,
        enter: "hold BOOTSEL while plugging the board in by USB",
        drive: "RP2350",
    },
    flash: parts::RP2350,
    ram: (0x2000_0000, 512),
    black_box_kib: 96,
    black_box_at: None,
};

const NUCLEO_H743ZI: Board = Board {
    name: "nucleo-h743zi",
    title: "ST Nucleo-H743ZI",
    target: "thumbv7em-none-eabihf",
    processor: Some("cortex-m7"),
    chip: "STM32H743ZI",
    boot: Boot::Dfu {
        enter: "connect BOOT0 (CN11, pin 7) to VDD (CN11, pin 5), plug the user USB (CN13) in, press reset",
    },
    flash: parts::H743,
    // The memory beside the core: no cache lies between, so that a debug probe sees the log.
    ram: (0x2000_0000, 128),
    // Memory on the bus, which `board/nucleo_h743zi.rs` keeps the data cache away from.
    black_box_kib: 128,
    black_box_at: Some(0x2400_0000),
};

const NUCLEO_F446RE: Board = Board {
    name: "nucleo-f446re",
    title: "ST Nucleo-F446RE",
    target: "thumbv7em-none-eabihf",
    processor: None,
    chip: "STM32F446RE",
    boot: Boot::Dfu {
        enter: "connect BOOT0 (CN7, pin 7) to VDD (CN7, pin 5) and a USB cable's D- and D+ to PA11 and PA12, press reset",
    },
    flash: parts::F446,
    ram: (0x2000_0000, 128),
    black_box_kib: 32,
    black_box_at: None,
};

const FEATHER_F405: Board = Board {
    name: "feather-f405",
    title: "Adafruit Feather STM32F405",
    target: "thumbv7em-none-eabihf",
    processor: None,
    chip: "STM32F405RG",
    boot: Boot::Dfu {
        enter: "connect the pin B0 to 3.3V, plug the board in by USB, press reset",
    },
    flash: parts::F405,
    ram: (0x2000_0000, 128),
    black_box_kib: 32,
    black_box_at: None,
};

const NRF52840_DK: Board = Board {
    name: "nrf52840-dk",
    title: "Nordic nRF52840-DK",
    target: "thumbv7em-none-eabihf",
    processor: None,
    chip: "nRF52840_xxAA",
    boot: Boot::Hex { drive: "JLINK" },
    flash: parts::NRF52840,
    ram: (0x2000_0000, 256),
    black_box_kib: 96,
    black_box_at: None,
};

/// All boards.
pub const BOARDS: [Board; 6] = [
    PICO,
    PICO2,
    NUCLEO_H743ZI,
    NUCLEO_F446RE,
    FEATHER_F405,
    NRF52840_DK,
];
