//! Both ends of the wire, and what a bad one does to it.

mod damage;
mod document;
#[cfg(feature = "std")]
mod plant;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::*;

/// Everything that comes of these bytes, messages as text.
fn hear<M: Message>(receiver: &mut Receiver<M>, wire: &[u8]) -> Vec<Result<(u16, String), Refused>>
where
    for<'f> M::Borrowed<'f>: core::fmt::Debug,
{
    let heard = wire.iter().filter_map(|byte| {
        let message = receiver.feed(*byte)?;
        Some(message.map(|(header, message)| (header.sequence, format!("{message:?}"))))
    });
    heard.collect()
}

fn frame(sender: &mut Sender, message: &impl serde::Serialize) -> Vec<u8> {
    let mut wire = [0; MAX_WIRE];
    let len = sender.encode(message, &mut wire).unwrap();
    wire[..len].to_vec()
}

fn host(session: u8) -> Sender {
    let mut sender = Sender::new(Direction::ToDevice);
    sender.begin(session);
    sender
}

/// A device that has been greeted.
fn device(sender: &mut Sender) -> Receiver<ToDevice<'static>> {
    let mut receiver = Receiver::new(Direction::ToDevice);
    let heard = hear(&mut receiver, &frame(sender, &ToDevice::Hello));
    assert_eq!(heard, [Ok((0, "Hello".to_owned()))]);
    receiver
}

fn policy() -> impl Strategy<Value = PolicyId> {
    any::<(u32, u32)>().prop_map(|(crc, len)| PolicyId { crc, len })
}

fn mode() -> impl Strategy<Value = Mode> {
    any::<[u8; 4]>().prop_map(Mode)
}

/// Any bits, and as equal only to themselves: NaNs of all kinds among them.
fn number() -> impl Strategy<Value = f32> {
    any::<u32>().prop_map(f32::from_bits)
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        Just(Refusal::Unknown),
        policy().prop_map(|has| Refusal::OtherPolicy { has }),
        any::<(u16, u16)>()
            .prop_map(|(state_dim, act_dim)| Refusal::Dimensions { state_dim, act_dim }),
        any::<u16>().prop_map(|left| Refusal::WarmingUp { left }),
        mode().prop_map(Refusal::Disarmed),
        any::<(u16, u16)>().prop_map(|(expected, got)| Refusal::Length { expected, got }),
        any::<u32>().prop_map(|max| Refusal::Upload(UploadRefusal::TooLarge { max })),
        Just(Refusal::Upload(UploadRefusal::Flash)),
    ]
}

/// The message's bytes after one journey, and what arrived as text.
fn journey<M: Message>(direction: Direction, message: &impl serde::Serialize) -> (Vec<u8>, String)
where
    for<'f> M::Borrowed<'f>: core::fmt::Debug,
{
    let mut sender = Sender::new(direction);
    sender.begin(9);
    let wire = frame(&mut sender, message);
    assert_eq!(
        wire.iter().position(|&byte| byte == 0),
        Some(wire.len() - 1)
    );
    let mut receiver = Receiver::<M>::new(direction);
    receiver.begin(9);
    let mut heard = hear(&mut receiver, &wire);
    assert_eq!(heard.len(), 1, "{heard:?}");
    (wire, heard.remove(0).unwrap().1)
}

proptest! {
    #[test]
    fn what_the_host_says_arrives(
        step in any::<u32>(),
        (age_us, sequence) in any::<(u32, u32)>(),
        reward in option::of(number()),
        return_to_go in option::of(number()),
        values in vec(number(), 0..130),
        data in vec(any::<u8>(), 0..=CHUNK),
        policy in policy(),
        (state_dim, act_dim, warm_up) in any::<(u16, u16, u16)>(),
        seed in option::of(any::<u64>()),
    ) {
        let seal = Seal { sequence, sha256: Bytes(&[7; 32]), signature: Bytes(&[0; 64]) };
        let values = Values::new(&values);
        for message in [
            ToDevice::Hello,
            ToDevice::Component { of: Side::Action, index: state_dim },
            ToDevice::Arm { policy, state_dim, act_dim, warm_up, pace: Pace::Lockstep },
            ToDevice::Start { target_return: return_to_go.unwrap_or(0.0), seed },
            ToDevice::Stop,
            ToDevice::Observation { step, age_us, reward, return_to_go, values },
            ToDevice::UploadBegin { policy, seal: Some(seal) },
            ToDevice::UploadChunk { offset: step, data: Bytes(&data) },
            ToDevice::BlackBox { offset: step },
        ] {
            let (_, heard) = journey::<ToDevice<'static>>(Direction::ToDevice, &message);
            prop_assert_eq!(heard, format!("{message:?}"));
        }
    }

    #[test]
    fn what_the_device_says_arrives(
        (to, step, total) in any::<(u16, u32, u32)>(),
        (latency_us, slack_us) in any::<(u32, u32)>(),
        mode in mode(),
        values in vec(number(), 0..130),
        data in vec(any::<u8>(), 0..=CHUNK),
        why in refusal(),
        name in "\\PC{0,20}",
    ) {
        let hello = Hello {
            board: &name, version: "0.1.0", policy: PolicyId::default(), env: &name, state_dim: to, act_dim: 1,
            choices: 0, period_us: step, deadline_us: step, stale_us: total, silence_us: 0, wants_reward: true,
            wants_return_to_go: false, target_return: -1.5, mode, cause: Cause::BrownOut,
        };
        for message in [
            ToHost::Hello(hello),
            ToHost::Component { of: Side::Observation, index: to, name: &name, unit: "rad/s" },
            ToHost::Status { mode, refused: step, lost: total, late: 0, missed: 1 },
            ToHost::Done { to },
            ToHost::Refusal { to, why },
            ToHost::Action { step, mode, latency_us, slack_us, values: Values::new(&values) },
            ToHost::Upload { next: step },
            ToHost::BlackBox { offset: step, total, data: Bytes(&data) },
        ] {
            let (_, heard) = journey::<ToHost<'static>>(Direction::ToHost, &message);
            prop_assert_eq!(heard, format!("{message:?}"));
        }
    }

    /// Total: whatever comes, nothing panics, and a greeting after a zero is heard.
    #[test]
    fn any_bytes_are_survived(noise in vec(any::<u8>(), 0..2000)) {
        let mut receiver = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
        let before = hear(&mut receiver, &noise).len();
        hear(&mut receiver, &[0]);
        let heard = hear(&mut receiver, &frame(&mut host(1), &ToDevice::Hello));
        prop_assert_eq!(heard, [Ok((0, "Hello".to_owned()))]);
        prop_assert!(before as u32 <= receiver.counts().refused());
    }
}

#[test]
fn numbers_keep_their_bits() {
    let values = [
        -0.0,
        f32::from_bits(0x7FA0_0001),
        f32::MIN_POSITIVE / 2.0,
        f32::INFINITY,
    ];
    let message = Values::new(&values);
    let bits = |values: &[f32]| {
        values
            .iter()
            .map(|value| value.to_bits())
            .collect::<Vec<_>>()
    };
    let mut copy = [0.0; 4];
    message.copy_to(&mut copy).unwrap();
    assert_eq!(bits(&copy), bits(&values));
    assert_eq!(
        message.copy_to(&mut copy[..3]),
        Err(Refusal::Length {
            expected: 3,
            got: 4
        })
    );
    // Six bytes are no whole numbers.
    let odd: Values<'_> = postcard::from_bytes(&[6, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(
        odd.copy_to(&mut copy[..1]),
        Err(Refusal::Length {
            expected: 1,
            got: u16::MAX
        })
    );
}

#[test]
fn a_frame_is_taken_once_and_in_order() {
    let mut sender = host(1);
    let mut receiver = device(&mut sender);
    let frames: Vec<_> = (0..5)
        .map(|_| frame(&mut sender, &ToDevice::Status))
        .collect();
    let mut numbers = |order: &[usize]| {
        let wire: Vec<u8> = order.iter().flat_map(|&i| frames[i].clone()).collect();
        hear(&mut receiver, &wire)
            .into_iter()
            .map(|heard| heard.map(|(number, _)| number))
            .collect::<Vec<_>>()
    };
    // Twice, late, and after a gap.
    assert_eq!(numbers(&[0, 0]), [Ok(1), Err(Refused::Order)]);
    assert_eq!(numbers(&[2, 1]), [Ok(3), Err(Refused::Order)]);
    assert_eq!(
        numbers(&[4, 3, 4]),
        [Ok(5), Err(Refused::Order), Err(Refused::Order)]
    );
    let counts = *receiver.counts();
    assert_eq!(
        (
            counts.taken,
            counts.damaged,
            counts.out_of_order,
            counts.lost
        ),
        (4, 0, 4, 2)
    );
}

#[test]
fn numbers_go_around() {
    let mut sender = host(1);
    let mut receiver = device(&mut sender);
    for _ in 0..3 * 65_536 {
        let heard = hear(&mut receiver, &frame(&mut sender, &ToDevice::Status));
        assert!(heard[0].is_ok(), "{heard:?}");
    }
    assert_eq!(receiver.counts().lost, 0);
    // Half of all numbers lie ahead, the other half behind.
    for (ahead, taken) in [(0x7FFF, true), (0x8000, false)] {
        let mut sender = host(1);
        let mut receiver = device(&mut sender);
        for _ in 1..ahead {
            frame(&mut sender, &ToDevice::Status);
        }
        let heard = hear(&mut receiver, &frame(&mut sender, &ToDevice::Status));
        assert_eq!(heard[0].is_ok(), taken, "{ahead:#x}");
    }
}

#[test]
fn another_session_begins_with_a_greeting_alone() {
    let mut first = host(1);
    let mut receiver = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
    let mut say =
        |sender: &mut Sender, message| hear(&mut receiver, &frame(sender, &message)).remove(0);
    assert_eq!(say(&mut first, ToDevice::Stop), Err(Refused::Session));
    assert!(say(&mut first, ToDevice::Hello).is_ok());
    assert!(say(&mut first, ToDevice::Stop).is_ok());
    let mut second = host(2);
    assert_eq!(
        say(&mut second.clone(), ToDevice::Stop),
        Err(Refused::Session)
    );
    assert!(say(&mut second, ToDevice::Hello).is_ok());
    assert_eq!(say(&mut first, ToDevice::Stop), Err(Refused::Session));
    assert!(say(&mut second, ToDevice::Stop).is_ok());
    // A greeting that comes twice is one.
    let mut again = host(2);
    assert_eq!(say(&mut again, ToDevice::Hello), Err(Refused::Order));
}

#[test]
fn an_echo_is_no_message() {
    let mut sender = host(1);
    let wire = frame(&mut sender, &ToDevice::Hello);
    let mut receiver = Receiver::<ToHost<'static>>::new(Direction::ToHost);
    receiver.begin(1);
    assert_eq!(hear(&mut receiver, &wire), [Err(Refused::Echo)]);
}

/// The frame with these bytes between COBS and zero.
fn raw(content: &[u8]) -> Vec<u8> {
    let mut wire = vec![0; cobs::max_encoding_length(content.len()) + 1];
    let len = cobs::encode(content, &mut wire);
    wire.truncate(len + 1);
    wire[len] = 0;
    wire
}

fn with_crc(content: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(content);
    raw(&[content, &crc.to_le_bytes()].concat())
}

#[test]
fn what_is_no_frame_is_called_by_its_name() {
    let mut receiver = Receiver::<ToDevice<'static>>::new(Direction::ToDevice);
    let mut heard = |wire: &[u8]| hear(&mut receiver, wire).remove(0);
    let refused = |error| Err(Refused::Frame(error));
    // A greeting of session 3, number 0.
    let hello = [VERSION, 3, 0, 0, 0];
    assert!(heard(&with_crc(&hello)).is_ok());

    let other = [VERSION + 1, 3, 1, 0, 0];
    assert_eq!(
        heard(&with_crc(&other)),
        refused(FrameError::Version {
            version: VERSION + 1
        })
    );
    assert_eq!(heard(&with_crc(&hello[..3])), refused(FrameError::Short));
    assert_eq!(heard(&raw(&hello[..3])), refused(FrameError::Short));
    assert_eq!(
        heard(&raw(&[&hello[..], &[1, 2, 3, 4]].concat())),
        refused(FrameError::Crc)
    );
    assert_eq!(heard(&[5, 1, 2, 0]), refused(FrameError::Cobs));
    let long = [1; 2 * MAX_WIRE];
    assert_eq!(
        heard(&[&long[..], &[0]].concat()),
        refused(FrameError::Long)
    );

    // Sound frames in order, without a message: they can be answered, and their number is used up.
    let header = |sequence| Header {
        direction: Direction::ToDevice,
        session: 3,
        sequence,
    };
    for (sequence, message) in [(1, &[99_u8][..]), (2, &[]), (3, &[0, 0])] {
        let content = [&[VERSION, 3, sequence as u8, 0], message].concat();
        assert_eq!(
            heard(&with_crc(&content)),
            Err(Refused::Message(header(sequence)))
        );
        assert_eq!(heard(&with_crc(&content)), Err(Refused::Order));
    }
    let counts = receiver.counts();
    assert_eq!(
        (counts.taken, counts.damaged, counts.out_of_order),
        (1, 9, 3)
    );
}

#[test]
fn the_longest_message_fits_and_a_longer_one_does_not() {
    let mut wire = [0; MAX_WIRE];
    let mut sender = host(1);
    let longest = [1_u8; MAX_MESSAGE];
    // As postcard writes an array: without a length.
    struct Raw<'a>(&'a [u8]);
    impl serde::Serialize for Raw<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            self.0
                .iter()
                .try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }
    assert_eq!(sender.encode(&Raw(&longest), &mut wire), Ok(MAX_WIRE));
    assert_eq!(
        sender.encode(&Raw(&[1; MAX_MESSAGE + 1]), &mut wire),
        Err(TooLong)
    );
    for len in 0..11 {
        assert_eq!(
            sender.encode(&ToDevice::Hello, &mut wire[..len]),
            Err(TooLong),
            "{len}"
        );
    }
    // What did not fit used no number.
    assert_eq!(sender.next(), 1);
    let mut decoder = Decoder::default();
    let len = sender.encode(&Raw(&longest), &mut wire).unwrap();
    let taken = wire[..len]
        .iter()
        .filter(|byte| matches!(decoder.feed(**byte), Some(Ok(_))));
    assert_eq!(taken.count(), 1);
}

/// The largest messages that this crate makes fit.
#[test]
fn a_chunk_fits_with_everything_around_it() {
    let data = [0xFF; CHUNK];
    let (wire, _) = journey::<ToDevice<'static>>(
        Direction::ToDevice,
        &ToDevice::UploadChunk {
            offset: u32::MAX,
            data: Bytes(&data),
        },
    );
    assert!(wire.len() <= MAX_WIRE);
    let message = ToHost::BlackBox {
        offset: u32::MAX,
        total: u32::MAX,
        data: Bytes(&data),
    };
    journey::<ToHost<'static>>(Direction::ToHost, &message);
}

#[test]
fn so_many_numbers_fit_a_message_and_no_more() {
    let values = [-1.5; MAX_VALUES + 1];
    let mut wire = [0; MAX_WIRE];
    for (len, fits) in [(MAX_VALUES, true), (MAX_VALUES + 1, false)] {
        let message = ToDevice::Observation {
            step: u32::MAX,
            age_us: u32::MAX,
            reward: Some(1.0),
            return_to_go: Some(1.0),
            values: Values::new(&values[..len]),
        };
        let encoded = host(1).encode(&message, &mut wire);
        assert_eq!(encoded.is_ok(), fits, "{len}");
    }
    let message = ToHost::Action {
        step: u32::MAX,
        mode: Mode([0; 4]),
        latency_us: u32::MAX,
        slack_us: u32::MAX,
        values: Values::new(&values[..MAX_VALUES]),
    };
    assert!(
        Sender::new(Direction::ToHost)
            .encode(&message, &mut wire)
            .is_ok()
    );
}
