//! The record at the start of a slot that says that a whole policy lies behind it; see `SLOTS.md`.

use core::fmt;
use core::ops::Range;

/// First bytes of a header.
pub const MAGIC: [u8; 8] = *b"DTSLOT\r\n";

/// Version of the header's format.
pub const VERSION: u32 = 1;

/// Bytes of a header.
pub const LEN: usize = 132;

/// Bytes of it that a signature covers.
pub const SIGNED_LEN: usize = 64;

const VERSION_FIELD: Range<usize> = 8..12;
const SEQUENCE_FIELD: Range<usize> = 12..16;
const LENGTH_FIELD: Range<usize> = 16..20;
const POLICY_CRC_FIELD: Range<usize> = 20..24;
const RESERVED_FIELD: Range<usize> = 24..32;
const SHA256_FIELD: Range<usize> = 32..64;
const SIGNATURE_FIELD: Range<usize> = 64..128;
const CRC_FIELD: Range<usize> = 128..132;

/// CRC-32/ISO-HDLC, of policies and headers.
const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// The checksum of a policy file, piece by piece: that which the file holds of itself, over all but the four bytes it takes
/// (`BLOB.md`).
pub(super) struct PolicyCrc {
    digest: crc::Digest<'static, u32>,
    begun: bool,
}

impl PolicyCrc {
    pub const fn new() -> Self {
        const TABLE: &crc::Crc<u32> = &CRC;
        Self {
            digest: TABLE.digest(),
            begun: false,
        }
    }

    /// Takes the next piece, the first of which has the first 16 bytes, if there are as many.
    pub fn update(&mut self, bytes: &[u8]) {
        const FIELD: Range<usize> = 12..16;
        if self.begun {
            self.digest.update(bytes);
        } else {
            self.begun = true;
            self.digest
                .update(bytes.get(..FIELD.start).unwrap_or(bytes));
            self.digest
                .update(bytes.get(FIELD.end..).unwrap_or_default());
        }
    }

    pub fn finalize(self) -> u32 {
        self.digest.finalize()
    }
}

/// What makes a policy that of a certain key: which of all that were signed with it, what it is, and the proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Seal {
    /// Counts up with every policy that is signed; an older one is refused. From 1.
    pub sequence: u32,
    /// SHA-256 of the policy file.
    pub sha256: [u8; 32],
    /// Ed25519 over the first [`SIGNED_LEN`] bytes of the header.
    pub signature: [u8; 64],
}

/// A slot's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The highest one is the newest policy.
    pub sequence: u32,
    /// Bytes of the policy file.
    pub length: u32,
    /// The policy file's checksum, which its bytes 12..16 hold.
    pub crc: u32,
    /// SHA-256 of the policy file, or zeros where nobody signs.
    pub sha256: [u8; 32],
    /// The signature, or zeros.
    pub signature: [u8; 64],
}

impl Header {
    /// Of a policy file that nobody signed.
    pub fn new(sequence: u32, policy: &[u8]) -> Self {
        let mut crc = PolicyCrc::new();
        crc.update(policy);
        Self {
            sequence,
            length: u32::try_from(policy.len()).unwrap_or(u32::MAX),
            crc: crc.finalize(),
            sha256: [0; 32],
            signature: [0; 64],
        }
    }

    /// Of a policy file with the signature `seal`.
    #[must_use]
    pub fn sealed(policy: &[u8], seal: &Seal) -> Self {
        Self {
            sha256: seal.sha256,
            signature: seal.signature,
            ..Self::new(seal.sequence, policy)
        }
    }

    /// The bytes in flash.
    pub fn encode(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put = |field: Range<usize>, value: &[u8]| {
            let place = bytes.get_mut(field).unwrap_or_default();
            place
                .iter_mut()
                .zip(value)
                .for_each(|(to, &from)| *to = from);
        };
        put(0..MAGIC.len(), &MAGIC);
        put(VERSION_FIELD, &VERSION.to_le_bytes());
        put(SEQUENCE_FIELD, &self.sequence.to_le_bytes());
        put(LENGTH_FIELD, &self.length.to_le_bytes());
        put(POLICY_CRC_FIELD, &self.crc.to_le_bytes());
        put(SHA256_FIELD, &self.sha256);
        put(SIGNATURE_FIELD, &self.signature);
        let crc = checksum(&bytes);
        let place = bytes.get_mut(CRC_FIELD).unwrap_or_default();
        place
            .iter_mut()
            .zip(crc.to_le_bytes())
            .for_each(|(to, from)| *to = from);
        bytes
    }

    /// The bytes that a signature covers: all before it.
    pub fn signed(&self) -> [u8; SIGNED_LEN] {
        field(&self.encode(), 0..SIGNED_LEN)
    }

    /// What `bytes` of flash say.
    ///
    /// # Errors
    /// [`HeaderError`] if they are no header, as after an erasure or a write that was cut off.
    pub fn decode(bytes: &[u8; LEN]) -> Result<Self, HeaderError> {
        if field(bytes, 0..MAGIC.len()) != MAGIC {
            return Err(HeaderError::Magic);
        }
        let number = |range| u32::from_le_bytes(field(bytes, range));
        if number(CRC_FIELD) != checksum(bytes) {
            return Err(HeaderError::Crc);
        }
        let found = number(VERSION_FIELD);
        if found != VERSION {
            return Err(HeaderError::Version { found });
        }
        if field(bytes, RESERVED_FIELD) != [0; 8] {
            return Err(HeaderError::Reserved);
        }
        Ok(Self {
            sequence: number(SEQUENCE_FIELD),
            length: number(LENGTH_FIELD),
            crc: number(POLICY_CRC_FIELD),
            sha256: field(bytes, SHA256_FIELD),
            signature: field(bytes, SIGNATURE_FIELD),
        })
    }
}

/// Why a slot has no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum HeaderError {
    /// It does not begin with [`MAGIC`]: empty, or something else.
    Magic,
    /// Its checksum does not match: it was not written to the end.
    Crc,
    /// It is of another format.
    Version {
        /// Its version.
        found: u32,
    },
    /// It says something that this version has no field for.
    Reserved,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("empty"),
            Self::Crc => f.write_str("the header is damaged"),
            Self::Version { found } => write!(
                f,
                "the header has format {found}, but this program knows {VERSION}"
            ),
            Self::Reserved => f.write_str("the header says what this program does not know"),
        }
    }
}

impl core::error::Error for HeaderError {}

/// Of a header, over all before the checksum.
fn checksum(bytes: &[u8; LEN]) -> u32 {
    CRC.checksum(bytes.get(..CRC_FIELD.start).unwrap_or_default())
}

/// `N` bytes from `range`, which has as many.
fn field<const N: usize>(bytes: &[u8; LEN], range: Range<usize>) -> [u8; N] {
    let field = bytes.get(range).and_then(|field| field.try_into().ok());
    debug_assert!(field.is_some(), "a field has another size");
    field.unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_header() {
        // As the worked example in SLOTS.md.
        let header = Header {
            sequence: 5,
            length: 0x0001_F240,
            crc: 0xCBF4_3926,
            sha256: [0xA1; 32],
            signature: [0xB2; 64],
        };
        let bytes = header.encode();
        assert_eq!(
            bytes[..32],
            [
                0x44, 0x54, 0x53, 0x4C, 0x4F, 0x54, 0x0D, 0x0A, 1, 0, 0, 0, 5, 0, 0, 0, 0x40, 0xF2,
                1, 0, 0x26, 0x39, 0xF4, 0xCB, 0, 0, 0, 0, 0, 0, 0, 0
            ]
        );
        assert_eq!(bytes[32..64], [0xA1; 32]);
        assert_eq!(bytes[64..128], [0xB2; 64]);
        assert_eq!(bytes[128..], [0x48, 0x2C, 0x98, 0x01]);
        assert_eq!(bytes[..64], header.signed());
        assert_eq!(Header::decode(&bytes), Ok(header));
        // The check value of the checksum, around the field that is left out.
        assert_eq!(Header::new(1, b"123456789").crc, 0xCBF4_3926);
        let policy = ::tests::Sample::random(::tests::small_config(), 1).emit();
        assert_eq!(Header::new(1, policy.bytes()).crc, policy.crc());
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let header = Header::new(1, &[1, 2, 3]);
        let bytes = header.encode();
        for bit in 0..8 * LEN {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            let error = Header::decode(&damaged).unwrap_err();
            let expected = if bit / 8 < 8 {
                HeaderError::Magic
            } else {
                HeaderError::Crc
            };
            assert_eq!(error, expected, "bit {bit}");
        }
        assert_eq!(Header::decode(&[0xFF; LEN]), Err(HeaderError::Magic));
        // Another format, with a checksum that is right.
        for (at, error) in [
            (8, HeaderError::Version { found: 3 }),
            (24, HeaderError::Reserved),
        ] {
            let mut other = bytes;
            other[at] ^= 2;
            let crc = checksum(&other);
            other[CRC_FIELD].copy_from_slice(&crc.to_le_bytes());
            assert_eq!(Header::decode(&other), Err(error));
        }
    }
}
