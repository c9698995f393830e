//! What one GPU can show of the NCCL half: a group of one on cuda:0, every operation against what it must give. One line a
//! check; ends with 1 if one fails. `cargo run -p vared-collective --example nccl` after `cargo xtask setup --cuda` and
//! `cargo xtask cuda`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use collective::{Address, Error, Group, Member, MemoryStore};
use tch::{Device, Kind, Tensor};

type Outcome = Result<String, Box<dyn std::error::Error>>;

fn member() -> Member {
    Member { rank: 0, world: 1, timeout: Duration::from_secs(20), address: Address::local() }
}

fn form() -> Result<Group, Error> {
    Group::nccl(Arc::new(MemoryStore::new()), member(), 0)
}

/// Whether both hold the same numbers, on the device of `want`.
fn same(got: &Tensor, want: &Tensor) -> Outcome {
    if got.device() != want.device() || got.size() != want.size() || !got.equal(want) {
        return Err(format!("got {got:?} {got}, not {want:?} {want}").into());
    }
    Ok(format!("{:?} on {:?}", got.size(), got.device()))
}

fn numbers(kind: Kind, device: Device) -> Tensor {
    Tensor::arange(12, (kind, device)).view([1, 12]) - 3
}

/// Every operation on tensors of `device`. In a group of one each gives back what went in.
fn operations(group: &mut Group, kind: Kind, device: Device) -> Outcome {
    let want = numbers(kind, device);
    let got = want.copy();
    group.all_reduce_sum(&got)?;
    same(&got, &want)?;
    group.broadcast(&got, 0)?;
    same(&got, &want)?;
    same(&group.all_gather(&got)?, &want.unsqueeze(0))?;
    same(&group.all_to_all(&got)?, &want)?;
    group.barrier()?;
    Ok(format!("{kind:?} on {device:?}"))
}

fn versions() -> Outcome {
    let (compiled, loaded) = collective::nccl_versions().ok_or("no NCCL is loaded")?;
    Ok(format!("compiled with {compiled}, {loaded} is loaded"))
}

fn refusal(group: &mut Group) -> Outcome {
    let strided = Tensor::zeros([4, 4], (Kind::Float, Device::Cuda(0))).slice(1, 0, 4, 2);
    let Err(error) = group.all_reduce_sum(&strided) else { return Err("a strided view was taken".into()) };
    group.barrier()?;
    Ok(error.to_string())
}

fn nonsense() -> Outcome {
    match Group::nccl(Arc::new(MemoryStore::new()), member(), 4096) {
        Ok(_) => Err("a group was formed on cuda:4096".into()),
        Err(error) => Ok(error.to_string()),
    }
}

/// It is JSON, and holds what was run here.
fn trace() -> Outcome {
    let text = collective::nccl_trace().ok_or("no NCCL is loaded")??;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    let entries = json["entries"].as_array().ok_or("the trace has no list of entries")?;
    let has =
        |name: &str| entries.iter().any(|entry| entry["profiling_name"].as_str().is_some_and(|n| n.contains(name)));
    if !has("all_reduce") || !has("broadcast") {
        return Err(format!("the trace lacks operations: {text}").into());
    }
    Ok(format!("{} bytes, {} operations", text.len(), entries.len()))
}

fn large(group: &mut Group) -> Outcome {
    let tensor = Tensor::ones([64 << 20], (Kind::Float, Device::Cuda(0)));
    group.all_reduce_sum(&tensor)?;
    let start = Instant::now();
    for _ in 0..20 {
        group.all_reduce_sum(&tensor)?;
    }
    let each = start.elapsed() / 20;
    same(&tensor.sum(Kind::Double), &Tensor::from(f64::from(64 << 20)).to_device(Device::Cuda(0)))?;
    let small = Tensor::ones([1], (Kind::Float, Device::Cuda(0)));
    let start = Instant::now();
    for _ in 0..100 {
        group.all_reduce_sum(&small)?;
    }
    Ok(format!("256 MiB in {each:?}, 4 bytes in {:?}", start.elapsed() / 100))
}

/// Two ranks, as threads, sum tensors of the GPU by Gloo: by way of the host.
fn gloo() -> Outcome {
    let store = Arc::new(MemoryStore::new());
    let rank = |rank: u32| {
        let member = Member { rank, world: 2, ..member() };
        let mut group = Group::gloo(Arc::<MemoryStore>::clone(&store), member).map_err(|error| error.to_string())?;
        let tensor = numbers(Kind::Float, Device::Cuda(0)) * f64::from(rank + 1);
        group.all_reduce_sum(&tensor).map_err(|error| error.to_string())?;
        let all = group.all_gather(&tensor).map_err(|error| error.to_string())?;
        Ok::<_, String>((tensor, all))
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(|| rank(1));
        (rank(0), other.join())
    });
    let want = numbers(Kind::Float, Device::Cuda(0)) * 3;
    for (sum, all) in [first?, second.map_err(|_| "the other rank panicked")??] {
        same(&sum, &want)?;
        same(&all, &Tensor::stack(&[&want, &want], 0))?;
    }
    Ok("two ranks".to_owned())
}

/// Aborts from another thread while this one keeps the group busy: the next operation fails at once, in its own way.
fn abort(mut group: Group) -> Outcome {
    let aborter = group.aborter();
    let tensor = Tensor::ones([1 << 20], (Kind::Float, Device::Cuda(0)));
    let begun = AtomicBool::new(false);
    let (error, after) = std::thread::scope(|scope| {
        let aborting = scope.spawn(|| {
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            let aborted = Instant::now();
            aborter.abort().map(|()| aborted)
        });
        let error = loop {
            match group.all_reduce_sum(&tensor) {
                Ok(()) => begun.store(true, Ordering::SeqCst),
                Err(error) => break error,
            }
        };
        let failed = Instant::now();
        let aborted = aborting.join().map_err(|_| "the other thread panicked")??;
        Ok::<_, Box<dyn std::error::Error>>((error, failed.saturating_duration_since(aborted)))
    })?;
    if !error.is_aborted() || after > Duration::from_secs(2) {
        return Err(format!("after {after:?}: {error}").into());
    }
    let again = group.barrier().err().ok_or("an aborted group went on")?;
    if !again.is_aborted() {
        return Err(again.into());
    }
    drop(group);
    aborter.abort()?;
    Ok(format!("seen {after:?} after the abort: {error}"))
}

/// A process forms a group a generation: the next one works after one that was aborted.
fn again() -> Outcome {
    let mut group = form()?;
    operations(&mut group, Kind::Float, Device::Cuda(0))?;
    let start = Instant::now();
    drop(group);
    Ok(format!("left in {:?}", start.elapsed()))
}

fn checks(report: &mut dyn FnMut(&str, Outcome)) -> Result<(), Error> {
    let start = Instant::now();
    let mut group = form()?;
    report("form", Ok(format!("in {:?}", start.elapsed())));
    report("version", versions());
    for kind in [Kind::Float, Kind::Double, Kind::BFloat16, Kind::Int64] {
        report("operations", operations(&mut group, kind, Device::Cuda(0)));
        report("operations, staged", operations(&mut group, kind, Device::Cpu));
    }
    report("a strided view is refused", refusal(&mut group));
    report("no such device", nonsense());
    report("speed", large(&mut group));
    report("trace", trace());
    report("Gloo, staged", gloo());
    report("abort", abort(group));
    report("a group after it", again());
    report("trace after it", trace());
    Ok(())
}

fn main() -> ExitCode {
    let mut failed = false;
    let mut report = |name: &str, outcome: Outcome| match outcome {
        Ok(said) => println!("ok      {name}: {said}"),
        Err(error) => {
            failed = true;
            println!("FAILED  {name}: {error}");
        }
    };
    if let Err(error) = checks(&mut report) {
        report("form", Err(error.into()));
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
