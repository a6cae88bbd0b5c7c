//! Power cuts at every step of an update, of every kind of flash there is a board for: afterwards a policy runs, as good as the
//! one before, and the next update works, even if the power fails in it again.

use super::*;

/// The layouts of `parts` with smaller blocks, so that the small policies of these tests lie in several.
const F446: Layout = layout(4, [&[blocks(1, 2048)], &[blocks(1, 2048)]]);
const F405: Layout = layout(4, [&[blocks(1, 1024), blocks(3, 2048)], &[blocks(4, 2048)]]);
const H743: Layout = layout(32, [&[blocks(6, 2048)], &[blocks(6, 2048)]]);
const NRF52840: Layout = layout(4, [&[blocks(5, 512)], &[blocks(5, 512)]]);
const RP2040: Layout = layout(256, [&[blocks(4, 2048)], &[blocks(4, 2048)]]);

const fn blocks(count: u32, len: u32) -> Blocks {
    Blocks { count, len }
}

const fn layout(unit: u32, [first, second]: [&'static [Blocks]; 2]) -> Layout {
    let first = Region {
        start: 0x400,
        blocks: first,
    };
    let second = Region {
        start: first.end(),
        blocks: second,
    };
    Layout {
        base: 0,
        unit,
        slots: [first, second],
    }
    .checked()
}

/// What the slots hold before the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Nothing: the policy in the image runs.
    Empty,
    /// One policy.
    One,
    /// Two; the newer one runs.
    Full,
    /// One, and a newer one that has been tried in vain.
    Rejected,
}

const STARTS: [Start; 4] = [Start::Empty, Start::One, Start::Full, Start::Rejected];

/// What the policy of the update does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Update {
    /// Runs well, and is confirmed.
    Good,
    /// Resets the board, time and again.
    Bad,
}

/// The policies, by their place in [`Bench::files`].
const OLDER: usize = 0;
const OLD: usize = 1;
const NEW: usize = 2;
const NEXT: usize = 3;

/// Why a device's life ends.
#[derive(Debug)]
enum Stop {
    /// The power is off.
    Off,
    /// Something that must not happen.
    #[expect(dead_code, reason = "to be printed")]
    Wrong(&'static str),
}

/// One device and what may happen to it.
struct Bench<const UNIT: usize> {
    layout: Layout,
    files: [PolicyFile; 4],
    update: Update,
    /// What ran before the update.
    before: Option<usize>,
    /// Boots of a bad update.
    trials: Cell<u32>,
}

type Running<'n, const UNIT: usize> = Slots<&'n mut Nor<UNIT>, 2>;

impl<const UNIT: usize> Bench<UNIT> {
    fn new(layout: Layout, start: Start, update: Update) -> Self {
        Self {
            layout,
            files: [(44, 1), (12, 2), (28, 3), (8, 4)].map(|(d_ff, seed)| file(d_ff, seed)),
            update,
            before: (start != Start::Empty).then_some(OLD),
            trials: Cell::new(0),
        }
    }

    /// Its flash before the update.
    fn flash(&self, start: Start, seed: u64) -> Nor<UNIT> {
        let mut nor = Nor::new(&self.layout, seed);
        let files: &[usize] = match start {
            Start::Empty => &[],
            Start::One | Start::Rejected => &[OLD],
            Start::Full => &[OLDER, OLD],
        };
        for &file in files {
            let mut slots = self.boot(&mut nor).unwrap();
            self.send(&mut slots, file).unwrap();
            self.boot(&mut nor).unwrap().confirm().unwrap();
        }
        if start == Start::Rejected {
            let mut slots = self.boot(&mut nor).unwrap();
            self.send(&mut slots, OLDER).unwrap();
            for _ in 0..TRIALS {
                self.boot(&mut nor).unwrap();
            }
        }
        nor
    }

    fn boot<'n>(&self, nor: &'n mut Nor<UNIT>) -> Result<Running<'n, UNIT>, Stop> {
        nor.run(None);
        let mut boot = Boot::new(nor, self.layout, FIT, Trust::Anyone);
        let running = boot.next();
        let mut slots = boot.run(running);
        let policy = slots.running().map(|candidate| candidate.policy.clone());
        slots.flash().run(policy);
        Self::alive(&mut slots)?;
        Ok(slots)
    }

    fn alive(slots: &mut Running<'_, UNIT>) -> Result<(), Stop> {
        match slots.flash().misuse() {
            Some(rule) => Err(Stop::Wrong(rule)),
            None if slots.flash().is_off() => Err(Stop::Off),
            None => Ok(()),
        }
    }

    /// Which policy runs.
    fn runs(&self, slots: &mut Running<'_, UNIT>) -> Result<Option<usize>, Stop> {
        let Some(candidate) = slots.running() else {
            return Ok(None);
        };
        let policy = candidate.policy.clone();
        let flash = slots.flash();
        let bytes = flash.mapped(policy);
        let found = self.files.iter().position(|file| file.bytes() == bytes);
        let found = found.ok_or(Stop::Wrong("what runs is no policy"))?;
        Ok(Some(found))
    }

    fn send(&self, slots: &mut Running<'_, UNIT>, file: usize) -> Result<(), Stop> {
        let bytes = self.files[file].bytes();
        let mut upload = Upload::new();
        let announcement = Announcement::of(bytes);
        let sent = (|| {
            let mut offset = upload.begin(slots, true, &announcement)?;
            for piece in bytes.chunks(100) {
                offset = upload.write(slots, true, offset, piece)?;
            }
            upload.finish(slots, true)
        })();
        Self::alive(slots)?;
        sent.map_err(|_| Stop::Wrong("an update is refused"))?;
        Ok(())
    }

    /// Boots until what runs stays, and confirms it.
    fn settle<'n>(
        &self,
        nor: &'n mut Nor<UNIT>,
    ) -> Result<(Option<usize>, Running<'n, UNIT>), Stop> {
        loop {
            let mut slots = self.boot(nor)?;
            let running = self.runs(&mut slots)?;
            if running == Some(NEW) && self.update == Update::Bad {
                self.trials.set(self.trials.get() + 1);
                if self.trials.get() > TRIALS {
                    return Err(Stop::Wrong("a bad policy is tried too often"));
                }
                // Its host would like to replace it before it is known how it does.
                let next = Announcement::of(self.files[NEXT].bytes());
                if Upload::new().begin(&mut slots, true, &next) != Err(Refusal::OnTrial) {
                    Self::alive(&mut slots)?;
                }
                continue;
            }
            let mut slots = self.boot(nor)?;
            if slots.confirm().is_err() {
                Self::alive(&mut slots)?;
                return Err(Stop::Wrong("no confirmation"));
            }
            return Ok((running, slots));
        }
    }

    /// The update, until the device has settled.
    fn live(&self, nor: &mut Nor<UNIT>) -> Result<(), Stop> {
        self.send(&mut self.boot(nor)?, NEW)?;
        let (running, _) = self.settle(nor)?;
        match self.update {
            Update::Good if running != Some(NEW) => Err(Stop::Wrong("a good update does not run")),
            Update::Bad if running != self.before => Err(Stop::Wrong("a bad update runs")),
            _ => Ok(()),
        }
    }

    /// After a power cut: what runs, and the next update.
    fn recover(&self, nor: &mut Nor<UNIT>, began_next: bool) -> Result<(), Stop> {
        let (running, mut slots) = self.settle(nor)?;
        let good = self.update == Update::Good && running == Some(NEW);
        let next = began_next && running == Some(NEXT);
        if running != self.before && !good && !next {
            return Err(Stop::Wrong("what ran before is lost"));
        }
        self.send(&mut slots, NEXT)?;
        let (running, _) = self.settle(nor)?;
        if running != Some(NEXT) {
            return Err(Stop::Wrong("the next update does not run"));
        }
        Ok(())
    }

    /// The power fails and comes back.
    fn cycle(&self, nor: &mut Nor<UNIT>) -> Result<(), Stop> {
        let torn = nor.torn().expect("a power cut");
        for slot in self.layout.slots {
            let start = slot.start as usize;
            let bytes = &nor.bytes_mut()[start..][..LEN];
            let Ok(header) = Header::decode(bytes.try_into().unwrap()) else {
                continue;
            };
            // Only an erasure that has just begun may leave a header without its policy.
            let block = slot.block_at(slot.start).unwrap();
            let start = self.layout.place(&slot).policy_start() as usize;
            let policy = &nor.bytes_mut()[start..][..header.length as usize];
            if Header::new(1, policy).crc != header.crc && torn != block {
                return Err(Stop::Wrong("a header says that there is a policy"));
            }
            if torn == block {
                // The marks of a rejected policy may be gone.
                self.trials.set(0);
            }
        }
        nor.power_on();
        Ok(())
    }

    /// A cut after `first` steps of the update, and one after `second` steps of the recovery from it. Returns whether the first one
    /// hit an erasure.
    fn cut_twice(&self, mut nor: Nor<UNIT>, first: u64, second: u64) -> Result<bool, Stop> {
        self.trials.set(0);
        nor.cut_after(first);
        cut(self.live(&mut nor))?;
        let erasing = nor.torn().is_some_and(|torn| torn.len() > STAGE);
        self.cycle(&mut nor)?;
        let mut once = nor.clone();
        let trials = self.trials.get();
        self.recover(&mut once, false)?;
        self.trials.set(trials);
        nor.cut_after(second % (once.steps() - nor.steps()));
        cut(self.recover(&mut nor, false))?;
        self.cycle(&mut nor)?;
        self.recover(&mut nor, true)?;
        Ok(erasing)
    }
}

/// What has to end with a power cut.
fn cut(end: Result<(), Stop>) -> Result<(), Stop> {
    match end {
        Err(Stop::Off) => Ok(()),
        Ok(()) => Err(Stop::Wrong("the power did not fail")),
        wrong => wrong,
    }
}

/// A cut that left a device worse than before.
#[derive(Debug)]
#[expect(dead_code, reason = "to be printed")]
struct Failure {
    start: Start,
    update: Update,
    seed: u64,
    cuts: [u64; 2],
    what: Stop,
}

/// Cuts the power at every step of updates from every start, and again at a random step of each recovery. Returns the number of first
/// cuts.
fn exhaust<const UNIT: usize>(
    layout: Layout,
    seeds: core::ops::Range<u64>,
) -> Result<u64, Failure> {
    let mut cuts = 0;
    for seed in seeds {
        for (start, update) in STARTS
            .into_iter()
            .flat_map(|start| [(start, Update::Good), (start, Update::Bad)])
        {
            let failure = |cuts, what| Failure {
                start,
                update,
                seed,
                cuts,
                what,
            };
            let bench = Bench::<UNIT>::new(layout, start, update);
            let nor = bench.flash(start, seed);
            let mut uncut = nor.clone();
            bench
                .live(&mut uncut)
                .map_err(|what| failure([u64::MAX; 2], what))?;
            let mut random = seed;
            for first in 0..uncut.steps() - nor.steps() {
                // There are few erasures, and many ways to leave a block.
                for _ in 0..ERASURES {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    let second = random >> 33;
                    let erasing = bench
                        .cut_twice(nor.reseeded(random), first, second)
                        .map_err(|what| failure([first, second], what))?;
                    cuts += 1;
                    if !erasing {
                        break;
                    }
                }
            }
        }
    }
    Ok(cuts)
}

#[track_caller]
fn survives<const UNIT: usize>(layout: Layout, seeds: core::ops::Range<u64>) {
    match exhaust::<UNIT>(layout, seeds) {
        Ok(cuts) => println!("{cuts} cuts, as many again in the recovery"),
        Err(failure) => panic!("{failure:?}"),
    }
}

/// Rounds, each with other remains of every cut.
const SEEDS: core::ops::Range<u64> = 0..1;

/// Times that the power fails in one and the same erasure.
const ERASURES: usize = 128;

/// Bytes that an upload writes at most at once.
const STAGE: usize = 256;

#[test]
fn stm32f446_survives_power_cuts() {
    survives::<4>(F446, SEEDS);
}

#[test]
fn stm32f405_survives_power_cuts() {
    survives::<4>(F405, SEEDS);
}

#[test]
fn stm32h743_survives_power_cuts() {
    survives::<32>(H743, SEEDS);
}

#[test]
fn nrf52840_survives_power_cuts() {
    survives::<4>(NRF52840, SEEDS);
}

#[test]
fn rp2040_survives_power_cuts() {
    survives::<256>(RP2040, SEEDS);
}

/// What the documents quote: `cargo test -p dt-device --lib -- --ignored --nocapture`.
#[test]
#[ignore = "a minute: cargo xtask test --long"]
fn all_survive_many_power_cuts() {
    const MANY: core::ops::Range<u64> = 1..9;
    survives::<4>(F446, MANY);
    survives::<4>(F405, MANY);
    survives::<32>(H743, MANY);
    survives::<4>(NRF52840, MANY);
    survives::<256>(RP2040, MANY);
}

#[test]
fn every_mistake_is_found() {
    for plant in [
        Plant::HeaderFirst,
        Plant::HeaderErasedLast,
        Plant::RunningSlot,
        Plant::NoPolicyCheck,
        Plant::NoTrialMark,
        Plant::UpdateOnTrial,
        Plant::SameSequence,
        Plant::UnreadableIsErased,
    ] {
        PLANTED.set(Some(plant));
        let found = (0..8).find_map(|seed| {
            let seeds = seed..seed + 1;
            [
                exhaust::<4>(F405, seeds.clone()),
                exhaust::<32>(H743, seeds),
            ]
            .into_iter()
            .find_map(Result::err)
        });
        let found = found.unwrap_or_else(|| panic!("nothing shows {plant:?}"));
        println!("{plant:?}: {found:?}");
    }
}
