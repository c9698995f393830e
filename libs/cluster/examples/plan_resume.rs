//! What it takes to plan a run over many clips and to go on at any position: `cargo run -p vared-cluster --example
//! plan_resume [CLIPS]`.

use std::time::Instant;

use cluster::plan::Plan;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clips: u64 = std::env::args().nth(1).map_or(Ok(500_000), |clips| clips.parse())?;
    let before = resident_bytes()?;
    let begin = Instant::now();
    let plan = Plan::new(7, clips, 256, 8)?;
    // The 37th epoch, somewhere in the middle: a worker's next batch of 32 clips, with their views.
    let first = 36 * clips + clips * 5 / 8;
    let next: Vec<(u64, u64)> = (first..first + 32).map(|at| (plan.clip_at(at), plan.augment_seed(at))).collect();
    let resumed = begin.elapsed();
    let held = resident_bytes()?.saturating_sub(before);
    println!("{clips} clips planned, resumed at position {first}, {} positions looked up: {resumed:?}", next.len());

    let begin = Instant::now();
    let mut seen = vec![false; clips as usize];
    (36 * clips..37 * clips).for_each(|at| seen[plan.clip_at(at) as usize] = true);
    let epoch = begin.elapsed();
    println!("a whole epoch looked up: {epoch:?}; each clip once: {}", seen.iter().all(|seen| *seen));
    println!("memory of the plan: {held} bytes resident more than before it");
    Ok(())
}

/// Memory of this process that is in use.
fn resident_bytes() -> Result<u64, Box<dyn std::error::Error>> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = pages.split(' ').nth(1).ok_or("no resident pages")?.parse()?;
    Ok(pages * 4096)
}
