//! `worker eval`: the summary of a run's checkpoint.

use runtime::exit::Code;
use runtime::shutdown::Shutdown;

use crate::config::EvalConfig;

/// Evaluates.
pub async fn run(_config: EvalConfig, _shutdown: Shutdown) -> anyhow::Result<Code> {
    anyhow::bail!("being written")
}
