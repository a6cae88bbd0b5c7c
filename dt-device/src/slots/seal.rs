//! Whose policies a device runs.
//!
//! A signature (Ed25519) covers the first [`SIGNED_LEN`](super::SIGNED_LEN) bytes of a slot's header, which say sequence number, length and SHA-256 of
//! the policy. So one small message is verified, and the policy is read once; a signature over the policy itself would read it twice.

use core::fmt;
use core::ops::Range;

use super::header::{Header, Seal};
use super::store::{Flash, FlashError, Store};

/// Whose policies a device runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trust {
    /// Anyone's who can reach the link. A policy's sequence number is the device's own count.
    Anyone,
    /// Only those that were signed with a key, and none that is older than the one that runs.
    #[cfg(feature = "signed")]
    Key {
        /// The public key (Ed25519).
        public: [u8; 32],
        /// The lowest sequence number that runs here. Raise it in the image to withdraw older policies for good: what a slot holds is
        /// no protection once it is lost.
        oldest: u32,
    },
}

/// Why a device does not run a policy that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Untrusted {
    /// Nobody signed it.
    Unsigned,
    /// The signature is not one of the device's key.
    Signature,
    /// It is not the policy that was signed.
    Digest,
    /// It is older than one that this device has.
    Older {
        /// Its number.
        sequence: u32,
        /// The lowest that would do.
        oldest: u32,
    },
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned => f.write_str(
                "the policy is not signed; sign it with the device's key: cargo xtask firmware sign",
            ),
            Self::Signature => f.write_str(
                "the policy was not signed with the device's key, or altered since; sign it with that key: cargo xtask firmware sign",
            ),
            Self::Digest => f.write_str("the policy is not the one that was signed; send it again"),
            Self::Older { sequence, oldest } => write!(
                f,
                "the policy's sequence number is {sequence}, and the device takes none below {oldest}; sign it with a higher one: cargo xtask firmware sign --sequence {oldest}"
            ),
        }
    }
}

impl core::error::Error for Untrusted {}

/// What can come of a check.
#[cfg_attr(
    not(feature = "signed"),
    expect(dead_code, reason = "nothing is checked then")
)]
pub(crate) enum Fault {
    Untrusted(Untrusted),
    Flash(FlashError),
}

impl Trust {
    /// The header that a policy of `length` bytes with the checksum `crc` gets, if it may be stored; `None` if there is no sequence
    /// number left. `running` is the number of the policy that runs, `newest` the highest of all.
    pub(crate) fn header(
        &self,
        (length, crc): (u32, u32),
        seal: Option<&Seal>,
        running: u32,
        newest: u32,
    ) -> Result<Option<Header>, Untrusted> {
        let header = |sequence, sha256, signature| Header {
            sequence,
            length,
            crc,
            sha256,
            signature,
        };
        match self {
            Self::Anyone => {
                let _ = (seal, running);
                let next = newest.checked_add(1);
                Ok(next.map(|sequence| header(sequence, [0; 32], [0; 64])))
            }
            #[cfg(feature = "signed")]
            Self::Key { public, oldest } => {
                let seal = seal.ok_or(Untrusted::Unsigned)?;
                let header = header(seal.sequence, seal.sha256, seal.signature);
                key::verify(public, &header)?;
                let next = running.saturating_add(1);
                let oldest = if next > *oldest { next } else { *oldest };
                not_older(&header, oldest)?;
                Ok(Some(header))
            }
        }
    }

    /// Checks the policy that lies at `policy`.
    pub(crate) fn check<F: Flash>(
        &self,
        header: &Header,
        store: &mut Store<F>,
        policy: Range<u32>,
    ) -> Result<(), Fault> {
        match self {
            Self::Anyone => {
                let _ = (header, store, policy);
                Ok(())
            }
            #[cfg(feature = "signed")]
            Self::Key { public, oldest } => {
                key::verify(public, header).map_err(Fault::Untrusted)?;
                not_older(header, *oldest).map_err(Fault::Untrusted)?;
                let mut digest = key::Digest::new();
                store
                    .each(policy, |bytes| digest.update(bytes))
                    .map_err(Fault::Flash)?;
                if digest.finalize() != header.sha256 {
                    return Err(Fault::Untrusted(Untrusted::Digest));
                }
                Ok(())
            }
        }
    }
}

#[cfg(feature = "signed")]
const fn not_older(header: &Header, oldest: u32) -> Result<(), Untrusted> {
    let sequence = header.sequence;
    if sequence < oldest {
        return Err(Untrusted::Older { sequence, oldest });
    }
    Ok(())
}

/// The public key of a secret one: any 32 random bytes.
#[cfg(feature = "signed")]
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    salty::Keypair::from(secret).public.to_bytes()
}

/// Signs a policy file. For hosts: a device needs the public key alone.
#[cfg(feature = "signed")]
pub fn sign(secret: &[u8; 32], sequence: u32, policy: &[u8]) -> Seal {
    let mut digest = key::Digest::new();
    digest.update(policy);
    let header = Header {
        sha256: digest.finalize(),
        ..Header::new(sequence, policy)
    };
    let signature = salty::Keypair::from(secret).sign(&header.signed());
    Seal {
        sequence,
        sha256: header.sha256,
        signature: signature.to_bytes(),
    }
}

#[cfg(feature = "signed")]
mod key {
    use salty::{PublicKey, Signature};
    use sha2::Digest as _;

    use super::{Header, Untrusted};

    pub fn verify(public: &[u8; 32], header: &Header) -> Result<(), Untrusted> {
        if header.signature == [0; 64] {
            return Err(Untrusted::Unsigned);
        }
        let public = PublicKey::try_from(public).map_err(|_| Untrusted::Signature)?;
        let signature = Signature::from(&header.signature);
        public
            .verify(&header.signed(), &signature)
            .map_err(|_| Untrusted::Signature)
    }

    /// SHA-256, piece by piece.
    pub struct Digest(sha2::Sha256);

    impl Digest {
        pub fn new() -> Self {
            Self(sha2::Sha256::new())
        }

        pub fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub fn finalize(self) -> [u8; 32] {
            self.0.finalize().into()
        }
    }
}
