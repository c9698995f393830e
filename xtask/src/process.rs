//! Running other programs: every failure says what was attempted, with which command line.

use std::env;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Runs `command` with the terminal passed through; an error says that `attempt` failed and how to repeat it.
pub fn run(command: &mut Command, attempt: &str) -> Result<()> {
    let status = command.status().with_context(|| not_started(command, attempt))?;
    if !status.success() {
        bail!("{attempt} failed ({status}); its own words are above\n  to repeat it: {}", line(command));
    }
    Ok(())
}

/// Runs `command` quietly and returns what it printed to standard output.
pub fn capture(command: &mut Command, attempt: &str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| not_started(command, attempt))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{attempt} failed ({}): {}\n  command: {}", output.status, said.trim(), line(command));
    }
    String::from_utf8(output.stdout).with_context(|| format!("{attempt}: the output is not UTF-8"))
}

/// Whether `command` starts and ends with success; what it prints is dropped.
pub fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Where `program` lies on the search path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn not_started(command: &Command, attempt: &str) -> String {
    let program = command.get_program().to_string_lossy();
    match find(&program) {
        Some(_) => format!("{attempt}: cannot start {program}"),
        None => format!("{attempt}: {program} is not installed, or not on PATH"),
    }
}

/// The command line as one would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quote(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// `time` for people: `0.4 s`, `3 min 07 s`.
pub fn spell(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 60.. => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// Whether the error's cause is a file that is not there.
pub fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_can_be_pasted_into_a_shell() {
        let mut command = Command::new("coordinator");
        command.args(["--run", "demo", "--set", "model.dynamic=\"none\"", ""]);
        assert_eq!(line(&command), "coordinator --run demo --set 'model.dynamic=\"none\"' ''");
    }

    #[test]
    fn a_missing_program_is_named_with_the_attempt() {
        let error = run(&mut Command::new("no-such-program"), "counting sheep").expect_err("it does not exist");
        assert_eq!(error.to_string(), "counting sheep: no-such-program is not installed, or not on PATH");
    }

    #[test]
    fn a_failed_command_hands_over_its_last_words() {
        let error = capture(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]), "asking a shell")
            .expect_err("it exits with 3");
        let text = error.to_string();
        assert!(text.contains("asking a shell failed") && text.contains("broken"), "{text}");
        assert!(text.ends_with("command: sh -c 'echo broken >&2; exit 3'"), "{text}");
    }

    #[test]
    fn times_are_spelled_for_people() {
        assert_eq!(spell(Duration::from_millis(420)), "0.4 s");
        assert_eq!(spell(Duration::from_secs(187)), "3 min 07 s");
    }
}
