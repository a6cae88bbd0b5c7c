//! A wire that flips, loses, repeats, reorders and invents bytes.
//!
//! No check of 32 bits is perfect: of damage that leaves nothing as it was, one frame in 2³² passes, so of the 10⁶ here
//! 2·10⁻⁴ would be expected. The damage is seeded, so that none passes today means that none ever will.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{device, host};
use crate::*;

const DAMAGED: u32 = 1_000_000;

/// What the host says with frame `n`, different for each.
fn message(n: u32, values: &mut [f32; 3]) -> ToDevice<'_> {
    *values = [
        n as f32,
        -(n as f32),
        f32::from_bits(n.wrapping_mul(0x9E37_79B9)),
    ];
    ToDevice::Observation {
        step: n,
        age_us: n % 1000,
        reward: n.is_multiple_of(2).then_some(0.5),
        return_to_go: None,
        values: Values::new(values),
    }
}

/// Number of the message, if it is one that was sent.
fn number(message_heard: &ToDevice<'_>) -> Option<u32> {
    let ToDevice::Observation { step, .. } = message_heard else {
        return None;
    };
    let mut values = [0.0; 3];
    (message(*step, &mut values) == *message_heard).then_some(*step)
}

/// How the wire treats what is on its way: two frames at a time, so that they can change places.
fn damage(kind: u32, frames: [&[u8]; 2], random: &mut ChaCha8Rng, wire: &mut Vec<u8>) {
    let [first, second] = frames;
    match kind {
        // Flipped bits.
        0 => {
            let at = wire.len();
            wire.extend_from_slice(first);
            for _ in 0..random.random_range(1..=8) {
                let byte = random.random_range(at..wire.len());
                wire[byte] ^= 1 << random.random_range(0..8);
            }
            wire.extend_from_slice(second);
        }
        // Lost bytes, the zero among them.
        1 => {
            let lost = random.random_range(0..first.len());
            let len = random.random_range(1..=first.len() - lost);
            wire.extend_from_slice(&first[..lost]);
            wire.extend_from_slice(&first[lost + len..]);
            wire.extend_from_slice(second);
        }
        // Twice.
        2 => [first, first, second, first]
            .iter()
            .for_each(|frame| wire.extend_from_slice(frame)),
        // In another order.
        3 => [second, first]
            .iter()
            .for_each(|frame| wire.extend_from_slice(frame)),
        // Babble, before and in between.
        4 => {
            let cut = random.random_range(0..first.len());
            for piece in [&first[..cut], &first[cut..], second] {
                let mut noise = vec![0; random.random_range(0..40)];
                random.fill_bytes(&mut noise);
                wire.extend_from_slice(&noise);
                wire.extend_from_slice(piece);
            }
        }
        // Half of one, then the next.
        5 => {
            wire.extend_from_slice(&first[..random.random_range(1..first.len())]);
            wire.extend_from_slice(second);
        }
        // Without an end.
        6 => {
            wire.extend(
                (0..random.random_range(MAX_WIRE..2 * MAX_WIRE))
                    .map(|_| random.random_range(1..=255_u8)),
            );
            wire.extend_from_slice(second);
        }
        // Bytes of one in the other.
        _ => {
            let at = wire.len();
            wire.extend_from_slice(first);
            let len = random.random_range(1..first.len().min(second.len()));
            wire[at..at + len].copy_from_slice(&second[..len]);
        }
    }
}

#[test]
fn no_wrong_message_is_taken_and_three_good_frames_are_enough() {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut sender = host(1);
    let mut receiver = device(&mut sender);
    // What a receiver without numbers, and one without a CRC, would take.
    let mut unnumbered = Decoder::default();
    let (mut repeated, mut forged) = (0_u32, 0_u32);
    let mut last: Option<u32> = None;
    let (mut next, mut damaged, mut slowest) = (0, 0, 0);
    let good = |n: u32, sender: &mut Sender| {
        let mut values = [0.0; 3];
        super::frame(sender, &message(n, &mut values))
    };
    let mut wire = Vec::new();
    while damaged < DAMAGED {
        let frames = [good(next, &mut sender), good(next + 1, &mut sender)];
        next += 2;
        wire.clear();
        // Two kinds in seven cost hardly any time, the long ones much: those are rarer.
        let kind = match random.random_range(0..64) {
            0 => 6,
            other => [0, 1, 2, 3, 4, 5, 7][other % 7],
        };
        damage(kind, [&frames[0], &frames[1]], &mut random, &mut wire);
        // Now and then the end is missing, or followed by noise: the next frame suffers.
        match random.random_range(0..8) {
            0 => wire.truncate(wire.len() - random.random_range(1..8)),
            1 => wire.push(random.random()),
            _ => {}
        }
        damaged += 1;
        let undamaged = wire.len();
        let first_good = next;
        for _ in 0..3 {
            wire.extend_from_slice(&good(next, &mut sender));
            next += 1;
        }
        let mut recovered = None;
        let mut highest = last;
        for byte in &wire {
            if let Some(Ok((_, heard))) = receiver.feed(*byte) {
                let n = number(&heard).unwrap_or_else(|| panic!("never sent: {heard:?}"));
                assert!(last.is_none_or(|last| n > last), "{n} after {last:?}");
                last = Some(n);
                if n >= first_good {
                    recovered = recovered.or(Some(n - first_good + 1));
                }
            }
            if let Some(Ok(frame)) = unnumbered.feed(*byte)
                && let Ok(heard) = frame.decode()
                && let Some(n) = number(&heard)
            {
                repeated += u32::from(highest.is_some_and(|highest| n <= highest));
                highest = highest.max(Some(n));
            }
        }
        let recovered = recovered.expect("three good frames bring it back");
        slowest = slowest.max(recovered);
        // Without the CRC.
        for piece in wire[..undamaged].split(|byte| *byte == 0) {
            let mut content = vec![0; piece.len()];
            if let Ok(len) = cobs::decode(piece, &mut content)
                && len > 8
                && let Ok((heard, [])) =
                    postcard::take_from_bytes::<ToDevice<'_>>(&content[4..len - 4])
            {
                forged += u32::from(number(&heard).is_none());
            }
        }
    }
    assert_eq!(slowest, 2, "the first one may be lost to what is before it");
    // The damage is of the kind that the checks are for.
    assert!(forged > 10_000, "{forged}");
    assert!(repeated > 10_000, "{repeated}");
    let counts = receiver.counts();
    assert!(
        counts.damaged > DAMAGED / 4 && counts.out_of_order > DAMAGED / 4,
        "{counts:?}"
    );
    eprintln!(
        "{damaged} damaged; back after {slowest} good frames at most; without CRC {forged} wrong, without numbers {repeated} repeated; {counts:?}"
    );
}
