//! Bytes read as choices and numbers, over and over: a short input makes a long run.

/// A reader of an input.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Script<'a> {
    /// A reader from the start of `bytes`; of none, it reads zeros.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn byte(&mut self) -> u8 {
        let byte = self.bytes.get(self.at).copied().unwrap_or_default();
        self.at = if self.at + 1 < self.bytes.len() {
            self.at + 1
        } else {
            0
        };
        byte
    }

    /// One of 0…n−1.
    pub fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// One number in sixteen has any bits at all; the others are multiples of 2⁻¹² in ±8.
    pub fn number(&mut self) -> f32 {
        if self.below(16) == 15 {
            f32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
        } else {
            f32::from(self.u16().cast_signed()) / 4096.0
        }
    }

    pub fn numbers(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.number()).collect()
    }
}
