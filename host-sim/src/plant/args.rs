//! What is typed to name an environment.

use super::{COMMAND, GYM, allow};
use crate::registry::NAMES;

/// `--env`, `--env-arg` and `--plant`, for command lines.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct EnvironmentArgs {
    /// An environment's name ([`crate::make`]).
    #[arg(long, value_name = "E", help = format!(
        "Environment: {}; the path of a MuJoCo task's .toml; or gym:ID, any Gymnasium environment that is installed",
        NAMES.join(", ")
    ))]
    pub env: Option<String>,
    /// Argument of a gym: environment, as often as needed: what its constructor takes, and control_period_us
    #[arg(long, value_name = "KEY=VALUE", requires = "env")]
    pub env_arg: Vec<String>,
    /// Instead of --env: the command of a simulator that speaks the plant protocol (PLANT.md), or tcp:HOST:PORT
    #[arg(long, value_name = "CMD", conflicts_with = "env")]
    pub plant: Option<String>,
}

impl EnvironmentArgs {
    /// The environment's name, if one is given, which is typed and therefore [allowed](allow).
    ///
    /// # Errors
    /// Says what goes with what.
    pub fn name(&self) -> Result<Option<String>, String> {
        let name = self.joined()?;
        if let Some(name) = &name {
            allow(name);
        }
        Ok(name)
    }

    fn joined(&self) -> Result<Option<String>, String> {
        if let Some(command) = &self.plant {
            return Ok(Some(format!("{COMMAND}{command}")));
        }
        let Some(env) = &self.env else {
            return Ok(None);
        };
        if self.env_arg.is_empty() {
            return Ok(Some(env.clone()));
        }
        if !env.starts_with(GYM) {
            return Err(format!(
                "--env-arg is for gym:ID environments; `{env}` has no arguments"
            ));
        }
        if let Some(wrong) = self.env_arg.iter().find(|arg| arg.contains('&')) {
            return Err(format!("--env-arg {wrong}: no & in arguments"));
        }
        let before = if env.contains('?') { '&' } else { '?' };
        Ok(Some(format!("{env}{before}{}", self.env_arg.join("&"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_makes_a_name() {
        let name = |env: Option<&str>, args: &[&str], plant: Option<&str>| {
            let args = EnvironmentArgs {
                env: env.map(Into::into),
                env_arg: args.iter().map(|arg| (*arg).into()).collect(),
                plant: plant.map(Into::into),
            };
            args.name()
        };
        let is = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(name(None, &[], None), Ok(None));
        assert_eq!(name(Some("hopper"), &[], None), is("hopper"));
        assert_eq!(name(None, &[], Some("./sim -x")), is("plant:./sim -x"));
        assert_eq!(
            name(Some("gym:A-v0"), &["b=1", "c=x"], None),
            is("gym:A-v0?b=1&c=x")
        );
        assert_eq!(
            name(Some("gym:A-v0?b=1"), &["c=x"], None),
            is("gym:A-v0?b=1&c=x")
        );
        for env in ["hopper", "plant:./sim"] {
            let refusal = name(Some(env), &["b=1"], None).unwrap_err();
            let says = format!("`{env}` has no arguments");
            assert!(refusal.contains(&says), "{refusal}");
        }
        assert!(name(Some("gym:A"), &["b=1&c=2"], None).is_err());
    }
}
