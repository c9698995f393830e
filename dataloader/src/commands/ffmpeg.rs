//! The `ffmpeg` program as a child process: one thread, a time limit, its last words as the error.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use runtime::exit::{Code, WithCode};
use tokio::process::Command;

/// Makes sure that the program is there and can make clips.
pub async fn check() -> anyhow::Result<()> {
    let advice = "install it (Debian, Ubuntu: apt-get install ffmpeg)";
    let asked = Command::new("ffmpeg").args(["-hide_banner", "-encoders"]).stdin(Stdio::null()).output().await;
    let encoders =
        asked.with_context(|| format!("can't run the ffmpeg program: {advice}")).code(Code::Misconfigured)?;
    if !String::from_utf8_lossy(&encoders.stdout).contains("libx264") {
        return Err(anyhow!("this ffmpeg program has no libx264: {advice}")).code(Code::Misconfigured);
    }
    Ok(())
}

/// Runs one call; it is killed when it takes longer than `limit`, or nobody waits for it any more.
pub async fn run(arguments: &[String], limit: Duration) -> anyhow::Result<()> {
    let call = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-threads", "1", "-filter_threads", "1"])
        .args(["-filter_complex_threads", "1"])
        .args(arguments)
        .kill_on_drop(true)
        .output();
    let out = tokio::time::timeout(limit, call).await;
    let out = out.map_err(|_| anyhow!("ffmpeg took longer than {} s", limit.as_secs()))?;
    let out = out.context("can't run the ffmpeg program")?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned();
        bail!("ffmpeg failed ({}) on {}: {last}", out.status, arguments.last().map_or("", String::as_str));
    }
    Ok(())
}
