//! One error for all that can go wrong on the way from a policy file to an action.

use core::fmt;

use crate::blob::BlobError;
use crate::config::ConfigError;
use crate::engine::ArenaTooSmall;
use crate::golden::SelfTestError;
use crate::guard::Fault;
use crate::policy::ActError;
use crate::quant::NonFinite;

/// Any error of this crate, for `?`: each operation's own error converts into it and stays in it, as
/// [`source`](core::error::Error::source) too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Error {
    /// The policy file is not usable.
    Blob(BlobError),
    /// The memory is not enough for it.
    Arena(ArenaTooSmall),
    /// It does not compute what it computed when it was exported.
    SelfTest(SelfTestError),
    /// A control step was refused or failed.
    Act(ActError),
    /// The guard has latched.
    Fault(Fault),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(error) => write!(f, "policy file: {error}"),
            Self::Arena(error) => error.fmt(f),
            Self::SelfTest(error) => write!(f, "self-test failed: {error}"),
            Self::Act(error) => error.fmt(f),
            Self::Fault(fault) => write!(f, "fault: {fault}"),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(match self {
            Self::Blob(error) => error,
            Self::Arena(error) => error,
            Self::SelfTest(error) => error,
            Self::Act(error) => error,
            Self::Fault(fault) => fault,
        })
    }
}

impl From<BlobError> for Error {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::Blob(BlobError::Config(error))
    }
}

impl From<ArenaTooSmall> for Error {
    fn from(error: ArenaTooSmall) -> Self {
        Self::Arena(error)
    }
}

impl From<SelfTestError> for Error {
    fn from(error: SelfTestError) -> Self {
        Self::SelfTest(error)
    }
}

impl From<ActError> for Error {
    fn from(error: ActError) -> Self {
        Self::Act(error)
    }
}

impl From<NonFinite> for Error {
    fn from(error: NonFinite) -> Self {
        Self::Act(error.into())
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

#[cfg(test)]
mod tests {
    use core::error::Error as _;

    use super::*;
    use crate::blob::Blob;
    use crate::fixture::{Fixture, arena, bytes, config};
    use crate::golden;
    use crate::guard::Guard;
    use crate::policy::Policy;

    /// What a firmware does until its loop, with `?` alone.
    fn begin(file: &[u8], words: usize, target_return: f32) -> Result<(), Error> {
        config().validate()?;
        let blob = Blob::parse(file)?;
        let mut policy = Policy::new(&blob, vec![0; words])?;
        Guard::new(&blob).restart(&mut policy, target_return)?;
        let mut guard = Guard::new(&blob);
        guard
            .step(&mut policy, &[0.0, 99.0, 0.0])
            .fault
            .map_or(Ok(()), Err)?;
        golden::check(&mut policy, &blob)?;
        Ok(())
    }

    #[test]
    fn every_step_has_its_error() {
        let file = Fixture::new(config(), 1).emit().unwrap();
        let (file, words) = (bytes(&file), arena(&config()).len());
        let needed = words;
        for (result, expected, text) in [
            (
                begin(&file[..16], words, 0.0),
                Error::Blob(BlobError::Truncated {
                    needed: 24,
                    have: 16,
                }),
                "policy file: truncated: 16 bytes of 24; copy the file again",
            ),
            (
                begin(file, 7, 0.0),
                Error::Arena(ArenaTooSmall { needed, have: 7 }),
                "",
            ),
            (
                begin(file, words, f32::NAN),
                Error::Act(ActError::Return),
                "",
            ),
            (
                begin(file, words, 0.0),
                Error::Fault(Fault::OutOfRange { index: 1 }),
                "fault: component 1 of the observation is out of range",
            ),
        ] {
            let error = result.unwrap_err();
            assert_eq!(error, expected);
            assert!(text.is_empty() || error.to_string() == text, "{error}");
            assert!(
                error
                    .to_string()
                    .ends_with(&error.source().unwrap().to_string())
            );
        }
        assert_eq!(Error::from(NonFinite), Error::Act(ActError::NonFinite));
        assert_eq!(
            Error::from(SelfTestError::Empty).to_string(),
            "self-test failed: the policy holds no golden vectors"
        );
    }
}
