//! The environment that data were recorded in, as far as files describe it. A name alone says little: the same name with
//! other arguments, behind a wrapper or with another time limit is another task, and a policy's returns in the one say
//! nothing of its returns in the other.

use anyhow::bail;
use host_sim::EnvSpec;
use serde_json::Value;

use super::{Dataset, Source, origin};

/// What a file says of its environment beside the name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SaidEnvironment {
    /// Arguments that it was made with, and their values.
    pub kwargs: Vec<(String, Value)>,
    /// Wrappers around it, `Name(argument = value, …)`, the innermost first.
    pub wrappers: Vec<String>,
    /// Steps after which an episode is truncated.
    pub max_episode_steps: Option<u64>,
    /// Lowest and highest action.
    pub action_bounds: Option<[Vec<f32>; 2]>,
}

/// Arguments that change what is drawn, not what happens.
const OF_DRAWING: [&str; 8] = [
    "render_mode",
    "width",
    "height",
    "camera_id",
    "camera_name",
    "default_camera_config",
    "max_geom",
    "visual_options",
];

/// Wrappers that change neither observations nor rewards nor what an action does: built-in plants clip actions too.
const WITHOUT_EFFECT: [&str; 8] = [
    "OrderEnforcing",
    "PassiveEnvChecker",
    "RecordEpisodeStatistics",
    "RecordVideo",
    "HumanRendering",
    "RenderCollection",
    "Autoreset",
    "ClipAction",
];

impl SaidEnvironment {
    /// Reads Gymnasium's `EnvSpec` in its JSON form.
    pub fn from_gymnasium(spec: &Value) -> Self {
        let kwargs = spec["kwargs"].as_object().into_iter().flatten();
        let mut said = Self {
            kwargs: kwargs
                .filter(|(name, _)| !OF_DRAWING.contains(&name.as_str()))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            max_episode_steps: spec["max_episode_steps"].as_u64(),
            ..Self::default()
        };
        for wrapper in spec["additional_wrappers"].as_array().into_iter().flatten() {
            let name = wrapper["name"].as_str().unwrap_or("one without a name");
            let kwargs = &wrapper["kwargs"];
            match (name, kwargs["max_episode_steps"].as_u64()) {
                ("TimeLimit", Some(steps)) => {
                    let outer = said.max_episode_steps.unwrap_or(steps);
                    said.max_episode_steps = Some(std::cmp::min(steps, outer));
                }
                _ if WITHOUT_EFFECT.contains(&name) => {}
                _ => said.wrappers.push(call(name, kwargs)),
            }
        }
        said
    }

    /// What about it is unusual whatever its name, a sentence each.
    fn unusual(&self) -> Vec<String> {
        let kwargs = self.kwargs.iter();
        let kwargs = kwargs.map(|(name, value)| format!("recorded with {name} = {value}"));
        let wrappers = self.wrappers.iter();
        let wrappers = wrappers.map(|wrapper| format!("recorded behind the wrapper {wrapper}"));
        kwargs.chain(wrappers).collect()
    }

    /// In what it differs from the environment of the same name here, in words; empty: in nothing that it tells.
    fn differences(&self, spec: &EnvSpec<'_>) -> Vec<String> {
        let mut words = Vec::new();
        for (name, value) in &self.kwargs {
            let usual = usual(spec.id, name);
            if usual.is_none() || usual != value.as_f64() {
                let here = usual.map(|x| format!(" instead of {x}"));
                words.push(format!("{name} = {value}{}", here.unwrap_or_default()));
            }
        }
        let wrappers = self.wrappers.iter();
        words.extend(wrappers.map(|wrapper| format!("the wrapper {wrapper}")));
        match self.max_episode_steps {
            Some(steps) if steps != u64::from(spec.max_episode_steps) => {
                let here = spec.max_episode_steps;
                words.push(format!("at most {steps} steps instead of {here}"));
            }
            _ => {}
        }
        if let (Some([low, high]), Some(here)) = (&self.action_bounds, spec.action.bounds()) {
            // Without bounds it was not the plant that set them.
            let bounded = low.iter().chain(high).all(|bound| bound.is_finite());
            if bounded && low.len() == here[0].len() && [&low[..], high] != here {
                let [was, is] =
                    [[&low[..], high], here].map(|[low, high]| host_sim::Space::Box { low, high });
                words.push(format!("actions in {was} instead of {is}"));
            }
        }
        words
    }
}

impl Source {
    /// In what its environment differs from the one of the same name here, in a sentence.
    fn difference(&self, spec: &EnvSpec<'_>) -> Option<String> {
        let (said, env) = (self.said_environment.as_ref()?, self.env.as_deref()?);
        if !origin::same(env, spec.id) {
            return None;
        }
        let differences = said.differences(spec);
        (!differences.is_empty()).then(|| {
            format!(
                "{}: was recorded in another `{}` than the one here: with {}",
                self.path.display(),
                spec.id,
                differences.join(", ")
            )
        })
    }
}

/// What the files say of their environments that their names do not: in what they differ from `env` if that has the
/// name, else what is unusual.
pub fn notes(data: &Dataset, env: Option<&EnvSpec<'_>>) -> Vec<String> {
    let of_source = |source: &Source| {
        let difference = env.and_then(|spec| source.difference(spec));
        let is_known = |spec: &EnvSpec<'_>| {
            let name = source.env.as_deref();
            name.is_some_and(|name| origin::same(name, spec.id))
        };
        match &source.said_environment {
            Some(said) if !env.is_some_and(is_known) => {
                let path = source.path.display();
                let unusual = said.unusual().into_iter();
                unusual.map(|note| format!("{path}: {note}")).collect()
            }
            _ => Vec::from_iter(difference),
        }
    };
    data.sources.iter().flat_map(of_source).collect()
}

/// Refuses data of another environment than `spec` that has its name: nobody asked for `spec`, but a policy is going to
/// be evaluated in it.
///
/// # Errors
/// Says in what it differs, and how to go on.
pub fn refuse_another(data: &Dataset, spec: &EnvSpec<'_>) -> anyhow::Result<()> {
    let mut sources = data.sources.iter();
    match sources.find_map(|source| source.difference(spec)) {
        None => Ok(()),
        Some(said) => bail!(
            "{said}; returns in the two cannot be compared: record in the one that is here, describe yours in a file for \
             --env FILE.toml, train without evaluation with --env none, or evaluate in this one all the same with --env {}",
            spec.id
        ),
    }
}

/// What an argument is if nobody gives it, where it is known and a number.
fn usual(env: &str, name: &str) -> Option<f64> {
    match (env, name) {
        ("pendulum", "g") => Some(10.0),
        _ => None,
    }
}

/// `Name(argument = value, …)`.
fn call(name: &str, kwargs: &Value) -> String {
    let arguments = kwargs.as_object().into_iter().flatten();
    let arguments: Vec<String> = arguments
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    match arguments.join(", ") {
        none if none.is_empty() => name.into(),
        some => format!("{name}({some})"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pendulum(spec: Value, action: f32) -> SaidEnvironment {
        SaidEnvironment {
            action_bounds: Some([vec![-action], vec![action]]),
            ..SaidEnvironment::from_gymnasium(&spec)
        }
    }

    fn differences(spec: Value, action: f32) -> Vec<String> {
        let env = host_sim::make("pendulum").unwrap();
        pendulum(spec, action).differences(&env.spec())
    }

    #[test]
    fn the_usual_environment_differs_in_nothing() {
        for spec in [
            json!({}),
            json!({"kwargs": {}, "additional_wrappers": [], "max_episode_steps": 200}),
            json!({"kwargs": {"g": 10.0, "render_mode": "rgb_array"}}),
            json!({"kwargs": {"g": 10}, "max_episode_steps": null}),
            json!({"additional_wrappers": [{"name": "RecordEpisodeStatistics", "kwargs": {}}]}),
        ] {
            assert!(
                differences(spec.clone(), 2.0).is_empty(),
                "{spec}: {:?}",
                differences(spec.clone(), 2.0)
            );
        }
        assert!(differences(json!({}), f32::INFINITY).is_empty());
    }

    #[test]
    fn each_difference_is_told() {
        for (spec, action, words) in [
            (json!({"kwargs": {"g": 2.0}}), 2.0, "g = 2.0 instead of 10"),
            (json!({"kwargs": {"m": 2}}), 2.0, "m = 2"),
            (
                json!({"max_episode_steps": 500}),
                2.0,
                "at most 500 steps instead of 200",
            ),
            (
                json!({"max_episode_steps": 200,
                       "additional_wrappers": [{"name": "TimeLimit", "kwargs": {"max_episode_steps": 90}}]}),
                2.0,
                "at most 90 steps instead of 200",
            ),
            (
                json!({"additional_wrappers": [{"name": "RescaleAction", "kwargs": {"min_action": -1.0}}]}),
                2.0,
                "the wrapper RescaleAction(min_action = -1.0)",
            ),
            (
                json!({"additional_wrappers": [{"name": "FlattenObservation", "kwargs": {}}]}),
                2.0,
                "the wrapper FlattenObservation",
            ),
            (
                json!({}),
                1.0,
                "actions in Box(1), -1…1 instead of Box(1), -2…2",
            ),
        ] {
            assert_eq!(differences(spec, action), [words]);
        }
    }

    #[test]
    fn what_a_name_does_not_tell_is_unusual() {
        let spec = json!({"kwargs": {"g": 2.0}, "max_episode_steps": 500,
                          "additional_wrappers": [{"name": "RescaleAction", "kwargs": {}}]});
        assert_eq!(
            pendulum(spec, 1.0).unusual(),
            [
                "recorded with g = 2.0",
                "recorded behind the wrapper RescaleAction"
            ]
        );
    }
}
