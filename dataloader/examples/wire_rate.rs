//! How many bytes of batches a second pass from one loader process to one worker over loopback, by the service's own
//! channel settings: `wire_rate [--seconds N] [--clips N] [--streams N]`.
//!
//! The server is a process of its own. It collates each batch of clips that are in memory already, as the loader does it
//! (`actors/wire.rs`), so what is measured is everything behind the decoders: one copy into the batch and its checksum,
//! gRPC, the kernel, gRPC, and the checksum again, as the worker does it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Parser;
use clips::DataConfig;
use dataloader::actors::wire::{Slot, collate};
use proto::loader::batches_request::Request as Wish;
use proto::loader::loader_server::Loader;
use proto::loader::{Ask, Batch, BatchesRequest, Split, ViewsReply, ViewsRequest};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(10);
/// Asks that a worker has under way.
const ASKS: u64 = 8;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Clips of 16 frames of 112 x 112 in a batch: 0.6 MB each.
    #[arg(long, default_value_t = 16)]
    clips: u32,
    #[arg(long, default_value_t = 1)]
    streams: u32,
    /// Send the same batch again and again, without collating it.
    #[arg(long)]
    wire_only: bool,
    /// The server's process.
    #[arg(long, hide = true)]
    serve: bool,
}

struct Service {
    config: DataConfig,
    clip: Vec<u8>,
    wire_only: bool,
}

impl Service {
    fn batch(&self, id: u64, count: u32) -> Batch {
        let slot = |position| Slot {
            position,
            key: "clip".to_owned(),
            label: 0,
            pixels: Some(self.clip.clone()),
            replaced: None,
        };
        collate(&self.config, id, (0..count.into()).map(slot).collect())
    }
}

#[tonic::async_trait]
impl Loader for Service {
    type BatchesStream = ReceiverStream<Result<Batch, Status>>;
    type ViewsStream = ReceiverStream<Result<ViewsReply, Status>>;

    async fn batches(
        &self,
        request: Request<Streaming<BatchesRequest>>,
    ) -> Result<Response<Self::BatchesStream>, Status> {
        let mut asks = request.into_inner();
        let (outbox, batches) = mpsc::channel(4);
        let service = Self { config: self.config.clone(), clip: self.clip.clone(), wire_only: self.wire_only };
        tokio::spawn(async move {
            let mut made = None;
            while let Ok(Some(BatchesRequest { request: Some(Wish::Ask(ask)) })) = asks.message().await {
                let kept = made.filter(|_| service.wire_only).unwrap_or_else(|| service.batch(ask.id, ask.count));
                made = Some(kept.clone());
                if outbox.send(Ok(Batch { id: ask.id, ..kept })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(batches)))
    }

    async fn views(&self, _: Request<Streaming<ViewsRequest>>) -> Result<Response<Self::ViewsStream>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

async fn serve(wire_only: bool) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let config: DataConfig = toml::from_str(
        "train = 'x'\nval = 'x'\nframes = 16\nstride = 4\nshort_side = [128, 128]\ncrop = 112\n\
         mean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]",
    )?;
    let clip = (0..config.clip_bytes()).map(|n| n as u8).collect();
    let service = proto::connect::serve_loader(Service { config, clip, wire_only });
    proto::connect::server(PATIENCE).add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

/// Bytes of pixels that came in the time.
async fn stream(address: &str, clips: u32, seconds: f64) -> anyhow::Result<u64> {
    let mut client = proto::connect::loader(proto::connect::lazy(address, PATIENCE)?);
    let (asks, requests) = mpsc::channel(ASKS as usize);
    let ask = |id| {
        let ask = Ask { id, split: Split::Train.into(), first: id * u64::from(clips), count: clips };
        BatchesRequest { request: Some(Wish::Ask(ask)) }
    };
    for id in 0..ASKS {
        asks.send(ask(id)).await?;
    }
    let mut batches = client.batches(ReceiverStream::new(requests)).await?.into_inner();
    let (begin, mut bytes, mut next) = (Instant::now(), 0, ASKS);
    while begin.elapsed().as_secs_f64() < seconds {
        let batch: Batch = batches.next().await.context("the stream ended")??;
        anyhow::ensure!(crc32c::crc32c(&batch.pixels_nthwc) == batch.crc32c, "other pixels came");
        bytes += batch.pixels_nthwc.len() as u64;
        asks.send(ask(next)).await?;
        next += 1;
    }
    Ok(bytes)
}

/// Time that a process has spent on cores.
fn core_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may have spaces: user and system time are fields 14 and 15, in hundredths of a second.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = fields.get(11..13).context("a line of numbers")?.iter().map(|field| field.parse::<f64>());
    Ok(ticks.sum::<Result<f64, _>>()? / 100.0)
}

async fn measure(args: &Args) -> anyhow::Result<()> {
    let mut server = Command::new(std::env::current_exe()?);
    server.arg("--serve").stdout(Stdio::piped());
    if args.wire_only {
        server.arg("--wire-only");
    }
    let mut server = tokio::process::Command::from(server).kill_on_drop(true).spawn()?;
    let mut told = BufReader::new(server.stdout.take().context("piped")?).lines();
    let address = told.next_line().await?.context("the server says where it is")?;
    let begin = Instant::now();
    let streams = (0..args.streams).map(|_| stream(&address, args.clips, args.seconds));
    let bytes: u64 = futures::future::try_join_all(streams).await?.into_iter().sum();
    let gigabytes = bytes as f64 / begin.elapsed().as_secs_f64() / 1e9;
    let megabytes = f64::from(args.clips) * 16.0 * 112.0 * 112.0 * 3.0 / 1e6;
    let server_id = server.id().context("it serves until it is killed")?;
    let [theirs, ours] = [core_seconds(server_id)?, core_seconds(std::process::id())?].map(|s| s * 1e9 / bytes as f64);
    println!("a GB takes {theirs:.2} s of a core at the loader and {ours:.2} s at the worker");
    println!("{gigabytes:.2} GB/s over {} streams, batches of {} clips ({megabytes:.1} MB)", args.streams, args.clips);
    server.kill().await?;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // As both the loader and the worker do it.
    dataloader::data::memory::keep_freed();
    let tokio = tokio::runtime::Runtime::new()?;
    tokio.block_on(async { if args.serve { serve(args.wire_only).await } else { measure(&args).await } })
}
