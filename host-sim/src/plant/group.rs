//! Processes with everything that they start, and their end with this program's.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// The groups that there are, by their first process.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process and what it has started: a shell's simulator, a launcher's workers. Ends with this value.
#[derive(Debug)]
pub struct Group {
    first: Child,
    pid: Pid,
}

impl Group {
    /// Starts it. What ends this program from outside, such as Ctrl-C, does not reach a group of its own, so that it is passed on
    /// from here.
    ///
    /// # Errors
    /// The operating system's.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        pass_signals_on();
        // A signal that comes meanwhile waits until it is known whom to end.
        let mut groups = groups();
        let first = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&first);
        groups.push(pid);
        Ok(Self { first, pid })
    }

    /// The first process, for its streams.
    pub fn first(&mut self) -> &mut Child {
        &mut self.first
    }

    /// Ends all of it, if the first process does not end by itself before `until`; its status if it does.
    pub fn end(&mut self, until: Instant) -> Option<ExitStatus> {
        let died = self.has_ended(until);
        // Before the first process is waited for: until then its number is nobody else's.
        let _ = kill_process_group(self.pid, Signal::KILL);
        groups().retain(|group| *group != self.pid);
        self.first.wait().ok().filter(|_| died)
    }

    fn has_ended(&self, until: Instant) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        loop {
            let ended = !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None));
            if ended || Instant::now() > until {
                return ended;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if groups().contains(&self.pid) {
            self.end(Instant::now());
        }
    }
}

/// Ends all there are.
pub fn kill_all() {
    kill(&groups());
}

fn kill(groups: &[Pid]) {
    for &group in groups {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Lets signals that end this program end all groups, too.
fn pass_signals_on() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Without it, plants that do not read their stdin stay: no reason to do nothing.
        let Ok(mut signals) = Signals::new([SIGHUP, SIGINT, SIGTERM]) else {
            return;
        };
        thread::spawn(move || {
            for signal in signals.forever() {
                // Held to the end: nothing is started any more.
                let groups = groups();
                kill(&groups);
                let _ = emulate_default_handler(signal);
            }
        });
    });
}
