//! Bad input, as a user meets it: the real program, one line, an exit code, no panic.

use std::{net::TcpListener, process::Command};

struct Said {
    code: Option<i32>,
    stderr: String,
}

fn coordinator(arguments: &[&str]) -> Said {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator"))
        .args(arguments)
        .env_remove("VARED_LOG")
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    Said { code: output.status.code(), stderr: String::from_utf8(output.stderr).expect("text") }
}

/// Everything wrong with the command line ends like this.
fn refused(arguments: &[&str], because: &str) {
    let Said { code, stderr } = coordinator(arguments);
    let shown = format!("{arguments:?} said {stderr:?}");
    assert_eq!(code, Some(78), "{shown}");
    assert!(stderr.starts_with("error: ") && stderr.trim_end().lines().count() == 1, "{shown}");
    assert!(stderr.contains(because), "{shown}");
    assert!(!stderr.contains("panicked"), "{shown}");
}

#[test]
fn wrong_flags_are_named() {
    refused(&["--workers", "0"], "'0' for '--workers <N>'");
    refused(&["--workers", "many"], "'many' for '--workers <N>'");
    refused(&["--run", "a/b"], "the run name \"a/b\" is not usable");
    refused(&["--patience", "1ms", "--external"], "patience is 1ms; it must be 500ms to 3600s");
    refused(&["--set", "run.lanes"], "`run.lanes` is no assignment");
    refused(&["--no-such-flag"], "--no-such-flag");
    refused(&["--keep-best", "1"], "--keep-last <K>");
    refused(&["checkpoints", "list"], "--run <NAME>");
    refused(&["checkpoints", "verify", "--run", "x", "--store", "/no/such/folder"], "no store at /no/such/folder");
}

#[test]
fn wrong_recipes_are_named() {
    refused(&["--recipe", "dmeo", "--external"], "known are demo, kinetics400-i3d-inception, ");
    refused(&["--recipe", "./dmeo.toml", "--external"], "can't read the recipe ./dmeo.toml");
    refused(&["--recipe", "demo", "--set", "run.lanes=0", "--external"], "run.lanes is 0; it must be 1 to 1024");
    refused(&["--recipe", "demo", "--set", "modle.x=1", "--external"], "unknown section `modle`");
    refused(&["--workers", "5", "--external"], "use --workers 2, or --set run.lanes=5 in a new run");
}

#[test]
fn wrong_stores_are_named() {
    refused(&["--store", "gopher://x", "--external"], "\"gopher://x\" is no store");
    refused(&["--store", "/no/such/folder", "--external"], "no store at /no/such/folder");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    refused(&["--listen", &address, "--external"], &format!("can't listen on {address}; choose another with --listen"));
}

#[test]
fn the_help_teaches_with_examples() {
    let output = Command::new(env!("CARGO_BIN_EXE_coordinator")).arg("--help").output().expect("the program runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success() && text.contains("Examples:") && text.contains("Exit codes:"), "{text}");
}
