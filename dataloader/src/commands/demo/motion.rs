//! The eight camera motions as filters of the `ffmpeg` program. Pure: equal draws give equal filters.
//!
//! There is one camera for all classes: a square window over the footage, given by its centre, half its side and its
//! angle as functions of the frame number, sampled with sub-pixel precision by ffmpeg's `perspective`. All classes draw
//! the same numbers for size, tilt and place, so that no single frame shows the class: only the motion does.

use std::f64::consts::PI;
use std::fmt::Write;

use clips::transform::Stream;

/// Frames of a clip.
pub const CLIP_FRAMES: u32 = 36;
/// Frames a second of all clips.
pub const RATE: u32 = 30;
/// Side of a clip, pixels.
const CLIP_SIDE: u32 = 128;
/// The last frame's number.
const LAST: f64 = (CLIP_FRAMES - 1) as f64;

/// What the camera does; also the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Motion {
    /// One frame, held.
    Still,
    /// The window moves left.
    PanLeft,
    /// The window moves right.
    PanRight,
    /// The window shrinks.
    ZoomIn,
    /// The window grows.
    ZoomOut,
    /// The window turns, either way.
    Rotate,
    /// The window trembles.
    Shake,
    /// The window rests, the footage runs at six times its speed.
    FastPlay,
}

impl Motion {
    /// All, in the order of their labels.
    pub const ALL: [Self; 8] = [
        Self::Still,
        Self::PanLeft,
        Self::PanRight,
        Self::ZoomIn,
        Self::ZoomOut,
        Self::Rotate,
        Self::Shake,
        Self::FastPlay,
    ];

    /// The class's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Still => "still",
            Self::PanLeft => "pan_left",
            Self::PanRight => "pan_right",
            Self::ZoomIn => "zoom_in",
            Self::ZoomOut => "zoom_out",
            Self::Rotate => "rotate",
            Self::Shake => "shake",
            Self::FastPlay => "fast_play",
        }
    }
}

/// Prepared footage, as large as it will be used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stage {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// Frames.
    pub frames: u32,
    /// Where the action is, as a share of width and height.
    pub centre: (f64, f64),
}

/// One clip to cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Cut {
    /// Where to start in the footage, seconds.
    pub start_s: f64,
    /// The filter.
    pub filter: String,
}

/// What a motion does to the resting window. Expressions are ffmpeg's; `on` is the frame's number.
struct Camera {
    half: String,
    angle: String,
    dx: String,
    dy: String,
    /// How far the centre moves, pixels.
    reach: (f64, f64),
    /// How much the window outgrows its side.
    grow: f64,
}

/// Numbers between 0 and 1, the same ones in the same order for each class.
struct Draws {
    side: f64,
    tilt: f64,
    u: [f64; 5],
    sign: f64,
    x: f64,
    y: f64,
    start: f64,
}

impl Draws {
    fn new(seed: u64) -> Self {
        let mut random = Stream::new(seed);
        let mut draw = || random.unit();
        let (side, tilt) = (draw(), draw());
        let u = [draw(), draw(), draw(), draw(), draw()];
        let sign = if draw() < 0.5 { 1.0 } else { -1.0 };
        Self { side, tilt, u, sign, x: draw(), y: draw(), start: draw() }
    }
}

impl Cut {
    /// The clip of a seed.
    pub fn new(motion: Motion, stage: &Stage, seed: u64) -> Self {
        let draws = Draws::new(seed);
        let short = f64::from(stage.width.min(stage.height));
        let side = (0.46 + 0.14 * draws.side) * short;
        let camera = Camera::new(motion, side, &draws);
        // 1.13 = cos 8° + sin 8°: room for the tilt.
        let half = side / 2.0 * 1.13 * camera.grow;
        let (bx, by) = (half + camera.reach.0, half + camera.reach.1);
        let cx = place(stage.centre.0, bx, (stage.width, draws.x));
        let cy = place(stage.centre.1, by, (stage.height, draws.y));
        let view = crop_of(stage, (cx, cy), bx.max(by));
        let mut filter = String::new();
        if motion == Motion::Still {
            let _ = write!(filter, "loop=loop={}:size=1:start=0,setpts=N/{RATE}/TB,", CLIP_FRAMES - 1);
        }
        let (side, left, top) = view;
        let _ = write!(filter, "crop={side}:{side}:{left}:{top},");
        filter.push_str(&camera.perspective(cx - f64::from(left), cy - f64::from(top)));
        let _ = write!(filter, ",scale={CLIP_SIDE}:{CLIP_SIDE}:flags=bilinear,format=yuv420p");
        let starts = stage.frames.saturating_sub(CLIP_FRAMES) + 1;
        let start = (draws.start * f64::from(starts)).floor();
        Self { start_s: ((start - 0.25) / f64::from(RATE)).max(0.0), filter }
    }
}

impl Camera {
    fn new(motion: Motion, side: f64, draws: &Draws) -> Self {
        let [u1, u2, u3, u4, u5] = draws.u;
        let tilt = (16.0 * draws.tilt - 8.0) * PI / 180.0;
        // Time, -1/2 to 1/2 over the clip.
        let s = format!("((on-{})/{LAST})", LAST / 2.0);
        let zero = || "0".to_owned();
        let rest = Self {
            half: format!("{:.3}", side / 2.0),
            angle: format!("{tilt:.5}"),
            dx: zero(),
            dy: zero(),
            reach: (0.0, 0.0),
            grow: 1.0,
        };
        match motion {
            Motion::Still | Motion::FastPlay => rest,
            Motion::PanLeft | Motion::PanRight => {
                let way = if motion == Motion::PanRight { 1.0 } else { -1.0 };
                let far = (0.25 + 0.25 * u1) * side * way;
                let drift = (u2 - 0.5) * 0.06 * side;
                let (dx, dy) = (format!("({far:.3}*{s})"), format!("({drift:.3}*{s})"));
                Self { dx, dy, reach: (far.abs() / 2.0, 0.0), ..rest }
            }
            Motion::ZoomIn | Motion::ZoomOut => {
                let way = if motion == Motion::ZoomOut { 1.0 } else { -1.0 };
                let rate = (0.35 + 0.30 * u1) * way;
                let half = format!("({:.3}*exp({rate:.4}*{s}))", side / 2.0);
                Self { half, grow: (rate.abs() / 2.0).exp(), ..rest }
            }
            Motion::Rotate => {
                let turn = draws.sign * (25.0 + 25.0 * u1) * PI / 180.0;
                Self { angle: format!("({tilt:.5}+{turn:.5}*{s})"), grow: 1.12, ..rest }
            }
            Motion::Shake => {
                let far = (0.05 + 0.05 * u1) * side;
                let wave = |period: f64, phase: f64| {
                    let pace = 2.0 * PI / (10.0 + 6.0 * period);
                    format!("({far:.3}*sin({pace:.5}*on+{:.4}))", 2.0 * PI * phase)
                };
                Self { dx: wave(u2, u4), dy: wave(u3, u5), reach: (far, far), ..rest }
            }
        }
    }

    /// The filter that shows the window, whose centre rests at (x, y).
    fn perspective(&self, x: f64, y: f64) -> String {
        let (x, y) = (format!("{x:.3}+{}", self.dx), format!("{y:.3}+{}", self.dy));
        let c = format!("{}*cos({})", self.half, self.angle);
        let s = format!("{}*sin({})", self.half, self.angle);
        let corners = [
            ("x0", format!("{x}-{c}+{s}")),
            ("y0", format!("{y}-{s}-{c}")),
            ("x1", format!("{x}+{c}+{s}")),
            ("y1", format!("{y}+{s}-{c}")),
            ("x2", format!("{x}-{c}-{s}")),
            ("y2", format!("{y}-{s}+{c}")),
            ("x3", format!("{x}+{c}-{s}")),
            ("y3", format!("{y}+{s}+{c}")),
        ];
        let corners: Vec<String> = corners.into_iter().map(|(name, at)| format!("{name}='{at}'")).collect();
        format!("perspective={}:interpolation=linear:sense=source:eval=frame", corners.join(":"))
    }
}

/// The window's centre on one axis: near the action, and never so near the edge that the window leaves the footage.
fn place(action: f64, room: f64, (size, draw): (u32, f64)) -> f64 {
    let size = f64::from(size);
    let wanted = action * size + (draw - 0.5) * 0.5 * size;
    if room > size - room { size / 2.0 } else { wanted.clamp(room, size - room) }
}

/// The square around the window that is cut out first (side, left, top), all even: chroma has half the resolution.
fn crop_of(stage: &Stage, (cx, cy): (f64, f64), room: f64) -> (u32, u32, u32) {
    let even = |x: u32| x - x % 2;
    let most = even(stage.width.min(stage.height));
    let side = ((2.0 * room) as u32 + 4).next_multiple_of(2).min(most);
    let corner = |centre: f64, size: u32| {
        let free = f64::from(size - side);
        even((centre - f64::from(side) / 2.0).clamp(0.0, free) as u32)
    };
    (side, corner(cx, stage.width), corner(cy, stage.height))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const STAGE: Stage = Stage { width: 384, height: 216, frames: 100, centre: (0.5, 0.5) };

    #[test]
    fn equal_seeds_give_equal_cuts() {
        assert_eq!(Cut::new(Motion::Shake, &STAGE, 5), Cut::new(Motion::Shake, &STAGE, 5));
        assert_ne!(Cut::new(Motion::Shake, &STAGE, 5), Cut::new(Motion::Shake, &STAGE, 6));
    }

    #[test]
    fn every_motion_has_its_own_filter_and_name() {
        let filters: HashSet<String> = Motion::ALL.iter().map(|m| Cut::new(*m, &STAGE, 5).filter).collect();
        // Fast play rests like nothing else moves; what differs is the footage.
        assert_eq!(filters.len(), 8);
        let names: HashSet<&str> = Motion::ALL.iter().map(|m| m.name()).collect();
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn a_pan_goes_the_way_it_says() {
        let speed = |motion| {
            let filter = Cut::new(motion, &STAGE, 9).filter;
            let after = filter.split_once("+(").expect("a moving centre").1;
            after.split_once('*').expect("times time").0.parse::<f64>().expect("a number")
        };
        assert!(speed(Motion::PanRight) > 0.0 && speed(Motion::PanLeft) < 0.0);
        assert_eq!(speed(Motion::PanRight), -speed(Motion::PanLeft));
    }

    #[test]
    fn no_cut_leaves_the_footage() {
        for stage in [STAGE, Stage { width: 216, height: 384, frames: 36, centre: (0.45, 0.5) }] {
            for motion in Motion::ALL {
                for seed in 0..200 {
                    let cut = Cut::new(motion, &stage, seed);
                    let crop = cut.filter.split_once("crop=").expect("crops").1.split(',').next().expect("has an end");
                    let [w, h, x, y] =
                        crop.split(':').map(|n| n.parse::<u32>().expect("a number")).collect::<Vec<_>>()[..]
                    else {
                        panic!("{crop}")
                    };
                    assert!(x + w <= stage.width && y + h <= stage.height && w == h, "{motion:?} {seed}: {crop}");
                    assert!(w % 2 == 0 && x % 2 == 0 && y % 2 == 0, "{crop}");
                    let last_start = f64::from(stage.frames - CLIP_FRAMES) / f64::from(RATE);
                    assert!((0.0..=last_start).contains(&cut.start_s), "{}", cut.start_s);
                }
            }
        }
    }
}
