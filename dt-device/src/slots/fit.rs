//! Whether a policy file is one for this robot.

use core::fmt;

use dt_core::blob::{Blob, BlobError};

/// What an image can run: constants of the robot that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// Length of an observation.
    pub state_dim: usize,
    /// Length of an action outside the network.
    pub action_len: usize,
    /// 32-bit words of memory for the policy.
    pub arena_words: usize,
}

/// Why a policy file cannot run in this image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Unfit {
    /// It is no usable policy file.
    Blob(BlobError),
    /// It is for a robot with other dimensions.
    Dimensions {
        /// The policy's state_dim and length of an action.
        policy: (usize, usize),
        /// The robot's.
        robot: (usize, usize),
    },
    /// It needs more memory than the image has set aside.
    Arena {
        /// Words it needs.
        needed: usize,
        /// Words there are.
        have: usize,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(error) => write!(f, "policy file: {error}"),
            Self::Dimensions { policy, robot } => write!(
                f,
                "the policy has states of length {} and actions of length {}, the robot {} and {}; send one that was trained for this robot",
                policy.0, policy.1, robot.0, robot.1
            ),
            Self::Arena { needed, have } => write!(
                f,
                "the policy needs {needed} words of memory, the image has {have}; export it as int8 or int4, or build the image with ARENA_WORDS = {needed}"
            ),
        }
    }
}

impl core::error::Error for Unfit {}

impl Fit {
    /// Parses a policy file in place and compares what it needs.
    ///
    /// # Errors
    /// [`Unfit`] names the first thing that does not fit.
    pub fn check<'a>(&self, file: &'a [u8]) -> Result<Blob<'a>, Unfit> {
        let blob = Blob::parse(file).map_err(Unfit::Blob)?;
        let config = &blob.manifest().config;
        let policy = (config.state_dim as usize, config.action_len() as usize);
        let robot = (self.state_dim, self.action_len);
        if policy != robot {
            return Err(Unfit::Dimensions { policy, robot });
        }
        let (needed, have) = (config.arena_words(), self.arena_words);
        if needed > have {
            return Err(Unfit::Arena { needed, have });
        }
        Ok(blob)
    }
}
