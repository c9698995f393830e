//! The configuration, validated: what `main` hands to everything below it.

use std::{net::SocketAddr, path::PathBuf};

use cluster::{
    ids::{MemberName, RunName},
    ledger::retention::Retention,
    limits::Limits,
    recipe::{Assignment, Recipe},
    run::Policy,
};

use crate::{args::Args, error::ConfigError, recipes};

/// Setbacks that a run survives without a new checkpoint.
const RESTARTS: u32 = 3;

/// What to run and how.
#[derive(Debug, Clone)]
pub struct Config {
    /// Workers to train on.
    pub workers: u32,
    /// Workers to go on with.
    pub min_workers: u32,
    /// Workers to launch beyond them.
    pub spares: u32,
    /// The run's name.
    pub run: RunName,
    /// The recipe, if one was asked for.
    pub asked: Option<Asked>,
    /// Fields to change in the run's own recipe, where none was asked for.
    pub assignments: Vec<Assignment>,
    /// URL of the store.
    pub store: String,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Programs to launch; `None`: others launch them.
    pub programs: Option<Programs>,
    /// Every time limit.
    pub limits: Limits,
    /// Which checkpoints are kept; `None`: all.
    pub retention: Option<Retention>,
    /// The folder of this run's logs.
    pub log_dir: PathBuf,
    /// The command that goes on with this run, for people to copy.
    pub command: String,
}

/// A recipe that was asked for by name or path.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Name or path, for messages.
    pub by: String,
    /// The recipe with its assignments.
    pub recipe: Recipe,
}

/// Where the sibling programs are.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `worker`.
    pub worker: PathBuf,
    /// `dataloader`.
    pub dataloader: PathBuf,
}

/// The recipe that is trained if nothing else is said.
const DEFAULT_RECIPE: &str = "demo";

impl Config {
    /// Checks the command line. `programs` is the folder of the sibling programs.
    pub fn new(args: Args, programs: &std::path::Path, command: String) -> Result<Self, ConfigError> {
        let asked = args.recipe.as_deref().map(|by| ask(by, &args.assignments)).transpose()?;
        let limits = Limits::from_patience(args.patience).map_err(ConfigError::Patience)?;
        let (workers, min_workers) = (args.workers, args.min_workers.unwrap_or(args.workers));
        if min_workers > workers {
            return Err(ConfigError::MinWorkers { min_workers, workers });
        }
        let name = asked.as_ref().map(|asked| asked.recipe.name().clone());
        let default = || DEFAULT_RECIPE.parse().expect("the default recipe's name is a good name");
        let run = args.run.or(name).unwrap_or_else(default);
        let programs = if args.external { None } else { Some(Programs::find(programs)?) };
        let log_dir = args.log_dir.join(run.as_str());
        Ok(Self {
            workers,
            min_workers,
            spares: args.spares,
            run,
            asked,
            assignments: args.assignments,
            store: args.store,
            listen: args.listen,
            programs,
            limits,
            retention: args.keep.retention(),
            log_dir,
            command,
        })
    }

    /// The recipe of a run that does not exist yet.
    pub fn new_recipe(&self) -> Result<Recipe, ConfigError> {
        match &self.asked {
            Some(asked) => Ok(asked.recipe.clone()),
            None => ask(DEFAULT_RECIPE, &self.assignments).map(|asked| asked.recipe),
        }
    }

    /// The recipe to compare with the one that an existing run was created with. While nothing of it is trained, an
    /// embedded recipe stands for itself: a field that was set wrongly at the first try is forgotten.
    pub fn recipe_for(&self, stored: &str, is_trained: bool) -> Result<Recipe, ConfigError> {
        if let Some(asked) = &self.asked {
            return Ok(asked.recipe.clone());
        }
        let what = format!("the recipe of run `{}`", self.run);
        let own = parse(&what, stored, &[])?;
        match recipes::text(own.name().as_str()) {
            Ok(text) if !is_trained => parse(own.name().as_str(), &text, &self.assignments),
            _ => parse(&what, stored, &self.assignments),
        }
    }

    /// What the deciding side must know.
    pub fn policy(&self, recipe: &Recipe) -> Result<Policy, ConfigError> {
        let lanes = recipe.run().lanes;
        if self.workers > lanes {
            return Err(ConfigError::TooManyWorkers { workers: self.workers, lanes });
        }
        Ok(Policy {
            workers: self.workers,
            min_workers: self.min_workers,
            children: self.children(),
            limits: self.limits,
            restarts: RESTARTS,
            retention: self.retention,
        })
    }

    /// The seats of the processes that are launched: the loader first, its start is the longest.
    fn children(&self) -> Vec<MemberName> {
        if self.programs.is_none() {
            return Vec::new();
        }
        let workers = (0..self.workers.saturating_add(self.spares)).map(|i| format!("worker-{i}"));
        let names = std::iter::once("loader-0".to_owned()).chain(workers);
        names.map(|name| name.parse().expect("made of letters, a dash and digits")).collect()
    }
}

impl Programs {
    fn find(folder: &std::path::Path) -> Result<Self, ConfigError> {
        let find = |package: &'static str| {
            let program = folder.join(package);
            if program.is_file() { Ok(program) } else { Err(ConfigError::NoProgram { program, package }) }
        };
        Ok(Self { worker: find("worker")?, dataloader: find("dataloader")? })
    }
}

fn ask(by: &str, assignments: &[Assignment]) -> Result<Asked, ConfigError> {
    let recipe = parse(by, &recipes::text(by)?, assignments)?;
    Ok(Asked { by: by.to_owned(), recipe })
}

fn parse(what: &str, text: &str, assignments: &[Assignment]) -> Result<Recipe, ConfigError> {
    Recipe::parse(text, assignments).map_err(|source| ConfigError::Recipe { recipe: what.to_owned(), source })
}

/// The command line as a shell would take it again.
pub fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quote = |word: String| {
        let plain = !word.is_empty() && word.chars().all(is_plain);
        if plain { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    arguments.into_iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::Parser;

    use super::*;

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let all = ["coordinator", "--external"].into_iter().chain(arguments.iter().copied());
        let args = Args::try_parse_from(all).expect("well-formed");
        Config::new(args, Path::new("/nowhere"), "coordinator".to_owned())
    }

    fn policy_refusal(arguments: &[&str]) -> String {
        let config = config(arguments).expect("good so far");
        let recipe = config.new_recipe().expect("a good recipe");
        config.policy(&recipe).expect_err("must be refused").to_string()
    }

    #[test]
    fn nothing_at_all_is_the_demo() {
        let config = config(&[]).expect("the default works");
        assert_eq!((config.run.as_str(), config.workers), ("demo", 1));
        assert_eq!(config.new_recipe().expect("embedded").name().as_str(), "demo");
        assert_eq!(config.log_dir, Path::new(".vared/logs/demo"));
    }

    #[test]
    fn a_run_is_called_after_its_recipe_unless_named() {
        let named = config(&["--recipe", "mini-kinetics-r2plus1d18"]).expect("embedded");
        assert_eq!(named.run.as_str(), "mini-kinetics-r2plus1d18");
        assert_eq!(config(&["--recipe", "demo", "--run", "x"]).expect("good").run.as_str(), "x");
    }

    #[test]
    fn more_workers_than_lanes_are_refused_with_both_ways_out() {
        assert_eq!(
            policy_refusal(&["--workers", "3"]),
            "--workers is 3, but the recipe has 2 lanes and each worker carries one or more; use --workers 2, or --set \
             run.lanes=3 in a new run"
        );
    }

    #[test]
    fn cross_checks_name_the_flags() {
        let error = config(&["--min-workers", "2"]).expect_err("more than all");
        assert_eq!(error.to_string(), "--min-workers is 2; it must be at most --workers (1)");
        let error = config(&["--patience", "1ms"]).expect_err("too short");
        assert_eq!(error.to_string(), "--patience: patience is 1ms; it must be 500ms to 3600s");
        let error = config(&["--recipe", "demo", "--set", "run.lanes=0"]).expect_err("no lanes");
        assert_eq!(error.to_string(), "demo: run.lanes is 0; it must be 1 to 1024");
    }

    #[test]
    fn a_missing_program_says_what_to_build() {
        let args = Args::try_parse_from(["coordinator"]).expect("well-formed");
        let error = Config::new(args, Path::new("/nowhere"), String::new()).expect_err("nothing is there");
        assert_eq!(
            error.to_string(),
            "the program /nowhere/worker is not there; build it with `cargo build -p worker`, or use --external"
        );
    }

    #[test]
    fn the_command_can_be_pasted_into_a_shell() {
        let words = ["./coordinator", "--set", "model.gate={ hidden = 1 }", "it's"].map(str::to_owned);
        assert_eq!(command_line(words), r"./coordinator --set 'model.gate={ hidden = 1 }' 'it'\''s'");
    }
}
