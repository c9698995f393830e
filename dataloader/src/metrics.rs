//! How this loader is: `/healthz`, `/readyz` and `/metrics`, on the port of the service.
//!
//! Every figure is counted by its owner; this page asks them all.

use std::collections::BTreeMap;
use std::time::Duration;

use ractor::{ActorRef, Message, RpcReplyPort};
use runtime::ask::ask;
use runtime::health::{Health, Page};
use runtime::store::guard::Figures;

use crate::actors::batch::BatchMsg;
use crate::actors::decode::DecodeMsg;
use crate::actors::fetch::{FetchFigures, FetchMsg};
use crate::actors::root::Actors;
use crate::actors::session::SessionMsg;
use crate::actors::{Passed, Stages, fetch, shelf};
use crate::data::CacheFigures;
use crate::decoder::PoolFigures;
use crate::grpc::asks::{AskFigures, Asks};

/// Actors answer in no time; one that does not is left out of the page.
const DEADLINE: Duration = Duration::from_secs(2);

/// Asks the actors how they are.
pub struct LoaderHealth {
    /// Of this loader.
    pub actors: Actors,
    /// What its workers wait for.
    pub asks: Asks,
}

impl Health for LoaderHealth {
    /// With a connection to the coordinator, and the run's data open.
    async fn ready(&self) -> Result<(), String> {
        let asked = ask(&self.actors.session, "the session actor", DEADLINE, SessionMsg::AreYouReady).await;
        asked.map_err(|error| error.to_string()).flatten()
    }

    async fn metrics(&self) -> Page {
        let stages = &self.actors.stages;
        let (fetch, decode, batch) = tokio::join!(
            told(&stages.fetch, FetchMsg::Tell),
            told(&stages.decode, DecodeMsg::Tell),
            told(&self.actors.batch, BatchMsg::Tell),
        );
        let mut page = Page::default();
        asks(&mut page, self.asks.figures());
        passed(&mut page, &stages.passed);
        if let (Some(fetch), Some(decode)) = (fetch, decode) {
            in_work(&mut page, (stages, &fetch, &decode));
            let FetchFigures { memory, disk, ahead, .. } = fetch;
            let frames = stages.frames.figures();
            caches(&mut page, [("frames", frames), ("ahead", ahead), ("memory", memory), ("disk", disk)]);
        }
        if let Some(batch) = batch {
            page.counter("vared_loader_quarantined_clips_total", "Broken clips found.", batch.quarantined);
            stores(&mut page, &batch.stores);
        }
        page
    }
}

async fn told<M: Message, T: Send + 'static>(actor: &ActorRef<M>, tell: fn(RpcReplyPort<T>) -> M) -> Option<T> {
    ask(actor, "an actor", DEADLINE, tell).await.ok()
}

fn asks(page: &mut Page, AskFigures { streams, starved, waiting, ready }: AskFigures) {
    page.gauge(
        "vared_loader_data_wait_ratio",
        "Share of the workers' streams whose every credit waits for a batch: near 1, add loaders.",
        if streams > 0 { starved as f64 / streams as f64 } else { 0.0 },
    );
    page.gauge("vared_loader_streams", "Streams of workers.", streams);
    page.gauges("vared_loader_asks", "Asks whose batch is being made, or ready and waiting for its connection.")
        .by("state", [("waiting", waiting), ("ready", ready)]);
}

fn passed(page: &mut Page, Passed { fetch, decode, batch }: &Passed) {
    let all = [("fetch", fetch.passed()), ("decode", decode.passed()), ("batch", batch.passed())];
    page.counters("vared_loader_passed_total", "Files read, clips decoded, batches put together.")
        .by("stage", all.map(|(stage, (count, _))| (stage, count)));
    page.counters("vared_loader_stage_seconds_total", "How long these were in the stage, waits included, added up.")
        .by("stage", all.map(|(stage, (_, time))| (stage, time.as_secs_f64())));
}

fn in_work(page: &mut Page, (stages, fetch, decode): (&Stages, &FetchFigures, &PoolFigures)) {
    let [clips, batches] = stages.in_work();
    let decoders = ("decoders", decode.busy, decode.decoders);
    let requests = ("requests", fetch.requests, fetch::REQUESTS);
    let ahead = ("requests_ahead", fetch.requests_ahead, shelf::REQUESTS_AHEAD);
    let all = [clips, batches, decoders, requests, ahead];
    page.gauges("vared_loader_in_work", "What is in work, of each kind.").by("of", all.map(|(of, now, _)| (of, now)));
    page.gauges("vared_loader_in_work_limit", "How much of each kind may be in work.")
        .by("of", all.map(|(of, _, most)| (of, most)));
    let help = "Decoder processes that a file cost; each was replaced.";
    page.counter("vared_loader_decoders_lost_total", help, decode.lost);
}

fn caches(page: &mut Page, caches: [(&str, CacheFigures); 4]) {
    page.counters("vared_loader_cache_hits_total", "What was wanted of a cache and there.")
        .by("cache", caches.map(|(cache, of)| (cache, of.hits)));
    page.counters("vared_loader_cache_misses_total", "What was wanted of a cache and not there.")
        .by("cache", caches.map(|(cache, of)| (cache, of.misses)));
    page.gauges("vared_loader_cache_bytes", "What a cache holds.")
        .by("cache", caches.map(|(cache, of)| (cache, of.held_bytes)));
}

/// What was asked of the stores, indexes included.
fn stores(page: &mut Page, stores: &BTreeMap<String, Figures>) {
    type Of = fn(&Figures) -> f64;
    let all: [(&str, &str, Of); 6] = [
        ("vared_loader_store_requests_total", "Requests sent, repeats and hedges among them.", |of| of.requests as f64),
        ("vared_loader_store_failures_total", "Requests that failed for good.", |of| of.failures as f64),
        ("vared_loader_store_retries_total", "Requests that repeat a failed one.", |of| of.retries as f64),
        ("vared_loader_store_hedges_total", "Second requests for a slow read.", |of| of.hedges as f64),
        ("vared_loader_store_read_bytes_total", "Bytes read.", |of| of.read_bytes as f64),
        ("vared_loader_store_reading_seconds_total", "Time with a read under way.", |of| of.reading.as_secs_f64()),
    ];
    for (name, help, of) in all {
        page.counters(name, help).by("store", stores.iter().map(|(url, figures)| (url.as_str(), of(figures))));
    }
    let help = "Time to the first byte, over the last 512 reads.";
    let mut first_byte = page.gauges("vared_loader_store_first_byte_seconds", help);
    for (url, of) in stores {
        let quantiles = [("0.5", of.first_byte_p50), ("0.95", of.first_byte_p95), ("0.99", of.first_byte_p99)];
        for (quantile, time) in quantiles {
            first_byte.of(&[("store", url), ("quantile", quantile)], time.as_secs_f64());
        }
    }
}
