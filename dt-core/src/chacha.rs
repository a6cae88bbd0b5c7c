//! Random numbers of sampled actions: ChaCha with 8 rounds (Bernstein 2008).
//!
//! The number of a timestep is a word of the key stream, so it does not depend on how many were drawn before it: what a
//! policy did at some step can be repeated without what led to it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::slices::copy;

/// The stream (nonce). Initial states of `host-sim` are drawn with the same key from stream 0, and chance must not give an
/// action the bits that it gave a state.
const STREAM: u64 = 1;

/// The random number of an episode's timestep: word `timestep` of the key stream of `seed`, which fills the first eight
/// bytes of the key (little-endian; the others are 0).
pub fn draw(seed: u64, timestep: u32) -> u32 {
    let mut key = [0; 32];
    copy(&seed.to_le_bytes(), &mut key);
    // Made anew, because 34 words are more to keep than they are to make: nothing is drawn but this.
    let mut random = ChaCha8Rng::from_seed(key);
    random.set_stream(STREAM);
    random.set_word_pos(timestep.into());
    random.next_u32()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's examples, which the NumPy emulator computes by itself; in the order of nobody's stream.
    #[test]
    fn draws_of_the_specification() {
        let draws = [(7, 16), (0, 0), (7, 0), (0, 1)].map(|(seed, t)| draw(seed, t));
        assert_eq!(draws, [0xcb41_9bcf, 0xb34b_8f2b, 0x287e_548e, 0xca06_8379]);
        assert_ne!(
            draw(7, u32::MAX),
            draw(7, 15),
            "the counter has more than 28 bits"
        );
        assert_ne!(
            draw(1 << 32, 0),
            draw(0, 0),
            "the seed has more than 32 bits"
        );
    }

    /// What the environment of an episode draws with the same seed is something else.
    #[test]
    fn draws_are_not_those_of_initial_states() {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&7u64.to_le_bytes());
        let mut states = ChaCha8Rng::from_seed(key);
        assert!((0..100).all(|timestep| draw(7, timestep) != states.next_u32()));
    }
}
