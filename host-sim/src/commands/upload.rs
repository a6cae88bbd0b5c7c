//! `host-sim upload`: another policy for a controller, without touching its program.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use dt_device::slots::{Header, LEN};
use dt_link::{Bytes, PolicyId, Seal};
use host_sim::link::{Client, Connection, LinkError, Place};
use host_sim::policy_file::PolicyFile;
use host_sim::{console, progress};
use serde_json::json;

/// Arguments of `host-sim upload`.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Policy file, as `dt-train export` writes it
    #[arg(value_name = "F.dtb")]
    policy: PathBuf,
    /// The controller: serial:DEV[@BAUD], DEV being a serial device, a pseudo-terminal or a Unix socket
    #[arg(value_name = "WHERE")]
    place: Place,
    /// The policy's signature, for controllers that take no policy without: `cargo xtask firmware sign`
    #[arg(long, value_name = "F.seal")]
    seal: Option<PathBuf>,
}

/// Longest time from a restart until the controller answers again, its self-test included.
const RESTART: Duration = Duration::from_secs(60);

/// Runs the command.
///
/// # Errors
/// Unusable files, a controller that does not answer or refuses, a policy that does not run there.
pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(
        matches!(args.place, Place::Serial { .. }),
        "{}: an emulated board has the policy in its image, and ends with this command; build the image with `cargo xtask firmware build --bin robot --policy F.dtb`",
        args.place
    );
    let policy = PolicyFile::load(&args.policy)?;
    let id = PolicyId {
        crc: policy.crc(),
        len: policy.bytes().len() as u32,
    };
    let seal = args
        .seal
        .as_deref()
        .map(|path| seal(path, id))
        .transpose()?;
    let mut client = Client::new(Connection::open(&args.place)?)?;
    let (config, greeting) = (policy.blob().manifest().config, client.greeting());
    let dims = (config.state_dim, config.action_len());
    let robot = (u32::from(greeting.state_dim), u32::from(greeting.act_dim));
    ensure!(
        dims == robot,
        "{}: the policy has states of length {} and actions of length {}, the robot {} and {}; send one that was trained for this robot",
        args.policy.display(),
        dims.0,
        dims.1,
        robot.0,
        robot.1
    );
    let sent = greeting.policy != id;
    if sent {
        let bar = progress::upload(policy.bytes().len() as u64);
        let seal = seal.as_ref().map(|header| Seal {
            sequence: header.sequence,
            sha256: Bytes(&header.sha256),
            signature: Bytes(&header.signature),
        });
        client.upload(policy.bytes(), id, seal, |done, _| {
            bar.set_position(done as u64);
        })?;
        bar.finish_and_clear();
        client.restart()?;
        drop(client);
        client = again(&args.place)?;
    }
    let greeting = client.greeting();
    ensure!(
        greeting.policy == id,
        "{}: the board runs policy {} after its restart, not {id}: the new one has failed its self-test there, as the board's log says",
        args.place,
        greeting.policy
    );
    if sent {
        eprintln!(
            "The policy is on trial: it stays once it has acted for a while (100 ticks in a row), or else gives way to the one before at the fourth boot."
        );
    }
    console::line(json!({
        "board": greeting.board,
        "policy": format!("{:08x}", id.crc),
        "bytes": id.len,
        "sent": sent,
    }))?;
    Ok(())
}

/// The header that `cargo xtask firmware sign` wrote for this policy.
fn seal(path: &Path, policy: PolicyId) -> anyhow::Result<Header> {
    let name = path.display();
    let bytes = fs::read(path).with_context(|| format!("--seal: cannot read {name}"))?;
    let bytes: [u8; LEN] = bytes
        .try_into()
        .ok()
        .with_context(|| format!("--seal: {name} does not have {LEN} bytes; sign the policy again: cargo xtask firmware sign"))?;
    let header = Header::decode(&bytes).with_context(|| {
        format!("--seal: {name} is no seal; sign the policy: cargo xtask firmware sign")
    })?;
    let of = PolicyId {
        crc: header.crc,
        len: header.length,
    };
    ensure!(
        of == policy,
        "--seal: {name} is of policy {of}, not {policy}; sign this one: cargo xtask firmware sign"
    );
    Ok(header)
}

/// Who answers there after a restart.
fn again(place: &Place) -> Result<Client, LinkError> {
    let begin = Instant::now();
    loop {
        // A board on USB is gone for a moment.
        match Connection::open(place).and_then(Client::new) {
            Err(LinkError::Open { .. } | LinkError::Wire { .. } | LinkError::Silent { .. })
                if begin.elapsed() < RESTART =>
            {
                sleep(Duration::from_millis(100));
            }
            done => return done,
        }
    }
}
