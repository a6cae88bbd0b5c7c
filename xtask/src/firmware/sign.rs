//! `cargo xtask firmware keygen` and `sign`: who may give devices a policy.
//!
//! A key file holds the secret key, 32 bytes in hexadecimal. A seal is a slot's header (`dt-device/SLOTS.md`): length, checksum,
//! SHA-256, sequence number and signature of one policy file.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf, absolute};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use dt_core::Blob;
use dt_device::slots::{self, Header};

use crate::process::project;

/// Where the key goes.
#[derive(Args)]
pub struct Keygen {
    /// The file to write the secret key to: outside of the project, so that nobody commits it
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// What to sign, and with what.
#[derive(Args)]
pub struct Sign {
    /// The policy file
    policy: PathBuf,
    /// The secret key, from `keygen`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Counts up with every policy of this key; devices refuse what is not newer than what they run
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    sequence: u32,
    /// The seal [default: F.seal beside F.dtb]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Overwrite the seal
    #[arg(long)]
    force: bool,
}

/// Writes a new secret key, and prints the public one as an image takes it.
///
/// # Errors
/// If the file exists, lies in the project or cannot be written.
pub fn keygen(arguments: &Keygen) -> Result<()> {
    let path = &arguments.out;
    ensure!(
        !absolute(path)?.starts_with(project()),
        "--out: {} lies in the project, where it might be committed: choose a folder that only you read",
        path.display()
    );
    let mut secret = [0; 32];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| {
            format!(
                "--out: cannot make {} (a key is never overwritten)",
                path.display()
            )
        })?;
    writeln!(file, "{}", hexadecimal(&secret))
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("public key: {}", hexadecimal(&slots::public_key(&secret)));
    println!(
        "images of firmware/boards run only what it has signed if built with DT_PUBLIC_KEY set to that; other programs: Trust::Key {{ public: {:?}, oldest: 1 }}",
        slots::public_key(&secret)
    );
    Ok(())
}

/// The header that [`sign`] wrote for this policy file.
///
/// # Errors
/// If it cannot be read, is none, or is another file's.
pub fn seal(path: &Path, policy: &[u8]) -> Result<Header> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("--seal: cannot read {name}"))?;
    let header = <&[u8; slots::LEN]>::try_from(&bytes[..])
        .ok()
        .and_then(|bytes| Header::decode(bytes).ok())
        .with_context(|| {
            format!("--seal: {name} is no seal; sign the policy: cargo xtask firmware sign")
        })?;
    let own = Header::new(1, policy);
    ensure!(
        (header.crc, header.length) == (own.crc, own.length),
        "--seal: {name} is another policy's; sign this one: cargo xtask firmware sign"
    );
    Ok(header)
}

/// Signs a policy file and writes the seal.
///
/// # Errors
/// If the policy or the key cannot be used or the seal cannot be written.
pub fn sign(arguments: &Sign) -> Result<()> {
    let Sign {
        policy: path,
        key,
        sequence,
        ..
    } = arguments;
    let secret = secret(key)?;
    let file = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    // Files are used in place, at an alignment that a vector of bytes need not have.
    let mut words = vec![0u128; file.len().div_ceil(16)];
    bytemuck::cast_slice_mut(&mut words)[..file.len()].copy_from_slice(&file);
    let blob = Blob::parse(bytemuck::cast_slice(&words))
        .with_context(|| format!("{} is no policy", path.display()))?;
    ensure!(
        blob.file_len() == file.len(),
        "{} has {} bytes after the policy: export it again",
        path.display(),
        file.len() - blob.file_len()
    );
    let header = Header::sealed(&file, &slots::sign(&secret, *sequence, &file));
    let default = path.with_extension("seal");
    let out = arguments.out.as_ref().unwrap_or(&default);
    if out.exists() && !arguments.force {
        bail!(
            "{} exists: choose another --out, or add --force",
            out.display()
        );
    }
    fs::write(out, header.encode()).with_context(|| format!("cannot write {}", out.display()))?;
    println!(
        "{}: number {sequence}, signed with the key {}",
        out.display(),
        hexadecimal(&slots::public_key(&secret))
    );
    Ok(())
}

/// The key in a file.
fn secret(path: &Path) -> Result<[u8; 32]> {
    let text = fs::read_to_string(path).with_context(|| {
        format!(
            "--key: cannot read {} (`cargo xtask firmware keygen` makes one)",
            path.display()
        )
    })?;
    let digits: Option<Vec<u32>> = text.trim().chars().map(|c| c.to_digit(16)).collect();
    let bytes = digits.map(|digits| {
        let pairs = digits.chunks(2);
        pairs
            .map(|pair| pair.iter().fold(0, |byte, digit| 16 * byte + digit) as u8)
            .collect::<Vec<_>>()
    });
    bytes
        .filter(|_| text.trim().len() == 64)
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| {
            format!(
                "--key: {} is no key: 64 hexadecimal digits, as `cargo xtask firmware keygen` writes them",
                path.display()
            )
        })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(policy: &Path, key: &Path, sequence: u32) -> Sign {
        Sign {
            policy: policy.into(),
            key: key.into(),
            sequence,
            out: None,
            force: false,
        }
    }

    #[test]
    fn a_policy_is_signed_with_a_new_key() {
        let folder = tempfile::tempdir().unwrap();
        let [key, policy] = ["robot.key", "p.dtb"].map(|name| folder.path().join(name));
        let keygen_at = |out: &Path| keygen(&Keygen { out: out.into() });
        keygen_at(&key).unwrap();
        let before = fs::read(&key).unwrap();
        let error = keygen_at(&key).unwrap_err().to_string();
        assert!(error.contains("a key is never overwritten"), "{error}");
        assert_eq!(fs::read(&key).unwrap(), before);
        let error = keygen_at(&project().join("robot.key")).unwrap_err();
        assert!(error.to_string().contains("lies in the project"), "{error}");

        let example = project().join("dt-core/examples/pendulum.dtb");
        fs::copy(example, &policy).unwrap();
        sign(&arguments(&policy, &key, 7)).unwrap();
        let seal = fs::read(folder.path().join("p.seal")).unwrap();
        let header = Header::decode(&seal[..].try_into().unwrap()).unwrap();
        let file = fs::read(&policy).unwrap();
        let expected = slots::sign(&secret(&key).unwrap(), 7, &file);
        assert_eq!(header, Header::sealed(&file, &expected));
        let error = sign(&arguments(&policy, &key, 8)).unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
    }

    #[test]
    fn what_is_no_key_or_no_policy_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let [key, policy] = ["robot.key", "p.dtb"].map(|name| folder.path().join(name));
        let refused = |expected: &str| {
            let error = format!("{:#}", sign(&arguments(&policy, &key, 1)).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        refused("cannot read");
        for text in ["", "12", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64)] {
            fs::write(&key, text).unwrap();
            refused("is no key");
        }
        fs::write(&key, "0".repeat(64)).unwrap();
        refused("p.dtb");
        fs::write(&policy, [0; 99]).unwrap();
        refused("is no policy");
        let mut file = fs::read(project().join("dt-core/examples/pendulum.dtb")).unwrap();
        file.push(0);
        fs::write(&policy, file).unwrap();
        refused("1 bytes after the policy");
    }
}
