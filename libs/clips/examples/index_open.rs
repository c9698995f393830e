//! How long an index of 650,000 clips takes to open, and how much memory it needs: `cargo run --release -p vared-clips
//! --example index_open`. Each clip has an outline of 300 frames whose sizes are drawn at random, as in a video.

use std::cell::Cell;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use clips::index::{End, Footage, Footer};
use clips::transform::Stream;
use clips::{Clip, Index};

const CLIPS: u64 = 650_000;
const FRAMES: usize = 300;

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/tmp/index_open.parquet".to_owned());
    // In two runs, so that the peak is that of opening alone.
    if Path::new(&path).is_file() { open(&path) } else { write(&path) }
}

fn write(path: &str) -> std::io::Result<()> {
    let mut random = Stream::new(1);
    let clips = (0..CLIPS).map(|n| clip(n, &mut random)).collect();
    let classes = (0..400).map(|n| format!("class {n}")).collect();
    let index = Index::new(classes, clips).expect("valid");
    let start = Instant::now();
    std::fs::write(path, index.to_bytes())?;
    println!("written in {:?}: {} bytes. Run again to open it", start.elapsed(), std::fs::metadata(path)?.len());
    Ok(())
}

fn clip(number: u64, random: &mut Stream) -> Clip {
    // The shape of an outline: two bytes of size a packet, one of time, and a checksum a group.
    let mut outline = vec![1; FRAMES];
    outline.extend((0..FRAMES).flat_map(|_| [0x80 | random.draw() as u8, random.draw() as u8 & 0x3f]));
    outline.extend((0..FRAMES).map(|frame| [6, 2, 1, 3][frame % 4]));
    outline.extend((0..FRAMES / 16 * 4).map(|_| random.draw() as u8));
    let footage = Footage {
        container: "mp4".to_owned(),
        codec: "h264".to_owned(),
        pixel_format: "yuv420p".to_owned(),
        fps: Some(30.0),
        duration_seconds: Some(10.0),
        outline,
    };
    Clip {
        key: format!("class_{}/{:016x}_{number:06}", number % 400, random.draw()),
        label: (number % 400) as u32,
        object: format!("shard-{:05}-0123456789ab.tar", number / 400),
        offset_bytes: number % 400 * 1_000_000,
        length_bytes: 1_000_000 + random.draw() % 100_000,
        crc32c: random.draw() as u32,
        frames: FRAMES as u32,
        width: 340,
        height: 256,
        groups: 19,
        footage: Some(Box::new(footage)),
    }
}

fn open(path: &str) -> std::io::Result<()> {
    let before = memory_bytes();
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let read_bytes = Cell::new(0);
    let read = |start: u64, end: u64| {
        let mut bytes = vec![0; (end - start) as usize];
        read_bytes.set(read_bytes.get() + bytes.len());
        file.read_exact_at(&mut bytes, start).map(|()| Bytes::from(bytes))
    };
    let start = Instant::now();
    let mut wanted = 256 << 10;
    let footer = loop {
        match Footer::parse(&read(length - wanted, length)?, length).expect("own output") {
            End::Whole(footer) => break footer,
            End::Longer(more) => wanted = more,
        }
    };
    let ranges = footer.ranges();
    let parts = ranges.iter().map(|range| read(range.start, range.end)).collect::<std::io::Result<_>>()?;
    let (index, outlines) = footer.open(parts).expect("own output");
    let took = start.elapsed();
    let (held, most) = memory_bytes();
    println!("opened {} clips in {took:?}, {} of {length} bytes read", index.clips.len(), read_bytes.get());
    println!("memory: {} MB held, {} MB at most", (held - before.0) / 1_000_000, (most - before.0) / 1_000_000);
    let start = Instant::now();
    let (page, range) = outlines.page_of(CLIPS / 2);
    let count = outlines.read(page, read(range.start, range.end)?).expect("own output").len();
    println!("one page: {count} outlines, {} bytes, in {:?}", range.end - range.start, start.elapsed());
    Ok(())
}

/// Memory of this process: now, and the most that it ever was.
fn memory_bytes() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}
