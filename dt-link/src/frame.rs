//! Frames: header, message and CRC between two zeros.

use cobs::{CobsEncoder, DecodeResult, DecoderState};
use crc::{CRC_32_ISO_HDLC, Crc, Digest};
use heapless::Vec;
use postcard::ser_flavors::Flavor;
use serde::{Deserialize, Serialize};

use crate::VERSION;
use crate::message::CHUNK;

/// Longest message: a [`CHUNK`] with what belongs to it, or the greeting of a device with long names.
pub const MAX_MESSAGE: usize = CHUNK + 48;

/// Most numbers in an observation or action: four bytes each, and 23 for what else an observation can say.
pub const MAX_VALUES: usize = (MAX_MESSAGE - 23) / 4;

/// Bytes of the header: version and direction, session, sequence number.
pub(crate) const HEADER: usize = 4;
/// Bytes of the CRC.
const CRC_LEN: usize = 4;

/// Longest frame before COBS.
pub const MAX_FRAME: usize = HEADER + MAX_MESSAGE + CRC_LEN;

/// Longest frame on the wire, its zero included.
pub const MAX_WIRE: usize = cobs::max_encoding_length(MAX_FRAME) + 1;

/// By the bit, since a table is 1 KiB; hosts, whose frames are long, have sixteen of them.
#[cfg(not(feature = "std"))]
type Lookup = crc::NoTable;
#[cfg(feature = "std")]
type Lookup = crc::Table<16>;

/// That of policy files, and of zlib: others have it at hand.
static CRC: Crc<u32, Lookup> = Crc::<u32, Lookup>::new(&CRC_32_ISO_HDLC);

/// Who a frame is for. An echo of one's own frames is refused by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Direction {
    /// From the host.
    ToDevice,
    /// From the device.
    ToHost,
}

/// What stands before the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Header {
    /// Who it is for.
    pub direction: Direction,
    /// Of the session; see [`session`](crate::session).
    pub session: u8,
    /// Grows by one from frame to frame, modulo 2¹⁶.
    pub sequence: u16,
}

impl Header {
    fn bytes(self) -> [u8; HEADER] {
        let direction = match self.direction {
            Direction::ToDevice => 0,
            Direction::ToHost => 0x80,
        };
        let [low, high] = self.sequence.to_le_bytes();
        [VERSION | direction, self.session, low, high]
    }

    fn parse([first, session, low, high]: [u8; HEADER]) -> Result<Self, FrameError> {
        let version = first & 0x7F;
        if version != VERSION {
            return Err(FrameError::Version { version });
        }
        Ok(Self {
            direction: match first & 0x80 {
                0 => Direction::ToDevice,
                _ => Direction::ToHost,
            },
            session,
            sequence: u16::from_le_bytes([low, high]),
        })
    }
}

/// A message is longer than [`MAX_MESSAGE`], or its frame than the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TooLong;

impl core::fmt::Display for TooLong {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "the message does not fit a frame ({MAX_MESSAGE} bytes) or the buffer"
        )
    }
}

impl core::error::Error for TooLong {}

/// Writes a frame to `wire` and gives its length; [`MAX_WIRE`] bytes are always enough.
///
/// # Errors
/// [`TooLong`].
pub fn encode<M: Serialize>(
    header: Header,
    message: &M,
    wire: &mut [u8],
) -> Result<usize, TooLong> {
    encode_within(HEADER + MAX_MESSAGE, header, message, wire)
}

/// As [`encode`], of any length: for ends that have no buffers of [`MAX_FRAME`] bytes.
///
/// # Errors
/// [`TooLong`], if `wire` is too short.
pub fn encode_long<M: Serialize>(
    header: Header,
    message: &M,
    wire: &mut [u8],
) -> Result<usize, TooLong> {
    encode_within(usize::MAX, header, message, wire)
}

fn encode_within<M: Serialize>(
    room: usize,
    header: Header,
    message: &M,
    wire: &mut [u8],
) -> Result<usize, TooLong> {
    let mut output = Output {
        wire: CobsEncoder::new(wire),
        digest: CRC.digest(),
        room,
    };
    let written = output.try_extend(&header.bytes());
    written.map_err(|_| TooLong)?;
    let len = postcard::serialize_with_flavor(message, output).map_err(|_| TooLong)?;
    *wire.get_mut(len).ok_or(TooLong)? = 0;
    Ok(len + 1)
}

/// What postcard writes to: CRC and COBS on the way.
struct Output<'w> {
    wire: CobsEncoder<'w>,
    digest: Digest<'static, u32, Lookup>,
    /// Bytes that may still come.
    room: usize,
}

impl Flavor for Output<'_> {
    type Output = usize;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        const FULL: postcard::Error = postcard::Error::SerializeBufferFull;
        self.room = self.room.checked_sub(bytes.len()).ok_or(FULL)?;
        self.digest.update(bytes);
        self.wire.push(bytes).map_err(|_| FULL)
    }

    fn finalize(mut self) -> postcard::Result<usize> {
        let crc = self.digest.finalize();
        let pushed = self.wire.push(&crc.to_le_bytes());
        pushed.map_err(|_| postcard::Error::SerializeBufferFull)?;
        Ok(self.wire.finalize())
    }
}

/// A frame whose CRC is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'f> {
    /// What stands before the message.
    pub header: Header,
    /// The message as postcard wrote it.
    pub message: &'f [u8],
}

impl<'f> Frame<'f> {
    /// The message.
    ///
    /// # Errors
    /// [`FrameError::Message`] if it is none of these, or more than one.
    pub fn decode<M: Deserialize<'f>>(&self) -> Result<M, FrameError> {
        match postcard::take_from_bytes(self.message) {
            Ok((message, [])) => Ok(message),
            _ => Err(FrameError::Message),
        }
    }

    /// What stood between two zeros, whatever its length; it is decoded where it lies.
    ///
    /// # Errors
    /// [`FrameError`], why it is no frame.
    pub fn unpack(wire: &'f mut [u8]) -> Result<Self, FrameError> {
        let len = cobs::decode_in_place(wire).map_err(|_| FrameError::Cobs)?;
        Self::parse(wire.get(..len).ok_or(FrameError::Cobs)?)
    }

    fn parse(bytes: &'f [u8]) -> Result<Self, FrameError> {
        let (content, crc) = bytes.split_last_chunk().ok_or(FrameError::Short)?;
        if CRC.checksum(content) != u32::from_le_bytes(*crc) {
            return Err(FrameError::Crc);
        }
        let (header, message) = content.split_first_chunk().ok_or(FrameError::Short)?;
        let header = Header::parse(*header)?;
        Ok(Self { header, message })
    }
}

/// Why what stood between two zeros is no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum FrameError {
    /// It ends in the middle of what COBS announces: half a frame.
    Cobs,
    /// It is longer than any frame.
    Long,
    /// It is shorter than any frame.
    Short,
    /// Its CRC is not that of its content.
    Crc,
    /// The other end speaks another version of the protocol.
    Version {
        /// This one.
        version: u8,
    },
    /// It holds no message of this protocol.
    Message,
}

impl core::fmt::Display for FrameError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Cobs => f.write_str("half a frame"),
            Self::Long => f.write_str("a frame that is too long"),
            Self::Short => f.write_str("a frame that is too short"),
            Self::Crc => f.write_str("a damaged frame"),
            Self::Version { version } => write!(
                f,
                "the other end speaks version {version} of the link, this one version {VERSION}"
            ),
            Self::Message => f.write_str("a message that this end does not know"),
        }
    }
}

impl core::error::Error for FrameError {}

/// Finds frames in bytes as they come. After anything else it is in step again at the next zero.
#[derive(Debug)]
pub struct Decoder {
    state: DecoderState,
    frame: Vec<u8, MAX_FRAME>,
    /// No frame begins before the next zero.
    skipping: Option<FrameError>,
    /// The frame was given out; its bytes are no longer of use.
    done: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            state: DecoderState::Idle,
            frame: Vec::new(),
            skipping: None,
            done: false,
        }
    }
}

impl Decoder {
    /// Takes one byte; gives what it completes, a frame or what is none. Two zeros in a row complete nothing.
    pub fn feed(&mut self, byte: u8) -> Option<Result<Frame<'_>, FrameError>> {
        if core::mem::take(&mut self.done) {
            self.frame.clear();
        }
        if let Some(error) = self.skipping {
            if byte == 0 {
                (self.skipping, self.done) = (None, true);
                return Some(Err(error));
            }
            return None;
        }
        match self.state.feed(byte) {
            Ok(DecodeResult::NoData) => None,
            Ok(DecodeResult::DataContinue(byte)) => {
                if self.frame.push(byte).is_err() {
                    self.state = DecoderState::Idle;
                    self.skipping = Some(FrameError::Long);
                }
                None
            }
            Ok(DecodeResult::DataComplete) => {
                self.done = true;
                Some(Frame::parse(&self.frame))
            }
            Err(_) => {
                self.state = DecoderState::Idle;
                self.done = true;
                Some(Err(FrameError::Cobs))
            }
        }
    }
}
