//! The real device on a toy: alone, in twos through a real rendezvous service, there and back through a checkpoint.

use std::sync::Arc;

use collective::{MemoryStore, Store};
use proto::coordinator::rendezvous_server::Rendezvous;
use proto::coordinator::{
    AddReply, AddRequest, CheckReply, CheckRequest, GetReply, GetRequest, SetReply, SetRequest, Welcome,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::*;

const RECIPE: &str = r#"
name = "toy"
[run]
seed = 1
lanes = 2
batch_clips = 4
checkpoint_every_steps = 4
threads = 1
[data]
frames = 4
stride = 1
short_side = [16, 16]
crop = 16
mean = [0.4, 0.4, 0.4]
std = [0.25, 0.25, 0.25]
[model]
backbone = "r2plus1d"
blocks = [1, 1, 1, 1]
widths = [2, 2, 2, 2]
classes = 2
stem = 2
[optim]
[[stages]]
name = "accuracy"
epochs = 3
lr = 0.05
"#;

fn briefing(recipe: &str) -> Briefing {
    let recipe = Recipe::parse(recipe, &[]).expect("a good recipe");
    let welcome = Welcome {
        run: "toy".to_owned(),
        recipe: recipe.text().to_owned(),
        recipe_digest: recipe.digest().to_owned(),
        store: "memory://".to_owned(),
        patience_ms: 10_000,
        beat_ms: 1_000,
    };
    Briefing::parse(&welcome).expect("good")
}

fn data(classes: &[&str]) -> DataFacts {
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    DataFacts { train_clips: 8, val_clips: 2, digest: "d".to_owned(), classes }
}

fn seat(rank: u32, world: u32) -> Seat {
    let each = 2 / world;
    Seat { generation: 1, rank, world, lanes: rank * each..(rank + 1) * each, workers: Vec::new() }
}

fn batch(lane: u8) -> Batch {
    let shape = [2, 4, 16, 16, 3];
    let pixels: Vec<u8> = (0..shape.iter().product::<usize>()).map(|i| (i * 7 % 251) as u8 ^ lane).collect();
    Batch {
        pixels_nthwc: pixels.into(),
        shape,
        labels: vec![0, 1],
        keys: vec![format!("still/{lane}"), format!("zoom/{lane}")],
    }
}

/// A device whose coordinator is at `url`. Must not be called on a thread of the runtime.
fn device(url: &str, runtime: Handle) -> Device {
    Device::new(&briefing(RECIPE), DeviceChoice::Cpu, url, runtime).expect("builds")
}

/// Runs `job` on a thread like the device's: outside of the runtime's.
async fn on_thread<R: Send + 'static>(job: impl FnOnce(Handle) -> R + Send + 'static) -> R {
    let runtime = Handle::current();
    tokio::task::spawn_blocking(move || job(runtime)).await.expect("no panic")
}

const NOBODY: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_resumed_device_goes_on_bit_for_bit() {
    on_thread(|runtime| {
        let mut straight = device(NOBODY, runtime.clone());
        assert_eq!(straight.form(&seat(0, 1), &data(&["a", "b"]), &Start::Seed), Ok(0));
        straight.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        let half = straight.snapshot().expect("a snapshot");
        straight.step(vec![batch(2), batch(3)], Wish::default()).expect("steps");
        let mut resumed = device(NOBODY, runtime);
        assert_eq!(resumed.form(&seat(0, 1), &data(&["a", "b"]), &Start::Checkpoint(half)), Ok(1));
        resumed.step(vec![batch(2), batch(3)], Wish::default()).expect("steps");
        assert_eq!(resumed.snapshot().expect("a snapshot"), straight.snapshot().expect("a snapshot"));
    })
    .await;
}

#[test]
fn the_clips_of_a_lost_lane_are_named_by_its_holder() {
    let keys = ["still/1, zoom/4".to_owned(), "zoom/2".to_owned()];
    assert_eq!(lost_clips(2..4, &[0, 2], &keys), ["lane 2, which held the clips still/1, zoom/4"]);
    assert!(lost_clips(2..4, &[0], &keys).is_empty());
}

#[tokio::test]
async fn a_run_may_start_from_weights_and_says_which_it_cannot_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("start.safetensors");
    let starts_from = |path: &std::path::Path| format!("{RECIPE}\n[init]\nweights = {path:?}\n");
    let (good, missing) = (starts_from(&file), starts_from(&folder.path().join("none.safetensors")));
    on_thread(move |runtime| {
        let mut first = device(NOBODY, runtime.clone());
        first.form(&seat(0, 1), &data(&["a", "b"]), &Start::Seed).expect("alone");
        let start = first.snapshot().expect("a snapshot")[checkpoint::layout::MODEL].clone();
        first.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        let trained = first.snapshot().expect("a snapshot")[checkpoint::layout::MODEL].clone();
        std::fs::write(&file, &trained).expect("written");
        let form = |recipe: &str, start: Start| {
            let made = Device::new(&briefing(recipe), DeviceChoice::Cpu, NOBODY, runtime.clone());
            let mut device = made.expect("builds");
            device
                .form(&seat(0, 1), &data(&["a", "b"]), &start)
                .map(|step| (step, device.snapshot().expect("a snapshot")))
        };
        let (step, from_file) = form(&good, Start::Seed).expect("starts");
        assert!(step == 0 && from_file[checkpoint::layout::MODEL] == trained && trained != start);
        // A checkpoint of the run goes before its start.
        std::fs::write(&file, &start).expect("written");
        let (_, resumed) = form(&good, Start::Checkpoint(from_file)).expect("resumes");
        assert!(resumed[checkpoint::layout::MODEL] == trained);
        let error = form(&missing, Start::Seed).expect_err("no file").to_string();
        assert!(error.starts_with("the recipe is refused: init.weights: can't read"), "{error}");
        std::fs::write(&file, "nothing").expect("written");
        let error = form(&good, Start::Seed).expect_err("no weights").to_string();
        assert!(error.contains("start from the network's weights: reading weights as safetensors"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn classes_that_do_not_fit_are_a_configuration_fault() {
    let formed =
        on_thread(|runtime| device(NOBODY, runtime).form(&seat(0, 1), &data(&["a", "b", "c"]), &Start::Seed)).await;
    let error = formed.expect_err("three classes");
    assert_eq!(
        error,
        WorkerError::Configuration(
            "the recipe is refused: model.classes is 2, but the data set has 3 classes".to_owned()
        )
    );
}

#[tokio::test]
async fn a_gpu_that_is_not_there_is_named() {
    let error = find(DeviceChoice::Cuda(99)).expect_err("no such GPU").to_string();
    assert!(error.starts_with("--device is cuda:99, but "), "{error}");
}

/// The coordinator's service over a store in memory.
struct Service(Arc<MemoryStore>);

async fn blocking<R: Send + 'static>(
    job: impl FnOnce() -> Result<R, collective::StoreError> + Send + 'static,
) -> Result<R, Status> {
    let done = tokio::task::spawn_blocking(job).await.expect("no panic");
    done.map_err(|error| Status::deadline_exceeded(error.to_string()))
}

#[tonic::async_trait]
impl Rendezvous for Service {
    async fn set(&self, request: Request<SetRequest>) -> Result<Response<SetReply>, Status> {
        let (store, SetRequest { key, value, .. }) = (Arc::clone(&self.0), request.into_inner());
        blocking(move || store.set(&key, &value)).await.map(|()| Response::new(SetReply {}))
    }

    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetReply>, Status> {
        let (store, GetRequest { key, timeout_ms, .. }) = (Arc::clone(&self.0), request.into_inner());
        let value = blocking(move || store.get(&key, std::time::Duration::from_millis(timeout_ms))).await?;
        Ok(Response::new(GetReply { value: value.into() }))
    }

    async fn add(&self, request: Request<AddRequest>) -> Result<Response<AddReply>, Status> {
        let (store, AddRequest { key, amount, .. }) = (Arc::clone(&self.0), request.into_inner());
        blocking(move || store.add(&key, amount)).await.map(|sum| Response::new(AddReply { sum }))
    }

    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckReply>, Status> {
        let (store, keys) = (Arc::clone(&self.0), request.into_inner().keys);
        let all_there = keys.iter().all(|key| store.check(key).unwrap_or_default());
        Ok(Response::new(CheckReply { all_there }))
    }
}

async fn coordinator() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let service = proto::connect::serve_rendezvous(Service(Arc::default()));
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    url
}

#[tokio::test]
async fn two_devices_that_meet_at_the_coordinator_hold_the_bytes_of_one() {
    let url = coordinator().await;
    let one_of_two = |rank: u32, url: String| {
        on_thread(move |runtime| {
            let mut device = device(&url, runtime);
            device.form(&seat(rank, 2), &data(&["a", "b"]), &Start::Seed).expect("meets the other");
            device.step(vec![batch(rank as u8)], Wish::default()).expect("steps");
            device.snapshot().expect("a snapshot")
        })
    };
    let (first, second) = tokio::join!(one_of_two(0, url.clone()), one_of_two(1, url));
    let alone = on_thread(|runtime| {
        let mut device = device(NOBODY, runtime);
        device.form(&seat(0, 1), &data(&["a", "b"]), &Start::Seed).expect("alone");
        device.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        device.snapshot().expect("a snapshot")
    })
    .await;
    assert_eq!(first, second);
    assert_eq!(first, alone);
}

fn later(seat: Seat, generation: u64) -> Seat {
    Seat { generation, ..seat }
}

#[tokio::test]
async fn a_newcomer_takes_the_survivors_state_and_both_go_on_as_one_would() {
    let url = coordinator().await;
    let (recipe, both) = (RECIPE.replace("[optim]", "[optim]\nema_decay = 0.9"), data(&["a", "b"]));
    let made = |url: String, runtime: Handle, recipe: &str| {
        Device::new(&briefing(recipe), DeviceChoice::Cpu, &url, runtime).expect("builds")
    };
    let (to_survivor, to_newcomer) = ((url.clone(), recipe.clone(), both.clone()), (url, recipe.clone(), both.clone()));
    let survivor = on_thread(move |runtime| {
        let (url, recipe, data) = to_survivor;
        let mut device = made(url, runtime, &recipe);
        assert_eq!(device.halt(), None, "nothing is held yet");
        device.form(&seat(0, 1), &data, &Start::Seed).expect("alone");
        device.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        assert_eq!(device.halt(), Some(1));
        // The survivor has the second rank: no rank is special.
        assert_eq!(device.form(&later(seat(1, 2), 2), &data, &Start::Survivor(1)), Ok(1));
        device.step(vec![batch(3)], Wish::default()).expect("steps");
        device.snapshot().expect("a snapshot")
    });
    let newcomer = on_thread(move |runtime| {
        let (url, recipe, data) = to_newcomer;
        let mut device = made(url, runtime, &recipe);
        assert_eq!(device.form(&later(seat(0, 2), 2), &data, &Start::Survivor(1)), Ok(1));
        device.step(vec![batch(2)], Wish::default()).expect("steps");
        device.snapshot().expect("a snapshot")
    });
    let (survivor, newcomer) = tokio::join!(survivor, newcomer);
    let alone = on_thread(move |runtime| {
        let mut device = made(NOBODY.to_owned(), runtime, &recipe);
        device.form(&seat(0, 1), &both, &Start::Seed).expect("alone");
        device.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        device.step(vec![batch(2), batch(3)], Wish::default()).expect("steps");
        device.snapshot().expect("a snapshot")
    })
    .await;
    assert!(survivor.contains_key(checkpoint::layout::AVERAGE), "the average is part of the state");
    assert!(survivor == newcomer && survivor == alone);
}

#[tokio::test]
async fn a_source_that_holds_nothing_says_so() {
    let formed =
        on_thread(|runtime| device(NOBODY, runtime).form(&seat(0, 1), &data(&["a", "b"]), &Start::Survivor(0))).await;
    let error = formed.expect_err("nothing to go on with");
    assert_eq!(error.to_string(), "others are to take over this worker's state, but it holds none");
}

#[tokio::test]
async fn who_survives_a_group_that_never_formed_still_holds_its_state() {
    on_thread(|runtime| {
        let mut device = device(NOBODY, runtime);
        device.form(&seat(0, 1), &data(&["a", "b"]), &Start::Seed).expect("alone");
        device.step(vec![batch(0), batch(1)], Wish::default()).expect("steps");
        let error = device.form(&later(seat(0, 2), 2), &data(&["a", "b"]), &Start::Survivor(0)).expect_err("nobody");
        assert!(matches!(error, WorkerError::Collective(_)), "{error}");
        assert_eq!(device.halt(), Some(1));
    })
    .await;
}
