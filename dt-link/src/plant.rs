//! The plant protocol: a host that asks, a simulator in a process of its own that answers. The frames are the link's, as
//! long as they have to be; `PLANT.md` beside this crate specifies the protocol by the byte.
//!
//! Each question has one answer, in order, with the question's sequence number; the session is 0 throughout. Several
//! questions may be on their way at once, so one process can step several environments as a batch.

use serde::{Deserialize, Serialize};

use crate::message::{Bytes, Values};

/// Version of the protocol.
pub const VERSION: u16 = 1;

/// From the host to the plant.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToPlant<'a> {
    /// The first question. Answer: [`FromPlant::Hello`].
    Hello {
        /// [`VERSION`].
        version: u16,
    },
    /// Begins an episode. Answer: [`FromPlant::State`], its reward 0.
    Reset {
        /// Of the process's environments, from 0.
        env: u32,
        /// The same seed gives the same episode.
        seed: u64,
    },
    /// Applies an action for one control period. Answer: [`FromPlant::State`].
    Step {
        /// Of the process's environments.
        env: u32,
        /// The components of a vector, or the index of a choice.
        #[serde(borrow)]
        action: Values<'a>,
    },
    /// Asks for a picture of the present state. Answer: [`FromPlant::Picture`].
    Render {
        /// Of the process's environments.
        env: u32,
    },
    /// Begins an episode in a given state. Answer: [`FromPlant::State`], its reward 0.
    SetState {
        /// Of the process's environments.
        env: u32,
        /// Generalized positions.
        #[serde(borrow)]
        qpos: Doubles<'a>,
        /// Generalized velocities.
        #[serde(borrow)]
        qvel: Doubles<'a>,
    },
}

/// From the plant to the host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromPlant<'a> {
    /// Who is there.
    Hello(#[serde(borrow)] Hello<'a>),
    /// How an environment is now.
    State {
        /// Which.
        env: u32,
        /// What there is to see.
        #[serde(borrow)]
        observation: Numbers<'a>,
        /// Of the last step.
        reward: f64,
        /// The task ended with it.
        terminated: bool,
        /// The time limit was reached with it.
        truncated: bool,
    },
    /// What an environment looks like.
    Picture {
        /// Which.
        env: u32,
        /// Pixels of a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Rows of red, green, blue.
        #[serde(borrow)]
        rgb: Bytes<'a>,
    },
    /// It could not do what was asked; an episode that ran in that environment is over.
    Error {
        /// Why not.
        text: &'a str,
    },
}

/// What a plant says of itself. What all its environments have in common.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// [`VERSION`]. First in every version to come.
    pub version: u16,
    /// What it is called.
    pub name: &'a str,
    /// Environments that one process can hold.
    pub envs: u32,
    /// What can be seen.
    #[serde(borrow)]
    pub observation: Space<'a>,
    /// What can be done.
    #[serde(borrow)]
    pub action: Space<'a>,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: u32,
    /// Simulated time of a step, in µs.
    pub control_period_us: u32,
    /// Returns of a random and an expert agent, if anyone knows them.
    pub score_range: Option<(f64, f64)>,
    /// Names of an observation's components, one a line; empty where they have none.
    pub observation_names: &'a str,
    /// Names of an action's components, or of the choices, one a line; empty where they have none.
    pub action_names: &'a str,
}

/// What an observation or an action can be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Space<'a> {
    /// Vectors of numbers between bounds, of which some may be infinite.
    Box {
        /// Lowest value of each component.
        #[serde(borrow)]
        low: Values<'a>,
        /// Highest, as many.
        #[serde(borrow)]
        high: Values<'a>,
    },
    /// One of several choices.
    Discrete {
        /// How many.
        n: u32,
    },
    /// Pixels of 0 to 255, row by row, the channels of a pixel one after the other.
    Image {
        /// Rows.
        height: u32,
        /// Pixels of a row.
        width: u32,
        /// Values of a pixel.
        channels: u32,
    },
}

/// An observation's numbers, in the precision that the plant has. Two of these are equal if all bits are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Numbers<'a> {
    /// Single precision.
    F32(#[serde(borrow)] Values<'a>),
    /// Double precision.
    F64(#[serde(borrow)] Doubles<'a>),
    /// Pixels, or small whole numbers.
    U8(#[serde(borrow)] Bytes<'a>),
}

impl<'a> Numbers<'a> {
    /// How many; `None` if the bytes are no whole numbers.
    pub fn len(&self) -> Option<usize> {
        match self {
            Self::F32(values) => values.len(),
            Self::F64(values) => values.len(),
            Self::U8(bytes) => Some(bytes.0.len()),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// Numbers of double precision, borrowed: on the wire bytes with their number before them, eight to a number, as IEEE
/// 754's binary64, little-endian. Equal if all bits are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubles<'a>(#[serde(borrow)] Bytes<'a>);

impl<'a> Doubles<'a> {
    /// These numbers.
    pub fn new(values: &'a [f64]) -> Self {
        Self(Bytes(bytemuck::cast_slice(values)))
    }

    /// How many; `None` if the bytes are no whole numbers.
    pub fn len(&self) -> Option<usize> {
        let bytes = self.0.0.len();
        bytes.is_multiple_of(8).then_some(bytes / 8)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.0.is_empty()
    }

    /// The numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = f64> + use<'a> {
        let (values, _) = self.0.0.as_chunks::<8>();
        values.iter().map(|bytes| f64::from_le_bytes(*bytes))
    }
}
