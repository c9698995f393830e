use clips::*;
use std::time::Instant;
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let mut files = vec![];
    for class in std::fs::read_dir(&dir).unwrap() {
        for f in std::fs::read_dir(class.unwrap().path()).unwrap() {
            files.push(bytes::Bytes::from(std::fs::read(f.unwrap().path()).unwrap()));
        }
    }
    files.truncate(400);
    let config = DataConfig {
        train: "a".into(),
        val: "b".into(),
        frames: 8,
        stride: 4,
        short_side: [64, 72],
        crop: 56,
        flip: false,
        mean: [0.45; 3],
        std: [0.2; 3],
    };
    let mut s = Scaler::default();
    let n = files.len() as f64;
    let t = Instant::now();
    for (i, f) in files.iter().enumerate() {
        render(&config, f.clone(), Some(i as u64), &mut s).unwrap();
    }
    println!("render {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / n);
    let t = Instant::now();
    let videos: Vec<_> = files.iter().map(|f| Video::open(f.clone()).unwrap()).collect();
    println!("open {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / n);
    let t = Instant::now();
    for v in &videos {
        v.survey().unwrap();
    }
    println!("decode all, unscaled {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / n);
    let all: Vec<u32> = (0..36).collect();
    let t = Instant::now();
    let frames: Vec<_> = videos.iter().map(|v| v.decode(&all, 72, &mut s).unwrap()).collect();
    println!("decode all, scaled {:.3} ms, {} bytes", t.elapsed().as_secs_f64() * 1e3 / n, frames[0].len_bytes());
    let t = Instant::now();
    let mut out = vec![0; config.clip_bytes()];
    for (i, f) in frames.iter().enumerate() {
        View::train(&config, i as u64).write(&config, f, &mut out);
    }
    println!("view {:.3} ms", t.elapsed().as_secs_f64() * 1e3 / n);
}
