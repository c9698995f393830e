//! Decoders as processes: what is lost when one is lost.

use std::ops::ControlFlow;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use clips::{DataConfig, Placement, Scaler, Video, VideoError, ViewConfig};
use dataloader::config::Config;
use dataloader::data::recipe;
use dataloader::decoder::wire::Which;
use dataloader::decoder::{Death, Decoder, Fault, Settings};
use proto::coordinator::from_member::Event;
use proto::loader::Split;
use runtime::exit::{Code, code_of};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, test_kill_process};

use crate::footage::File::{Hungry, Video as Good};
use crate::footage::{hungry, videos};
use crate::health::figures;
use crate::run::{LONG, Run, config, decoder, recipe as text};

fn data() -> DataConfig {
    recipe::parse(&text()).expect("valid").data
}

fn start(settings: Settings) -> Decoder {
    Decoder::start(settings).expect("starts")
}

fn process(decoder: &Decoder) -> Pid {
    Pid::from_raw(decoder.process_id().expect("runs") as i32).expect("not 0")
}

fn alone(file: &Bytes, data: &DataConfig, seed: Option<u64>) -> Vec<u8> {
    clips::render(data, file.clone(), seed, &mut Scaler::default()).expect("renders")
}

#[test]
fn another_process_gives_the_same_bytes() {
    let mut decoder = start(decoder());
    let augmented = text() + "erasing = { area = [0.1, 0.3333333333333333], probability = 0.7 }\n[data.rand_augment]\n";
    let augmented = recipe::parse(&augmented).expect("valid").data;
    for (n, file) in videos().iter().enumerate() {
        for seed in [None, Some(n as u64), Some(u64::MAX)] {
            for data in [&data(), &augmented] {
                assert_eq!(decoder.clip(file, data, seed), Ok(alone(file, data, seed)), "video {n}, seed {seed:?}");
            }
        }
    }
    let whole = decoder.frames(&videos()[1], 40, Which::All).expect("decodes");
    let all: Vec<u32> = (0..30).collect();
    let expected = Video::open(videos()[1].clone()).expect("opens").decode(&all, 40, &mut Scaler::default());
    assert_eq!(whole, expected.expect("decodes"));
    let (known, survey) = decoder.survey(&videos()[1]).expect("decodes");
    assert_eq!((known.frames, known.width, known.height, known.footage.fps), (30, 96, 64, Some(25.0)));
    assert_eq!((survey.frames, survey.good), (30, 30));
    let broken = decoder.survey(&videos()[1].slice(..900)).expect_err("cut off");
    assert!(matches!(broken, Fault::Video(VideoError::Truncated { .. })), "{broken}");
}

#[test]
fn a_clip_outlives_the_process_that_decodes_it() {
    let mut decoder = start(decoder());
    for signal in [Signal::KILL, Signal::ILL, Signal::ABORT] {
        let lost = process(&decoder);
        kill_process(lost, signal).expect("it runs");
        let pixels = decoder.clip(&videos()[0], &data(), Some(3)).expect("another process does it");
        assert_eq!(pixels, alone(&videos()[0], &data(), Some(3)));
        assert_ne!(process(&decoder), lost);
        assert!(test_kill_process(lost).is_err(), "it is waited for: no zombie stays");
    }
}

#[test]
fn a_process_that_hangs_is_stopped() {
    let mut decoder = start(Settings { deadline: Some(Duration::from_secs(5)), ..decoder() });
    let lost = process(&decoder);
    kill_process(lost, Signal::STOP).expect("it runs");
    let pixels = decoder.clip(&videos()[0], &data(), None).expect("another process does it");
    assert_eq!(pixels, alone(&videos()[0], &data(), None));
    assert!(test_kill_process(lost).is_err(), "the one that hangs is gone");
}

#[test]
fn a_clip_that_takes_too_long_is_given_up() {
    let limit = Duration::from_millis(1);
    let mut decoder = start(Settings { deadline: Some(limit), ..decoder() });
    let fault = decoder.clip(&hungry(), &data(), None).expect_err("a thousand times as long");
    assert_eq!(fault, Fault::Died(Death::Late(limit)));
    assert_eq!(fault.to_string(), "the decoder failed on it: its process was stopped after 0.001 s without an answer");
}

#[test]
fn a_clip_that_eats_memory_is_given_up() {
    let mut decoder = start(Settings { memory_bytes: 64 << 20, ..decoder() });
    let fault = decoder.frames(&hungry(), 64, Which::All).expect_err("more than there may be");
    assert!(matches!(&fault, Fault::Died(Death::Ended(how)) if how.contains("signal: 6 (SIGABRT)")), "{fault}");
    assert_eq!(decoder.clip(&videos()[0], &data(), None), Ok(alone(&videos()[0], &data(), None)), "the next is shown");
}

#[test]
fn views_stop_where_the_process_is_lost() {
    let mut decoder = start(decoder());
    let config = ViewConfig {
        frames: 4,
        stride: 2,
        target_fps: None,
        placement: Placement::Uniform(5),
        crops: 3,
        short_side: 32,
        crop: 24,
    };
    let (id, mut views) = (process(&decoder), 0);
    let outcome = decoder.views(
        &videos()[0],
        &config,
        (&mut |_| ControlFlow::Continue(()), &mut |_| {
            views += 1;
            kill_process(id, Signal::ILL).expect("it runs");
            ControlFlow::Continue(())
        }),
    );
    let fault = outcome.expect_err("lost");
    assert!(fault.to_string().contains("signal: 4 (SIGILL)"), "{fault}");
    assert!((1..5).contains(&views), "{views} of 5 views were shown");
    assert_eq!(decoder.clip(&videos()[0], &data(), None), Ok(alone(&videos()[0], &data(), None)), "the next is shown");
}

#[test]
fn what_cannot_be_started_is_named() {
    let of = |program: &str| {
        let settings = Settings { program: program.into(), ..decoder() };
        Decoder::start(settings).err().expect("no decoder").to_string()
    };
    assert_eq!(
        of("/bin/false"),
        "no decoder can be started (/bin/false decode-child): its process ended: exit status: 1"
    );
    assert!(of("/no/such/program").contains("No such file or directory"), "{}", of("/no/such/program"));
    // Says something, but not what a decoder says.
    assert!(of("/bin/echo").starts_with("no decoder can be started (/bin/echo decode-child): "), "{}", of("/bin/echo"));
}

#[test]
fn a_decoder_ends_with_whoever_holds_it() {
    let decoder = start(decoder());
    let id = process(&decoder);
    drop(decoder);
    assert!(test_kill_process(id).is_err(), "it is gone, and waited for");
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let has_parent = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name, which may hold anything but ends with the last bracket: state, parent.
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        rest.split_whitespace().nth(1) == Some(&parent.to_string())
    };
    ids.filter(has_parent).collect()
}

#[test]
fn no_decoder_outlives_a_loader_that_is_killed() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let coordinator = format!("http://{}", nobody.local_addr().expect("bound"));
    let mut loader = Command::new(env!("CARGO_BIN_EXE_dataloader"))
        .args(["serve", "--decode-threads", "3", "--coordinator", &coordinator])
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    // Accepted and never answered: it waits while its decoders start.
    let decoders = loop {
        let started = children(loader.id());
        match started.len() {
            3 => break started,
            _ => assert!(loader.try_wait().expect("a child").is_none(), "it runs"),
        }
    };
    let open = |id: &u32| pidfd_open(Pid::from_raw(*id as i32).expect("not 0"), PidfdFlags::empty());
    let watched: Vec<_> = decoders.iter().map(|id| open(id).expect("it runs")).collect();
    loader.kill().expect("it runs");
    loader.wait().expect("a child");
    for decoder in &watched {
        let ended = poll(&mut [PollFd::new(decoder, PollFlags::IN)], Some(&LONG.try_into().expect("short")));
        assert_eq!(ended, Ok(1), "its decoders end with it");
    }
}

#[tokio::test]
async fn a_clip_that_its_decoder_dies_of_is_replaced_like_any_broken_one() {
    static FILES: OnceLock<Vec<crate::footage::File>> = OnceLock::new();
    let files = FILES.get_or_init(|| vec![Good(0), Good(1), Hungry, Good(3)]);
    let limits = Settings { memory_bytes: 64 << 20, ..decoder() };
    let mut run = Run::start_with("hungry", (files, &[Good(0)]), Config { decoder: limits, ..config() }).await;
    let mut worker = run.worker().await;
    let batch = worker.batch(Split::Train, 0, 4).await;
    let [replaced] = &batch.replaced[..] else { panic!("one clip is broken: {:?}", batch.replaced) };
    assert_eq!(replaced.key, "clip-002");
    assert!(replaced.reason.starts_with("the decoder failed on it: its process ended: signal: 6 (SIGABRT)"));
    let clip = (batch.frames * batch.height * batch.width * 3) as usize;
    for (position, pixels) in (0..4).zip(batch.pixels_nthwc.chunks(clip)) {
        let shown = batch.keys[position as usize].strip_prefix("clip-").expect("a key").parse().expect("a number");
        assert_eq!(pixels, run.rendered(true, position, shown), "position {position}");
    }
    loop {
        if let Event::Quarantined(told) = run.event().await {
            assert_eq!((told.key.as_str(), &told.reason), ("clip-002", &replaced.reason));
            break;
        }
    }
    assert_eq!(figures(&run).await["vared_loader_decoders_lost_total"], 2.0, "it was tried twice");
    run.leave().await;
}

/// A program that is a decoder for a second of processor time, and writes a line each time it is started.
fn short_lived(folder: &std::path::Path) -> std::path::PathBuf {
    let (program, decoder) = (folder.join("short-lived"), env!("CARGO_BIN_EXE_dataloader"));
    let script = format!("#!/bin/sh\necho >> {}/starts\nulimit -t 1\nexec {decoder} \"$@\"\n", folder.display());
    // Written by another process: nothing can be started that this one might still have open for writing.
    let mut shell = Command::new("sh");
    let written = shell.args(["-c", r#"printf %s "$1" > "$0" && chmod +x "$0""#]).arg(&program).arg(script);
    assert!(written.status().expect("runs").success());
    program
}

#[tokio::test]
async fn batches_are_the_same_while_decoders_die_one_after_the_other() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let bare = Config { frame_cache_bytes: 0, ..config() };
    let dying = Settings { program: short_lived(folder.path()), ..decoder() };
    let run = Run::start_with("sound", (&[Good(0), Hungry, Good(1), Hungry], &[Good(2)]), bare.clone()).await;
    let other =
        Run::join(run.store.clone(), (run.train.clone(), run.val.clone()), Config { decoder: dying, ..bare }).await;
    let (mut sound, mut shaken) = (run.worker().await, other.worker().await);
    let starts = || std::fs::read(folder.path().join("starts")).expect("written").len();
    let mut first = 0;
    // Two at the beginning; each further one is a clip that was cut off in the middle.
    while starts() < 4 {
        let (one, two) = (sound.batch(Split::Train, first, 40).await, shaken.batch(Split::Train, first, 40).await);
        assert!(one == two, "from position {first}");
        assert_eq!(two.replaced, [], "no clip is blamed");
        first += 40;
    }
    run.leave().await;
    other.leave().await;
}

#[tokio::test]
async fn decoders_that_are_lost_one_after_the_other_end_the_stream() {
    let files: Vec<_> = (0..40).map(|_| Hungry).collect();
    let hasty = Settings { deadline: Some(Duration::from_millis(1)), ..decoder() };
    let run = Run::start_with("hasty", (&files, &[Good(0)]), Config { decoder: hasty, ..config() }).await;
    let mut worker = run.worker().await;
    worker.say(1, Split::Train, (0, 40)).await;
    let status = worker.hear().await.expect_err("too many");
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert!(status.message().starts_with("5 of the last 5 clips are broken: the decoder is at fault"), "{status}");
    run.leave().await;
}

#[tokio::test]
async fn without_decoders_there_is_no_loader() {
    let none = Settings { program: "/bin/false".into(), ..decoder() };
    let run = Run::start_with("none", (&[Good(0)], &[Good(0)]), Config { decoder: none, ..config() }).await;
    let outcome = tokio::time::timeout(LONG, run.loader).await.expect("in time").expect("no panic");
    let error = outcome.expect_err("it can't start");
    assert_eq!(code_of(&error), Code::Failed);
    let line = runtime::exit::one_line(&error);
    assert!(line.contains("no decoder can be started (/bin/false decode-child)"), "{line}");
}
