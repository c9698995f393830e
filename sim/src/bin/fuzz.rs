//! The program `fuzz`: one simulated cluster a seed, until an invariant breaks.

use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use sim::{Outcome, Scenario, live};

/// Simulates whole clusters, one a seed, and checks what must be true of every history.
///
/// A seed draws a cluster (workers, loaders, one machine or many), a run, and a storm of faults: processes that die, freeze
/// and come back, leave; streams that are cut, partitions, a slow network; a store that fails, is slow or loses its answers;
/// a second coordinator. What decides is the real state machine of `libs/cluster` with the real journal and checkpoints;
/// the invariants are in `sim/src/invariants`, one a file. Once the storm is over the run must finish in time.
///
/// One seed is one history, always. A seed that breaks an invariant is shown with its last events and with the command that
/// shows all of it; keep it in `sim/seeds.txt` once it is mended.
#[derive(Debug, Parser)]
#[command(
    name = "fuzz",
    after_help = "\
examples:
  fuzz --seeds 1000               seeds 0 to 999; about 10 s on one core
  fuzz --minutes 30 --start 5000  as many as there is time for
  fuzz --seed 1544 --trace        one seed, every event of it"
)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 1000, value_name = "N", conflicts_with = "minutes")]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    start: u64,
    /// This seed alone
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "start", "minutes"])]
    seed: Option<u64>,
    /// Goes on for this long, however many seeds that is
    #[arg(long, value_name = "MINUTES")]
    minutes: Option<f64>,
    /// Shows every event, not the last ones of a failure alone
    #[arg(long, requires = "seed")]
    trace: bool,
}

/// Events that are shown of a seed that fails.
const LAST_EVENTS: usize = 40;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let args = Args::parse();
    let failed = match args.seed {
        Some(seed) => !run_one(seed, args.trace),
        None => run_many(&args),
    };
    ExitCode::from(u8::from(failed))
}

/// Runs one seed, with all its events if they are wanted; says whether all was well.
fn run_one(seed: u64, is_traced: bool) -> bool {
    let scenario = Scenario::new(seed);
    println!("seed {seed}: {scenario}");
    let outcome = live(scenario, if is_traced { usize::MAX } else { LAST_EVENTS });
    if is_traced || outcome.violation.is_some() {
        outcome.history.iter().for_each(|line| println!("{line}"));
    }
    match &outcome.violation {
        None => {
            println!("seed {seed}: finished after {:.0?} of the cluster's time, {}", outcome.lived, ticks(&outcome))
        }
        Some(violation) => println!("seed {seed}: {violation}"),
    }
    outcome.violation.is_none()
}

/// Runs seeds until one fails, or their number or the time is over; says whether one failed.
fn run_many(args: &Args) -> bool {
    let begun = Instant::now();
    let limit = args.minutes.map(|minutes| Duration::from_secs_f64(minutes.max(0.0) * 60.0));
    let (mut done, mut told, mut longest) = (0, begun, Duration::ZERO);
    let goes_on = |done: u64| limit.map_or(done < args.seeds, |limit| begun.elapsed() < limit);
    while goes_on(done) {
        let seed = args.start + done;
        let outcome = live(Scenario::new(seed), 0);
        done += 1;
        longest = longest.max(outcome.healed);
        if outcome.violation.is_some() {
            println!("\nseed {seed} broke an invariant after {done} seeds; once more, with its last events:\n");
            run_one(seed, false);
            println!("\nall of it: cargo run -p vared-sim --bin fuzz -- --seed {seed} --trace");
            return true;
        }
        if told.elapsed() >= PROGRESS && std::io::stderr().is_terminal() {
            told = Instant::now();
            eprint!("\r{done} seeds in {:.0?}, the next is {}", begun.elapsed(), seed + 1);
            // Progress that can't be shown is not worth an error.
            let _ = std::io::stderr().flush();
        }
    }
    let (first, took) = (args.start, begun.elapsed());
    println!(
        "{done} seeds from {first} on held all invariants, in {took:.1?}; the slowest took {longest:.0?} to finish after its storm"
    );
    false
}

fn ticks(outcome: &Outcome) -> String {
    format!("{} facts heard, {:.0?} after its storm", outcome.ticks, outcome.healed)
}
