//! How a plant is started, from its name.

use std::env;
use std::ffi::{OsStr, OsString};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::group::Group;
use super::wire::{Socket, Wire, patience};
use super::{COMMAND, GYM};

/// The Gymnasium bridge.
const BRIDGE: &str = include_str!("bridge.py");

/// The project that this program was built in.
const DEPS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.deps");

/// How to come by a plant.
#[derive(Clone, Debug, PartialEq)]
pub enum Launch {
    /// A Gymnasium environment.
    Gym {
        /// As `gymnasium.make` takes it.
        id: String,
        /// Its arguments, a JSON object.
        arguments: String,
    },
    /// A command line for a shell.
    Shell(String),
    /// Somebody who listens.
    Tcp(String),
}

impl Launch {
    /// From a name.
    pub fn new(name: &str) -> Result<Self, String> {
        if let Some(gym) = name.strip_prefix(GYM) {
            let (id, query) = gym.split_once('?').unwrap_or((gym, ""));
            if id.is_empty() {
                return Err(
                    "name a Gymnasium environment, such as gym:LunarLander-v3; what is installed says \
                     `.deps/python -c \"import gymnasium; gymnasium.pprint_registry()\"`"
                        .into(),
                );
            }
            return Ok(Self::Gym {
                id: id.into(),
                arguments: arguments(query)?,
            });
        }
        let command = name.strip_prefix(COMMAND).unwrap_or(name);
        match command.strip_prefix("tcp:") {
            Some(address) => Ok(Self::Tcp(address.into())),
            None if command.trim().is_empty() => {
                Err("give a command that starts a plant, or tcp:HOST:PORT".into())
            }
            None => Ok(Self::Shell(command.into())),
        }
    }

    /// That it can be started whoever named it: it runs nothing but what is installed, and reads no file.
    ///
    /// # Errors
    /// What it would do, and how `name` has to be given for that.
    pub fn check_harmless(&self, name: &str) -> Result<(), String> {
        match self {
            Self::Gym { id, arguments } => {
                let what = match id.rsplit_once(':') {
                    Some((module, _)) => format!("it imports the module `{module}`"),
                    None => match text_beyond_words(arguments) {
                        Some(text) => format!("`{text}` could be a file"),
                        None => return Ok(()),
                    },
                };
                Err(format!(
                    "{what}, and such a name is only taken if it is typed, not from a file: --env '{name}'"
                ))
            }
            Self::Shell(command) => Err(typed_only(command)),
            Self::Tcp(address) => Err(typed_only(&format!("tcp:{address}"))),
        }
    }

    /// Whether there is but one of it.
    pub const fn is_single(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Starts it, or connects. `name` is what the bridge is to call itself.
    pub fn start(&self, name: &str) -> Result<Wire, String> {
        let patience = patience()?;
        let mut command = match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address)
                    .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
                    .map_err(|error| {
                        format!("cannot connect to {address}: {error}; start the plant first")
                    })?;
                return Wire::new(Socket::Tcp(stream), None, patience)
                    .map_err(|error| error.to_string());
            }
            Self::Shell(line) => {
                let mut command = Command::new("sh");
                command.args(["-c", line]);
                command
            }
            Self::Gym { id, arguments } => {
                let (python, path) = python();
                let mut command = Command::new(python);
                command.args(["-c", BRIDGE, id, arguments, name]);
                command.envs(path.map(|path| ("PYTHONPATH", path)));
                command
            }
        };
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |error: std::io::Error| {
            let hint = match self {
                Self::Gym { .. } => {
                    "; run `cargo xtask setup`, or name a Python that has gymnasium by DT_PYTHON"
                }
                _ => "",
            };
            format!("cannot start {program}: {error}{hint}")
        };
        // A pair of sockets for its stdin and stdout: unlike a pipe it has a time-out.
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let end = |stream: &UnixStream| stream.try_clone().map(OwnedFd::from).map(Stdio::from);
        let stdin = end(&theirs).map_err(|error| error.to_string())?;
        command
            .stdin(stdin)
            .stdout(OwnedFd::from(theirs))
            .stderr(Stdio::piped());
        let group = Group::spawn(&mut command).map_err(failed)?;
        // Its end of the pair is closed here, so that its death is the end of ours.
        drop(command);
        Wire::new(Socket::Unix(ours), Some(group), patience).map_err(|error| error.to_string())
    }
}

fn typed_only(command: &str) -> String {
    format!("a command is only run if it is typed, not if a file names it: --plant '{command}'")
}

/// The first text in JSON that is more than a word, such as the path of a file or the name of a module's.
fn text_beyond_words(json: &str) -> Option<String> {
    fn find(value: &serde_json::Value) -> Option<&str> {
        let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        match value {
            serde_json::Value::String(text) => (!text.chars().all(is_of_word)).then_some(text),
            serde_json::Value::Array(values) => values.iter().find_map(find),
            serde_json::Value::Object(values) => values.values().find_map(find),
            _ => None,
        }
    }
    let value = serde_json::from_str(json).ok()?;
    find(&value).map(Into::into)
}

/// `KEY=VALUE&…` as a JSON object; a value is JSON, or else text.
fn arguments(query: &str) -> Result<String, String> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let object = pairs
        .map(|pair| {
            let (key, value) = pair
                .split_once('=')
                .filter(|(key, _)| !key.is_empty())
                .ok_or(format!(
                    "`{pair}` is no argument; write KEY=VALUE, e.g. --env-arg continuous=true"
                ))?;
            // As Python writes them, too.
            let value = match value {
                "True" => "true",
                "False" => "false",
                "None" => "null",
                value => value,
            };
            let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
            Ok((key.to_owned(), value))
        })
        .collect::<Result<serde_json::Map<_, serde_json::Value>, String>>()?;
    Ok(serde_json::Value::from(object).to_string())
}

/// The Python that runs the bridge: `DT_PYTHON`, the project's or the first on the path; and the `PYTHONPATH` for it, on which
/// lies what set-up has installed on request.
#[must_use]
pub fn python() -> (PathBuf, Option<OsString>) {
    let python = match env::var_os("DT_PYTHON").filter(|python| !python.is_empty()) {
        Some(python) => python.into(),
        None => {
            let project = Path::new(DEPS).join("python");
            if project.exists() {
                project
            } else {
                "python3".into()
            }
        }
    };
    (python, module_path())
}

/// Where Python finds what `cargo xtask setup --with` has installed, before what it has been told already.
fn module_path() -> Option<OsString> {
    let extras = Path::new(DEPS).join("extras").read_dir().ok()?;
    let extras = extras.filter_map(|entry| Some(entry.ok()?.path()));
    joined(extras, &env::var_os("PYTHONPATH").unwrap_or_default())
}

/// A `PYTHONPATH` of folders and another one, without its empty entries: each would be the current folder.
fn joined(folders: impl Iterator<Item = PathBuf>, path: &OsStr) -> Option<OsString> {
    let path = env::split_paths(path).filter(|folder| !folder.as_os_str().is_empty());
    env::join_paths(folders.chain(path)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_to_start() {
        let gym = |name| match Launch::new(name) {
            Ok(Launch::Gym { id, arguments }) => (id, arguments),
            other => panic!("{other:?}"),
        };
        assert_eq!(gym("gym:Hopper-v5"), ("Hopper-v5".into(), "{}".into()));
        let (id, arguments) =
            gym("gym:mine:Lander-v3?continuous=True&gravity=-5.5&mode=easy&wind=[1,2]&seed=null");
        assert_eq!(id, "mine:Lander-v3");
        assert_eq!(
            arguments,
            r#"{"continuous":true,"gravity":-5.5,"mode":"easy","seed":null,"wind":[1,2]}"#
        );
        assert_eq!(
            Launch::new("plant:./sim --fast"),
            Ok(Launch::Shell("./sim --fast".into()))
        );
        assert_eq!(
            Launch::new("plant:tcp:here:7000"),
            Ok(Launch::Tcp("here:7000".into()))
        );
    }

    #[test]
    fn files_name_what_is_installed_and_nothing_else() {
        let check = |name: &str| Launch::new(name).unwrap().check_harmless(name);
        for name in [
            "gym:Hopper-v5",
            "gym:ALE/Pong-v5?obs_type=grayscale",
            "gym:FrozenLake-v1?map_name=8x8&is_slippery=false",
            "gym:FrozenLake-v1?desc=[\"SFF\",\"FHG\"]",
            "gym:Ant-v5?healthy_z_range=[0.2,1.5]&main_body=null",
        ] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        for (name, what) in [
            ("gym:evil:X-v0", "imports the module `evil`"),
            ("gym:a:b:X-v0", "imports the module `a:b`"),
            ("gym:A?xml_file=/tmp/a.xml", "`/tmp/a.xml` could be a file"),
            ("gym:A?xml_file=a.xml", "`a.xml` could be a file"),
            ("gym:A?b=[1,{\"c\":[\"..\"]}]", "`..` could be a file"),
            ("gym:Old-v0?env_id=evil:X-v0", "`evil:X-v0` could be a file"),
            ("plant:touch x", "--plant 'touch x'"),
            ("plant:tcp:there:7000", "--plant 'tcp:there:7000'"),
        ] {
            let refusal = check(name).unwrap_err();
            assert!(refusal.contains(what), "{name}: {refusal}");
            assert!(refusal.contains("typed"), "{refusal}");
        }
    }

    #[test]
    fn the_current_folder_gets_on_no_path_by_itself() {
        let path = |given: &str| joined(["/extras".into()].into_iter(), given.as_ref()).unwrap();
        assert_eq!(path(""), "/extras");
        assert_eq!(path(":/mine::."), "/extras:/mine:.");
    }

    #[test]
    fn names_without_a_plant_are_refused() {
        for (name, remedy) in [
            ("gym:", "such as gym:LunarLander-v3"),
            (
                "gym:A?continuous",
                "`continuous` is no argument; write KEY=VALUE",
            ),
            ("gym:A?=1", "`=1` is no argument"),
            ("plant: ", "give a command"),
        ] {
            let refusal = Launch::new(name).unwrap_err();
            assert!(refusal.contains(remedy), "{name}: {refusal}");
        }
    }
}
