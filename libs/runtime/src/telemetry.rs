//! Log lines on stderr, and what a panic looks like there.

use std::fmt::Display;
use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;

/// Log lines to stderr, filtered by the variable `VARED_LOG` (e.g. `debug`, `worker=trace`; default `info`).
///
/// A panic becomes one log line instead of the runtime's page: it always comes back as an error to whoever owns the
/// task or thread. A second call changes nothing.
pub fn init(process: &str) {
    let filter = std::env::var("VARED_LOG").unwrap_or_default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter_from(&filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        // It would say so on stderr: the very stream that is broken.
        .log_internal_errors(false)
        .finish();
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        std::panic::set_hook(Box::new(log_panic));
        tracing::debug!("{process} starts, process {}", std::process::id());
    }
}

/// Prints a line on stdout. Whoever reads it may be gone, or the disk behind it full: no work ends because of that.
pub fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints a line on stderr, in the same manner.
pub fn print_error(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn filter_from(text: &str) -> EnvFilter {
    // ractor's spans would put an actor's number before every line.
    let quiet = "h2=warn,hyper=warn,tower=warn,reqwest=warn,rustls=warn,ractor=warn";
    let wanted = if text.is_empty() { "info" } else { text };
    EnvFilter::builder().parse_lossy(format!("{quiet},{wanted}"))
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no text");
    match panic.location() {
        Some(at) => tracing::error!("internal fault at {}:{}: {text}", at.file(), at.line()),
        None => tracing::error!("internal fault: {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_level_is_info_and_libraries_are_quiet() {
        let filter = filter_from("").to_string();
        assert!(filter.contains("info") && filter.contains("h2=warn"), "{filter}");
    }

    #[test]
    fn a_wanted_level_replaces_the_default() {
        let filter = filter_from("debug").to_string();
        assert!(filter.contains("debug") && !filter.contains("info"), "{filter}");
    }
}
