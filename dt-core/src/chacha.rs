//! Random numbers of sampled actions: ChaCha with 8 rounds (Bernstein 2008), a block at a time.
//!
//! The number of a timestep is a word of the key stream, so it does not depend on how many were drawn before it: what a
//! policy did at some step can be repeated without what led to it. `rand_chacha` gives the same words, and is what the
//! tests compare with; but it computes four blocks ahead and keeps them, which is what someone wants who draws many.

use crate::slices::Guaranteed;

/// "expand 32-byte k".
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// The stream (nonce). Initial states of `host-sim` are drawn with the same key from stream 0, and chance must not give an
/// action the bits that it gave a state.
const STREAM: u32 = 1;

/// Rounds come in pairs, over columns and over diagonals.
const DOUBLE_ROUNDS: usize = 4;

/// The random number of an episode's timestep: word `timestep` of the key stream of `seed`, which fills the first eight
/// bytes of the key (little-endian; the others are 0).
pub fn draw(seed: u64, timestep: u32) -> u32 {
    let [low, high] = [seed as u32, (seed >> 32) as u32];
    let input = [
        CONSTANTS,
        [low, high, 0, 0],
        [0; 4],
        [timestep / 16, 0, STREAM, 0],
    ];
    let mut rows = input;
    for _ in 0..DOUBLE_ROUNDS {
        quarter_rounds(&mut rows);
        let [a, [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] = rows;
        rows = [a, [b1, b2, b3, b0], [c2, c3, c0, c1], [d3, d0, d1, d2]];
        quarter_rounds(&mut rows);
        let [a, [b1, b2, b3, b0], [c2, c3, c0, c1], [d3, d0, d1, d2]] = rows;
        rows = [a, [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]];
    }
    let word = (timestep % 16) as usize;
    let of = |block: &[[u32; 4]; 4]| block.as_flattened().get(word).copied().guaranteed();
    of(&rows).wrapping_add(of(&input))
}

/// One for each column.
#[inline(never)]
fn quarter_rounds([a, b, c, d]: &mut [[u32; 4]; 4]) {
    for (((a, b), c), d) in a.iter_mut().zip(b).zip(c).zip(d) {
        *a = a.wrapping_add(*b);
        *d = (*d ^ *a).rotate_left(16);
        *c = c.wrapping_add(*d);
        *b = (*b ^ *c).rotate_left(12);
        *a = a.wrapping_add(*b);
        *d = (*d ^ *a).rotate_left(8);
        *c = c.wrapping_add(*d);
        *b = (*b ^ *c).rotate_left(7);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    fn reference(seed: u64, stream: u64) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let mut random = ChaCha8Rng::from_seed(key);
        random.set_stream(stream);
        random
    }

    #[test]
    fn draws_are_the_words_of_rand_chacha_in_any_order() {
        for seed in [0, 1, 7, 1 << 40, 0x0123_4567_89ab_cdef, u64::MAX] {
            let mut random = reference(seed, 1);
            for timestep in 0..100 {
                assert_eq!(draw(seed, timestep), random.next_u32(), "{seed} {timestep}");
            }
            for timestep in [u32::MAX, 1 << 31, 65_536, 3] {
                random.set_word_pos(timestep.into());
                assert_eq!(draw(seed, timestep), random.next_u32(), "{seed} {timestep}");
            }
        }
    }

    /// What the environment of an episode draws with the same seed is something else.
    #[test]
    fn draws_are_not_those_of_initial_states() {
        let mut states = reference(7, 0);
        assert!((0..100).all(|timestep| draw(7, timestep) != states.next_u32()));
    }

    /// The specification's example.
    #[test]
    fn draws_of_the_specification() {
        let draws = [(0, 0), (0, 1), (7, 0), (7, 16)].map(|(seed, t)| draw(seed, t));
        assert_eq!(draws, [0xb34b_8f2b, 0xca06_8379, 0x287e_548e, 0xcb41_9bcf]);
    }
}
