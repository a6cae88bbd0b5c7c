//! What command lines say: results on stdout, and why there are none.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// Writes `text` to stdout. That nobody reads it any more, as in `dt-train inspect … | head`, keeps nobody from what is
/// still to do, such as writing the same to a file.
///
/// # Errors
/// Any other of stdout's.
pub fn print(text: impl fmt::Display) -> io::Result<()> {
    print_to(&mut io::stdout(), text)
}

/// [`print()`] of a line.
///
/// # Errors
/// As there.
pub fn line(text: impl fmt::Display) -> io::Result<()> {
    print(format_args!("{text}\n"))
}

fn print_to(out: &mut dyn Write, text: impl fmt::Display) -> io::Result<()> {
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// An error and its causes in one line, outermost first. What an error says of its cause itself is not said again.
pub fn message(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = error.source();
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("cannot read a.toml: {source}; give a file")]
        Says { source: io::Error },
        #[error("cannot write a.toml")]
        Silent { source: io::Error },
    }

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::other("disk on fire");
        let says = anyhow::Error::from(Failure::Says { source: cause() });
        assert_eq!(
            message(says.context("no recipe").as_ref()),
            "no recipe: cannot read a.toml: disk on fire; give a file"
        );
        let silent = Failure::Silent { source: cause() };
        assert_eq!(message(&silent), "cannot write a.toml: disk on fire");
    }

    #[test]
    fn only_a_reader_who_is_gone_does_not_matter() {
        struct Fails(io::ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let print = |kind| print_to(&mut Fails(kind), "text");
        print(io::ErrorKind::BrokenPipe).unwrap();
        assert_eq!(
            print(io::ErrorKind::StorageFull).unwrap_err().kind(),
            io::ErrorKind::StorageFull
        );
    }
}
