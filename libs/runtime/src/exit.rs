//! How a process ends: its exit code, and the one line that says why.

use std::process::ExitCode;

use crate::telemetry::print_error;

/// What the exit code tells whoever started the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Done, or handed over in good order.
    Done = 0,
    /// Failed; a restart may help.
    Failed = 1,
    /// Come back later: restart me, nothing is wrong with the configuration.
    ComeBack = 75,
    /// Wrong configuration: do not restart me.
    Misconfigured = 78,
}

impl Code {
    /// The code behind a number that another process reported or asked for.
    pub fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Done,
            75 => Self::ComeBack,
            78 => Self::Misconfigured,
            _ => Self::Failed,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error that knows the exit code it calls for. Its text is the wrapped error's.
#[derive(Debug)]
struct Coded {
    code: Code,
    error: anyhow::Error,
}

impl std::fmt::Display for Coded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for Coded {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// Attaches an exit code to an error on its way up to `main`.
pub trait WithCode<T> {
    /// The process ends with `code` if this error reaches `main`. Context may still be added on top.
    fn code(self, code: Code) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> WithCode<T> for Result<T, E> {
    fn code(self, code: Code) -> anyhow::Result<T> {
        self.map_err(|error| anyhow::Error::new(Coded { code, error: error.into() }))
    }
}

/// The code that `error` calls for: the outermost one attached, else [`Code::Failed`].
pub fn code_of(error: &anyhow::Error) -> Code {
    error.chain().find_map(|cause| cause.downcast_ref::<Coded>()).map_or(Code::Failed, |coded| coded.code)
}

/// The error and its causes as one line; a cause whose text the line already holds is left out.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = flatten(&cause.to_string());
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
    }
    line
}

/// What `main` returns: prints `error: …` if there is one, and gives the exit code.
pub fn report(result: anyhow::Result<Code>) -> ExitCode {
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            print_error(format_args!("error: {}", one_line(&error)));
            code_of(&error).into()
        }
    }
}

/// Parses the command line. `Err` is what `main` returns at once: 0 after `--help`, 78 after a mistake, which was
/// named in one line.
pub fn parse<A: clap::Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            // Nothing was typed: the page is the answer.
            let _ = error.print();
            Code::Misconfigured.into()
        } else if error.use_stderr() {
            print_error(clap_line(&error.to_string()));
            Code::Misconfigured.into()
        } else {
            // `--help` or `--version`: a closed pipe behind us is no failure of ours.
            let _ = error.print();
            Code::Done.into()
        }
    })
}

/// clap's page as one line: what is wrong and its tip, without the usage.
fn clap_line(page: &str) -> String {
    let told: Vec<&str> = page.split("\n\n").take_while(|part| !part.trim_start().starts_with("Usage:")).collect();
    let told: Vec<String> =
        told.iter().map(|part| flatten(part)).filter(|part| !part.starts_with("For more information")).collect();
    format!("{} (see --help)", told.join("; "))
}

fn flatten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Context, anyhow};

    #[derive(Debug, thiserror::Error)]
    #[error("can't open the store: {0}")]
    struct Repeats(#[source] std::io::Error);

    #[test]
    fn the_same_text_is_printed_once() {
        let error = anyhow::Error::new(Repeats(std::io::Error::other("disk on fire"))).context("can't start");
        assert_eq!(one_line(&error), "can't start: can't open the store: disk on fire");
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line(&anyhow!("a\n  b").context("c")), "c: a b");
    }

    #[test]
    fn a_code_survives_context() {
        let failed: Result<(), _> = Err(anyhow!("no such recipe"));
        let error = failed.code(Code::Misconfigured).context("can't start").expect_err("stays an error");
        assert_eq!(code_of(&error), Code::Misconfigured);
        assert_eq!(one_line(&error), "can't start: no such recipe");
    }

    #[test]
    fn an_error_without_a_code_is_a_failure() {
        assert_eq!(code_of(&anyhow!("x")), Code::Failed);
    }

    #[test]
    fn numbers_and_codes_agree() {
        for code in [Code::Done, Code::Failed, Code::ComeBack, Code::Misconfigured] {
            assert_eq!(Code::from_number(code as u32), code);
        }
    }

    #[derive(Debug, clap::Parser)]
    struct Sample {
        #[arg(long)]
        workers: u32,
    }

    #[test]
    fn a_wrong_flag_is_one_line() {
        let error = <Sample as clap::Parser>::try_parse_from(["x", "--workers", "many"]).expect_err("no number");
        let line = clap_line(&error.to_string());
        assert!(line.starts_with("error: invalid value 'many' for '--workers <WORKERS>'"), "{line}");
        assert!(!line.contains('\n') && !line.contains("Usage") && line.ends_with("(see --help)"), "{line}");
    }

    #[test]
    fn a_missing_flag_is_one_line() {
        let error = <Sample as clap::Parser>::try_parse_from(["x"]).expect_err("required");
        assert!(clap_line(&error.to_string()).contains("--workers <WORKERS>"));
    }
}
