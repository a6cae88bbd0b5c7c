//! Only policies of the device's key, and none that is older than the one that runs.

use super::*;

const SECRET: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

fn trust() -> Trust {
    let public = public_key(&SECRET);
    Trust::Key { public, oldest: 3 }
}

fn boot(mut flash: Nor<4>, trust: Trust) -> Device {
    flash.power_on();
    let mut boot = Boot::new(flash, LAYOUT, FIT, trust);
    let running = boot.next();
    boot.run(running)
}

fn send(slots: &mut Device, file: &[u8], seal: Option<Seal>) -> Result<u32, Refusal> {
    let announcement = Announcement {
        seal,
        ..Announcement::of(file)
    };
    let mut upload = Upload::new();
    upload.begin(slots, true, &announcement)?;
    upload.write(slots, true, 0, file)?;
    Ok(upload.finish(slots, true)?.sequence)
}

/// A device whose slot 0 has `file` with number 5, confirmed.
fn device(file: &PolicyFile) -> Device {
    let mut slots = boot(Nor::new(&LAYOUT, 1), trust());
    let bytes = file.bytes();
    assert_eq!(
        send(&mut slots, bytes, Some(sign(&SECRET, 5, bytes))),
        Ok(5)
    );
    let mut slots = boot(slots.flash().clone(), trust());
    slots.confirm().unwrap();
    slots
}

#[test]
fn a_signature_as_others_make_it() {
    // By OpenSSL, through Python's cryptography; the header is that of SLOTS.md.
    let hex = |text: &str| -> Vec<u8> {
        let digits = text.as_bytes().chunks(2);
        digits
            .map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    };
    let public = hex("03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8");
    let signature = hex(
        "70189b809d39a48b77805b644d7abff8d5c7b0b721a0e31416f619c553c340bb32eddd504bbd10eea34a539b6dafe19846fd54edbe1382cdca5f145f8cb9de04",
    );
    assert_eq!(public_key(&SECRET)[..], public);
    let seal = Seal {
        sequence: 5,
        sha256: [0xA1; 32],
        signature: signature.try_into().unwrap(),
    };
    let announced = (0x0001_F240, 0xCBF4_3926);
    let header = trust().header(announced, Some(&seal), 0, 0).unwrap();
    assert_eq!(header.map(|header| header.sequence), Some(5));
}

#[test]
fn only_newer_policies_of_the_key_are_stored() {
    let (old, new) = (file(4, 1), file(4, 2));
    let bytes = new.bytes();
    let mut slots = device(&old);
    let steps = slots.flash().steps();
    let seal = sign(&SECRET, 6, bytes);
    let other_key = sign(&[7; 32], 6, bytes);
    let mut altered = seal;
    altered.sequence = 7;
    let mut other_digest = seal;
    other_digest.sha256[0] ^= 1;
    let mut other_signature = seal;
    other_signature.signature[63] ^= 1;
    let older = |sequence| Untrusted::Older {
        sequence,
        oldest: 6,
    };
    for (seal, expected) in [
        (None, Untrusted::Unsigned),
        (Some(other_key), Untrusted::Signature),
        (Some(altered), Untrusted::Signature),
        (Some(other_digest), Untrusted::Signature),
        (Some(other_signature), Untrusted::Signature),
        // The signature of another file.
        (Some(sign(&SECRET, 6, old.bytes())), Untrusted::Signature),
        (Some(sign(&SECRET, 4, bytes)), older(4)),
        (Some(sign(&SECRET, 5, bytes)), older(5)),
    ] {
        assert_eq!(
            send(&mut slots, bytes, seal),
            Err(Refusal::Untrusted(expected))
        );
    }
    assert_eq!(slots.flash().steps(), steps); // nothing was erased
    assert_eq!(send(&mut slots, bytes, Some(seal)), Ok(6));
    let mut slots = boot(slots.flash().clone(), trust());
    assert_eq!(running(&mut slots), (1, bytes.to_vec(), Some(1)));
    // On an empty device the image says what is too old.
    let mut empty = boot(Nor::new(&LAYOUT, 1), trust());
    assert_eq!(
        send(&mut empty, bytes, Some(sign(&SECRET, 2, bytes))),
        Err(Refusal::Untrusted(Untrusted::Older {
            sequence: 2,
            oldest: 3
        }))
    );
}

#[test]
fn a_policy_with_the_checksum_of_the_signed_one_is_not_the_signed_one() {
    let old = file(4, 1);
    let mut slots = device(&old);
    // Length and checksum of the one that was signed, bytes of another.
    let forged = forge(old.bytes());
    assert_eq!(forged.len(), old.bytes().len());
    assert_eq!(Announcement::of(&forged), Announcement::of(old.bytes()));
    let seal = Some(sign(&SECRET, 6, old.bytes()));
    assert_eq!(
        send(&mut slots, &forged, seal),
        Err(Refusal::Untrusted(Untrusted::Digest))
    );
    // Nor does it boot, if somebody has got it into the flash.
    let policy = LAYOUT.policy(0).unwrap().start as usize;
    let mut flash = slots.flash().clone();
    flash.bytes_mut()[policy..][..forged.len()].copy_from_slice(&forged);
    let slots = boot(flash, trust());
    assert!(slots.running().is_none());
    assert_eq!(slots.reason(0), Some(Reason::Untrusted(Untrusted::Digest)));
}

/// Other bytes with the same checksum: a multiple of its polynomial, x³² + … + 1, is added, bits being sent lowest first.
fn forge(file: &[u8]) -> Vec<u8> {
    let mut forged = file.to_vec();
    let at = file.len() - 8;
    let multiple = (u64::from(0xEDB8_8320_u32) << 1) | 1;
    for (byte, flip) in forged[at..].iter_mut().zip(multiple.to_le_bytes()) {
        *byte ^= flip;
    }
    forged
}

#[test]
fn what_no_longer_may_run_does_not_boot() {
    let old = file(4, 1);
    let mut slots = device(&old);
    let flash = slots.flash().clone();
    let public = public_key(&SECRET);
    for (trust, reason) in [
        (Trust::Key { public, oldest: 5 }, None),
        (
            Trust::Key { public, oldest: 6 },
            Some(Untrusted::Older {
                sequence: 5,
                oldest: 6,
            }),
        ),
        (
            Trust::Key {
                public: public_key(&[7; 32]),
                oldest: 0,
            },
            Some(Untrusted::Signature),
        ),
        (Trust::Anyone, None),
    ] {
        let slots = boot(flash.clone(), trust);
        assert_eq!(slots.running().is_some(), reason.is_none());
        assert_eq!(slots.reason(0), reason.map(Reason::Untrusted));
    }
    // One that was stored when anybody might.
    let mut open = super::device(&old);
    let slots = boot(open.flash().clone(), Trust::Key { public, oldest: 0 });
    assert_eq!(
        slots.reason(0),
        Some(Reason::Untrusted(Untrusted::Unsigned))
    );
}
