use core::cell::Cell;

use ::tests::{Sample, small_config};
use dt_core::blob::BlobError;
use dt_core::config::Config;
use dt_link::{Bytes, PolicyId, UploadRefusal};
use host_sim::policy_file::PolicyFile;

use super::layout::{Blocks, Region};
use super::*;
use crate::board::Updates;
use crate::nor::Nor;
use crate::upload::{Announcement, Refusal, Stored, Updater, Upload};

mod power;
#[cfg(feature = "signed")]
mod signed;

std::thread_local! {
    /// The mistake that the code under test makes.
    pub static PLANTED: Cell<Option<Plant>> = const { Cell::new(None) };
}

/// A policy file of the smallest size, somewhat larger with `d_ff`.
fn file(d_ff: u32, seed: u64) -> PolicyFile {
    file_for(2, d_ff, seed)
}

fn file_for(state_dim: u32, d_ff: u32, seed: u64) -> PolicyFile {
    let config = Config {
        state_dim,
        act_dim: 1,
        d_model: 4,
        n_layer: 1,
        n_head: 1,
        d_ff,
        context_len: 2,
        max_ep_len: 0,
        ..small_config()
    };
    Sample::random(config, seed).emit()
}

const FIT: Fit = Fit {
    state_dim: 2,
    action_len: 1,
    arena_words: 1000,
};

/// A part with blocks of 1, 1, 2 KiB and words.
const LAYOUT: Layout = Layout {
    base: 0,
    unit: 4,
    slots: [
        Region {
            start: 0x1000,
            blocks: &[
                Blocks {
                    count: 2,
                    len: 1024,
                },
                Blocks {
                    count: 1,
                    len: 2048,
                },
            ],
        },
        Region {
            start: 0x2000,
            blocks: &[Blocks {
                count: 3,
                len: 2048,
            }],
        },
    ],
}
.checked();

type Device = Slots<Nor<4>, 2>;

/// Boots and takes the first candidate, as if its self-test passed.
fn boot(flash: Nor<4>) -> Device {
    let mut boot = Boot::new(flash, LAYOUT, FIT, Trust::Anyone);
    let running = boot.next();
    let mut slots = boot.run(running);
    let policy = slots.running().map(|candidate| candidate.policy.clone());
    slots.flash().run(policy);
    slots
}

fn reset(mut slots: Device) -> Device {
    reset_flash(&mut slots)
}

fn reset_flash(slots: &mut Device) -> Device {
    slots.flash().power_on();
    boot(slots.flash().clone())
}

fn send(slots: &mut Device, file: &[u8]) -> Result<Stored, Refusal> {
    let mut upload = Upload::new();
    let mut offset = upload.begin(slots, true, &Announcement::of(file))?;
    for piece in file.chunks(100) {
        offset = upload.write(slots, true, offset, piece)?;
    }
    upload.finish(slots, true)
}

/// A device whose slot 0 has `file`, confirmed.
fn device(file: &PolicyFile) -> Device {
    let mut slots = boot(Nor::new(&LAYOUT, 1));
    let stored = send(&mut slots, file.bytes()).unwrap();
    assert_eq!((stored.slot, stored.sequence), (0, 1));
    let mut slots = reset(slots);
    slots.confirm().unwrap();
    slots
}

fn running(slots: &mut Device) -> (usize, Vec<u8>, Option<u32>) {
    let candidate = slots.running().expect("a policy").clone();
    let bytes = slots.flash().mapped(candidate.policy).to_vec();
    (candidate.slot, bytes, candidate.trial)
}

#[test]
fn an_update_runs_on_trial_until_it_is_confirmed() {
    let (old, new) = (file(4, 1), file(40, 2));
    let mut slots = device(&old);
    assert!(!slots.is_pending());
    assert_eq!(slots.reason(1), Some(Reason::Header(HeaderError::Magic)));
    assert_eq!(running(&mut slots), (0, old.bytes().to_vec(), None));
    let stored = send(&mut slots, new.bytes()).unwrap();
    assert_eq!((stored.slot, stored.sequence), (1, 2));
    // The old one runs until the next reset.
    assert_eq!(running(&mut slots), (0, old.bytes().to_vec(), None));
    let mut slots = reset(slots);
    assert_eq!(running(&mut slots), (1, new.bytes().to_vec(), Some(1)));
    assert!(slots.is_pending());
    let mut slots = reset(slots);
    assert_eq!(running(&mut slots).2, Some(2));
    slots.confirm().unwrap();
    slots.confirm().unwrap(); // once in flash
    assert!(!slots.is_pending());
    let mut slots = reset(slots);
    assert_eq!(running(&mut slots), (1, new.bytes().to_vec(), None));
    // The next one takes the other slot.
    assert_eq!(
        send(&mut slots, old.bytes()),
        Ok(Stored {
            slot: 0,
            sequence: 3
        })
    );
    assert_eq!(slots.flash().misuse(), None);
}

#[test]
fn a_policy_that_is_never_confirmed_gives_way_to_the_old_one() {
    let (old, new) = (file(4, 1), file(4, 2));
    let mut slots = device(&old);
    send(&mut slots, new.bytes()).unwrap();
    for trial in 1..=TRIALS {
        slots = reset(slots);
        assert_eq!(running(&mut slots).2, Some(trial));
        // The old one is not given up for a third.
        assert_eq!(send(&mut slots, old.bytes()), Err(Refusal::OnTrial));
    }
    for _ in 0..2 {
        slots = reset(slots);
        assert_eq!(running(&mut slots), (0, old.bytes().to_vec(), None));
        assert_eq!(slots.reason(1), Some(Reason::Exhausted));
    }
    // The slot of the rejected one is free, its number is not.
    assert_eq!(
        send(&mut slots, new.bytes()),
        Ok(Stored {
            slot: 1,
            sequence: 3
        })
    );
    assert_eq!(running(&mut reset(slots)).0, 1);
}

#[test]
fn a_policy_on_trial_is_replaced_where_nothing_is_lost() {
    let (first, second) = (file(4, 1), file(4, 2));
    let mut slots = boot(Nor::new(&LAYOUT, 1));
    send(&mut slots, first.bytes()).unwrap();
    let mut slots = reset(slots);
    assert!(slots.is_pending());
    let stored = send(&mut slots, second.bytes()).unwrap();
    assert_eq!((stored.slot, stored.sequence), (1, 2));
    // Now there is something to lose, although neither is known to be good.
    let mut slots = reset(slots);
    assert_eq!(running(&mut slots), (1, second.bytes().to_vec(), Some(1)));
    assert_eq!(send(&mut slots, first.bytes()), Err(Refusal::OnTrial));
}

#[test]
fn a_policy_that_fails_its_self_test_gives_way_at_once() {
    let (old, new) = (file(4, 1), file(4, 2));
    let mut slots = device(&old);
    send(&mut slots, new.bytes()).unwrap();
    slots.flash().power_on();
    let mut boot = Boot::new(slots.flash().clone(), LAYOUT, FIT, Trust::Anyone);
    let [first, second] = [boot.next(), boot.next()].map(|candidate| candidate.unwrap().slot);
    assert_eq!((first, second), (1, 0));
    assert_eq!(boot.next(), None);
    // Neither passed: the policy in the image runs, and the slot of the older is the next to be written.
    let mut slots = boot.run(None);
    assert!(slots.running().is_none() && !slots.is_pending());
    assert_eq!(
        send(&mut slots, old.bytes()),
        Ok(Stored {
            slot: 0,
            sequence: 3
        })
    );
}

#[test]
fn damage_is_found_wherever_it_is() {
    let (old, new) = (file(4, 1), file(4, 2));
    let mut slots = device(&old);
    send(&mut slots, new.bytes()).unwrap();
    let slots = &mut reset(slots);
    slots.confirm().unwrap();
    let policy = LAYOUT.policy(1).unwrap();
    let header = LAYOUT.slots[1].start;
    let places = (header..header + LEN as u32).chain(policy.take(new.bytes().len()));
    for offset in places {
        let mut flash = slots.flash().clone();
        flash.power_on();
        flash.flip(offset, offset % 8);
        let mut slots = boot(flash);
        assert_eq!(
            running(&mut slots),
            (0, old.bytes().to_vec(), None),
            "{offset:#x}"
        );
        assert!(matches!(
            slots.reason(1),
            Some(Reason::Header(_) | Reason::Crc { .. } | Reason::Unfit(_))
        ));
        // And it can be replaced.
        assert_eq!(send(&mut slots, new.bytes()).unwrap().slot, 1);
        assert_eq!(running(&mut reset(slots)).0, 1);
    }
}

#[test]
fn only_what_fits_the_robot_is_stored() {
    let mut slots = device(&file(4, 1));
    let other = file_for(3, 4, 1);
    let large = file(160, 1);
    let words = large.blob().manifest().config.arena_words();
    slots.fit.arena_words = words - 1;
    for (bytes, unfit) in [
        (
            other.bytes(),
            Unfit::Dimensions {
                policy: (3, 1),
                robot: (2, 1),
            },
        ),
        (&[7; 999][..], Unfit::Blob(BlobError::Magic)),
        (
            large.bytes(),
            Unfit::Arena {
                needed: words,
                have: words - 1,
            },
        ),
    ] {
        assert_eq!(send(&mut slots, bytes), Err(Refusal::Unfit(unfit)));
        slots = reset(slots);
        slots.fit.arena_words = words - 1;
        assert_eq!(running(&mut slots).0, 0);
        assert_eq!(slots.reason(1), Some(Reason::Header(HeaderError::Magic)));
    }
    // As does an image for another robot, whoever wrote the slots.
    slots.fit.arena_words = words;
    send(&mut slots, large.bytes()).unwrap();
    slots.flash().power_on();
    let fit = Fit {
        state_dim: 3,
        ..FIT
    };
    let mut boot = Boot::new(slots.flash().clone(), LAYOUT, fit, Trust::Anyone);
    assert_eq!(boot.next(), None);
    assert!(matches!(
        boot.reason(0),
        Some(Reason::Unfit(Unfit::Dimensions { .. }))
    ));
    // What does not run has not been tried either.
    assert_eq!(running(&mut reset(slots)).2, Some(1));
}

#[test]
fn an_upload_goes_on_where_it_was_interrupted() {
    let (old, new) = (file(4, 1), file(160, 2));
    let bytes = new.bytes();
    let announcement = Announcement::of(bytes);
    let mut slots = device(&old);
    let mut upload = Upload::new();
    assert_eq!(upload.progress(), None);
    assert_eq!(
        upload.write(&mut slots, true, 0, bytes),
        Err(Refusal::NotBegun)
    );
    assert_eq!(upload.finish(&mut slots, true), Err(Refusal::NotBegun));
    assert_eq!(
        upload.begin(&mut slots, false, &announcement),
        Err(Refusal::Busy)
    );
    assert_eq!(
        slots.flash().steps(),
        boot(slots.flash().clone()).flash().steps()
    );
    assert_eq!(upload.begin(&mut slots, true, &announcement), Ok(0));
    assert_eq!(upload.write(&mut slots, true, 0, &bytes[..333]), Ok(333));
    assert_eq!(
        upload.write(&mut slots, false, 333, &bytes[333..]),
        Err(Refusal::Busy)
    );
    assert_eq!(
        upload.write(&mut slots, true, 334, &bytes[334..]),
        Err(Refusal::Gap { expected: 333 })
    );
    // Again, and what overlaps.
    assert_eq!(upload.write(&mut slots, true, 0, &bytes[..100]), Ok(333));
    assert_eq!(
        upload.write(&mut slots, true, 300, &bytes[300..400]),
        Ok(400)
    );
    assert_eq!(upload.begin(&mut slots, true, &announcement), Ok(400));
    let length = bytes.len() as u32;
    assert_eq!(upload.progress(), Some((400, length)));
    assert_eq!(
        upload.finish(&mut slots, true),
        Err(Refusal::Incomplete { expected: 400 })
    );
    assert_eq!(
        upload.write(&mut slots, true, 399, &vec![0; bytes.len() - 398]),
        Err(Refusal::TooMuch { length })
    );
    assert_eq!(
        upload.write(&mut slots, true, 400, &bytes[400..]),
        Ok(length)
    );
    assert_eq!(upload.finish(&mut slots, false), Err(Refusal::Busy));
    let stored = Ok(Stored {
        slot: 1,
        sequence: 2,
    });
    assert_eq!(upload.finish(&mut slots, true), stored);
    assert_eq!(upload.finish(&mut slots, true), stored); // the answer was lost
    assert_eq!(slots.flash().misuse(), None);
    assert_eq!(running(&mut reset(slots)), (1, bytes.to_vec(), Some(1)));
}

#[test]
fn another_announcement_begins_another_upload() {
    let (old, new) = (file(4, 1), file(160, 2));
    let mut slots = device(&old);
    let mut upload = Upload::new();
    let other = Announcement {
        crc: 0,
        ..Announcement::of(new.bytes())
    };
    upload.begin(&mut slots, true, &other).unwrap();
    upload.write(&mut slots, true, 0, &[9; 999]).unwrap();
    let announcement = Announcement::of(new.bytes());
    assert_eq!(upload.begin(&mut slots, true, &announcement), Ok(0));
    upload.write(&mut slots, true, 0, new.bytes()).unwrap();
    assert!(upload.finish(&mut slots, true).is_ok());
    // Bytes that are not those announced.
    assert_eq!(upload.begin(&mut slots, true, &other), Ok(0));
    upload.write(&mut slots, true, 0, new.bytes()).unwrap();
    assert_eq!(
        upload.finish(&mut slots, true),
        Err(Refusal::Crc {
            announced: 0,
            computed: announcement.crc
        })
    );
    assert_eq!(upload.finish(&mut slots, true), Err(Refusal::NotBegun));
    upload.begin(&mut slots, true, &other).unwrap();
    upload.abort();
    assert_eq!(upload.progress(), None);
    assert_eq!(running(&mut reset(slots)).0, 0);
}

#[test]
fn what_cannot_be_stored_is_refused_before_anything_is_erased() {
    let old = file(4, 1);
    let mut slots = device(&old);
    let capacity = LAYOUT.capacity();
    assert_eq!(slots.capacity(), capacity);
    let steps = slots.flash().steps();
    for length in [0, capacity + 1] {
        let announcement = Announcement {
            length,
            crc: 0,
            seal: None,
        };
        assert_eq!(
            Upload::new().begin(&mut slots, true, &announcement),
            Err(Refusal::Length { length, capacity })
        );
    }
    // No number is left.
    let mut buffer = [0; MAX_HEAD];
    let header = Header::new(u32::MAX, old.bytes());
    let head = LAYOUT.head(&header, true, &mut buffer).unwrap();
    let at = LAYOUT.slots[0].start as usize;
    slots.flash().bytes_mut()[at..][..head.len()].copy_from_slice(head);
    let mut slots = reset(slots);
    assert_eq!(send(&mut slots, old.bytes()), Err(Refusal::Sequence));
    assert_eq!(slots.flash().steps(), steps);
}

#[test]
fn the_only_slot_is_not_replaced_while_it_runs() {
    let [first, _] = LAYOUT.slots;
    let layout = Layout {
        slots: [first],
        ..LAYOUT_OF_ONE
    };
    let old = file(4, 1);
    let mut flash = Nor::<4>::new(&layout, 1);
    let mut upload = Upload::new();
    // Of the policy in the image: an update is possible.
    let mut slots = Boot::new(&mut flash, layout, FIT, Trust::Anyone).run(None);
    let announcement = Announcement::of(old.bytes());
    upload.begin(&mut slots, true, &announcement).unwrap();
    upload.write(&mut slots, true, 0, old.bytes()).unwrap();
    upload.finish(&mut slots, true).unwrap();
    let mut boot = Boot::new(&mut flash, layout, FIT, Trust::Anyone);
    let candidate = boot.next();
    let mut slots = boot.run(candidate);
    slots.confirm().unwrap();
    assert_eq!(
        upload.begin(&mut slots, true, &announcement),
        Err(Refusal::NoFreeSlot)
    );
}

const LAYOUT_OF_ONE: Layout<1> = Layout {
    base: 0,
    unit: 4,
    slots: [LAYOUT.slots[0]],
};

#[test]
fn a_programmer_writes_what_boots() {
    let policy = file(4, 1);
    for confirmed in [false, true] {
        let mut flash = Nor::<4>::new(&LAYOUT, 1);
        let mut buffer = [0; MAX_HEAD];
        let header = Header::new(1, policy.bytes());
        let head = LAYOUT.head(&header, confirmed, &mut buffer).unwrap();
        let start = LAYOUT.policy(1).unwrap().start as usize;
        let at = LAYOUT.slots[1].start as usize;
        flash.bytes_mut()[at..][..head.len()].copy_from_slice(head);
        flash.bytes_mut()[start..][..policy.bytes().len()].copy_from_slice(policy.bytes());
        let mut slots = boot(flash);
        let trial = (!confirmed).then_some(1);
        assert_eq!(running(&mut slots), (1, policy.bytes().to_vec(), trial));
    }
}

#[test]
fn a_device_at_a_wire_is_updated_and_proves_the_policy() {
    let (old, new) = (file(4, 1), file(160, 2));
    let id = |file: &PolicyFile| PolicyId {
        crc: file.crc(),
        len: file.bytes().len() as u32,
    };
    let mut device = Updater::new(device(&old));
    assert!(device.supported());
    assert_eq!(device.write(0, &[1]), Err(UploadRefusal::NotBegun));
    assert_eq!(device.begin(id(&new), None), Ok(0));
    let (first, rest) = new.bytes().split_at(512);
    assert_eq!(device.write(0, first), Ok(512));
    let expected = UploadRefusal::Offset { expected: 512 };
    assert_eq!(device.write(1024, first), Err(expected));
    assert_eq!(device.finish(), Err(expected));
    assert_eq!(device.begin(id(&new), None), Ok(512));
    assert_eq!(device.write(512, rest), Ok(id(&new).len));
    assert_eq!(device.finish(), Ok(()));
    let mut device = Updater::new(reset_flash(device.slots()));
    assert_eq!(device.begin(id(&old), None), Err(UploadRefusal::OnTrial));
    device.proved();
    assert!(!device.slots().is_pending());
    let other = file_for(3, 4, 1);
    device.begin(id(&other), None).unwrap();
    device.write(0, other.bytes()).unwrap();
    assert_eq!(
        device.finish(),
        Err(UploadRefusal::Unfit {
            state_dim: 3,
            act_dim: 1
        })
    );
    let seal = dt_link::Seal {
        sequence: 1,
        sha256: Bytes(&[0; 32]),
        signature: Bytes(&[0; 63]),
    };
    let begun = device.begin(id(&old), Some(seal));
    assert_eq!(begun, Err(UploadRefusal::Signature));
    let begun = device.begin(
        PolicyId {
            len: 10_000,
            ..id(&old)
        },
        None,
    );
    let max = LAYOUT.capacity();
    assert_eq!(begun, Err(UploadRefusal::TooLarge { max }));
}

#[test]
fn every_refusal_says_what_to_do() {
    let unfit = Unfit::Arena { needed: 9, have: 8 };
    for (refusal, text) in [
        (
            Refusal::Length {
                length: 9,
                capacity: 8,
            },
            "the policy has 9 bytes, a slot 8; export it as int8 or int4",
        ),
        (Refusal::Gap { expected: 7 }, "go on from byte 7"),
        (
            Refusal::Unfit(unfit),
            "the policy needs 9 words of memory, the image has 8; export it as int8 or int4, or build the image with ARENA_WORDS = 9",
        ),
        (
            Refusal::Flash(FlashError {
                operation: Operation::Erase,
                offset: 0x2000,
                kind: embedded_storage::nor_flash::NorFlashErrorKind::Other,
            }),
            "erasing the flash at 0x2000 failed: An implementation specific error occurred",
        ),
    ] {
        assert_eq!(refusal.to_string(), text);
    }
    assert_eq!(
        Reason::Exhausted.to_string(),
        "booted 3 times without having been confirmed; send a better policy"
    );
}
