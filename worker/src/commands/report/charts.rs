//! Drawings of a report, as SVG inside of the page: colours come from its style sheet, so that they are right in the dark
//! as well.

use maud::{Markup, html};

/// Size of a drawing in its own units; text of 13 is readable at a phone's width.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 240.0;
/// Room for numbers at the left and below, and for dots at the edges.
const LEFT: f64 = 46.0;
const BELOW: f64 = 36.0;
const EDGE: f64 = 12.0;

/// A range of numbers along an axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// At the origin.
    pub from: f64,
    /// At the end.
    pub to: f64,
    /// What it is.
    pub title: &'static str,
    /// Digits after the point.
    pub digits: usize,
}

/// A named point.
#[derive(Debug, Clone)]
pub struct Dot {
    /// Its name.
    pub name: String,
    /// Where.
    pub at: (f64, f64),
    /// Class of the style sheet.
    pub class: &'static str,
}

/// Numbers that belong together, one a layer; a layer without one is left out.
pub struct Series<'a> {
    /// Its name.
    pub name: &'static str,
    /// Class of the style sheet.
    pub class: &'static str,
    /// By layer.
    pub values: &'a [Option<f64>],
}

impl Axis {
    /// Covers the values with some room, but not less than nothing.
    pub fn around(values: impl Iterator<Item = f64> + Clone, title: &'static str, digits: usize) -> Self {
        let (low, high) = (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max));
        let room = ((high - low) * 0.15).max(high.abs() * 0.01).max(1e-9);
        Self { from: (low - room).max(0.0), to: high + room, title, digits }
    }

    fn share(&self, value: f64) -> f64 {
        (value - self.from) / (self.to - self.from)
    }

    fn ticks(&self) -> [f64; 3] {
        [0.0, 0.5, 1.0].map(|share| self.from + share * (self.to - self.from))
    }

    fn text(&self, value: f64) -> String {
        format!("{value:.*}", self.digits)
    }
}

fn x(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.share(value) * (WIDTH - LEFT - EDGE)
}

fn y(axis: &Axis, value: f64) -> f64 {
    HEIGHT - BELOW - axis.share(value) * (HEIGHT - BELOW - EDGE)
}

/// A drawing with numbers at its axes.
fn frame((across, up): (&Axis, &Axis), label: &str, inside: &Markup) -> Markup {
    let (right, bottom) = (WIDTH - EDGE, HEIGHT - BELOW);
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(label) {
            @for tick in up.ticks() {
                line.grid x1=(LEFT) x2=(right) y1=(px(y(up, tick))) y2=(px(y(up, tick))) {}
                text.number x=(LEFT - 6.0) y=(px(y(up, tick) + 4.0)) text-anchor="end" { (up.text(tick)) }
            }
            @for (tick, anchor) in across.ticks().into_iter().zip(["start", "middle", "end"]) {
                text.number x=(px(x(across, tick))) y=(bottom + 16.0) text-anchor=(anchor) { (across.text(tick)) }
            }
            text.axis x=(right) y=(bottom + 31.0) text-anchor="end" { (across.title) }
            text.axis x=(LEFT) y=(EDGE - 2.0) { (up.title) }
            (inside)
        }
    }
}

/// Points in a plane, each with its name.
pub fn scatter((across, up): (Axis, Axis), dots: &[Dot]) -> Markup {
    let inside = html! {
        @for dot in dots {
            @let (cx, cy) = (x(&across, dot.at.0), y(&up, dot.at.1));
            @let is_right = cx > WIDTH * 0.6;
            circle.(dot.class) cx=(px(cx)) cy=(px(cy)) r="6" { title { (dot.name) } }
            text.name x=(px(if is_right { cx - 10.0 } else { cx + 10.0 })) y=(px(cy + 4.0))
                text-anchor=(if is_right { "end" } else { "start" }) { (dot.name) }
        }
    };
    frame((&across, &up), "cost against accuracy", &inside)
}

/// How many of two kinds fall into each of `BINS` parts of an axis, one kind on top of the other.
pub fn histogram(across: Axis, below: &[f64], above: &[f64]) -> Markup {
    const BINS: usize = 24;
    let count = |values: &[f64]| {
        let mut bins = [0_usize; BINS];
        for value in values {
            bins[((across.share(*value) * BINS as f64) as usize).min(BINS - 1)] += 1;
        }
        bins
    };
    let (below, above) = (count(below), count(above));
    let most = below.iter().zip(&above).map(|(a, b)| a + b).max().unwrap_or(1).max(1);
    let up = Axis { from: 0.0, to: most as f64, title: "clips", digits: 0 };
    let width = (WIDTH - LEFT - EDGE) / BINS as f64;
    let bar = |class: &'static str, bin: usize, (from, to): (usize, usize)| {
        let (top, bottom) = (y(&up, to as f64), y(&up, from as f64));
        let left = LEFT + bin as f64 * width;
        html! {
            @if to > from {
                rect.(class) x=(px(left + 0.5)) y=(px(top)) width=(px(width - 1.0)) height=(px(bottom - top)) {}
            }
        }
    };
    let inside = html! {
        @for bin in 0..BINS {
            (bar("a", bin, (0, below[bin])))
            (bar("b", bin, (below[bin], below[bin] + above[bin])))
        }
    };
    frame((&across, &up), "how many clips cost how much", &inside)
}

/// Lines over the layers, from the first to the last that clips pass.
pub fn lines(names: &[String], up: Axis, series: &[Series]) -> Markup {
    let across = Axis { from: 1.0, to: names.len().max(2) as f64, title: "layer", digits: 0 };
    let point = |(layer, value): (usize, f64)| (x(&across, (layer + 1) as f64), y(&up, value));
    let inside = html! {
        @for series in series {
            @let points: Vec<(usize, f64)> =
                series.values.iter().enumerate().filter_map(|(layer, value)| Some((layer, (*value)?))).collect();
            @let path: String = points.iter().copied().map(point).map(|(x, y)| format!("{x:.1},{y:.1} ")).collect();
            polyline.(series.class) points=(path.trim_end()) {}
            @for (layer, value) in &points {
                @let (cx, cy) = point((*layer, *value));
                circle.(series.class) cx=(px(cx)) cy=(px(cy)) r="3" {
                    title { (names[*layer]) ": " (series.name) " " (format!("{value:.3}")) }
                }
            }
        }
    };
    frame((&across, &up), up.title, &inside)
}

/// A table of shares as colours: the fuller, the larger. `floor` is the palest.
pub fn heat_map(rows: &[(String, Vec<f64>)], names: &[String], floor: f64) -> Markup {
    const CELL: f64 = 14.0;
    const LABEL: f64 = 110.0;
    let columns = rows.first().map_or(0, |(_, row)| row.len());
    let (width, height) = (LABEL + CELL * columns as f64, CELL * rows.len() as f64);
    let opacity = |value: f64| ((value - floor) / (1.0 - floor).max(1e-9)).clamp(0.0, 1.0) * 0.9 + 0.1;
    html! {
        div.scroll {
            svg.heat viewBox=(format!("0 0 {} {}", px(width), px(height))) style=(format!("min-width:{}px", px(width)))
                role="img" aria-label="share by class and layer" {
                @for (number, (class, row)) in rows.iter().enumerate() {
                    @let top = CELL * number as f64;
                    text.number x=(LABEL - 6.0) y=(px(top + CELL - 3.0)) text-anchor="end" { (shortened(class)) }
                    @for (column, value) in row.iter().enumerate() {
                        rect.a x=(px(LABEL + CELL * column as f64)) y=(px(top)) width=(CELL - 1.0) height=(CELL - 1.0)
                            fill-opacity=(format!("{:.2}", opacity(*value))) {
                            title { (class) ", " (names.get(column).map_or("", String::as_str)) ": " (format!("{value:.3}")) }
                        }
                    }
                }
            }
        }
    }
}

/// A coordinate with one digit after the point.
fn px(value: f64) -> String {
    format!("{value:.1}")
}

fn shortened(name: &str) -> String {
    match name.chars().count() > 15 {
        true => name.chars().take(14).chain(['…']).collect(),
        false => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_leaves_room_and_never_goes_below_nothing() {
        let axis = Axis::around([2.0, 4.0].into_iter(), "x", 1);
        assert!(axis.from < 2.0 && axis.to > 4.0);
        assert_eq!(Axis::around([0.0, 1.0].into_iter(), "x", 1).from, 0.0);
        let one = Axis::around([3.0].into_iter(), "x", 1);
        assert!(one.from < 3.0 && one.to > 3.0, "{one:?}");
    }

    #[test]
    fn every_value_of_a_histogram_is_drawn() {
        let axis = Axis { from: 0.0, to: 24.0, title: "x", digits: 0 };
        let drawn = histogram(axis, &[0.5, 0.5, 23.9, 24.0], &[0.5]).into_string();
        // Two bars below, and one on top of the first.
        assert_eq!((drawn.matches("class=\"a\"").count(), drawn.matches("class=\"b\"").count()), (2, 1));
    }

    #[test]
    fn a_name_can_not_break_out_of_the_page() {
        let rows = vec![("<script>".to_owned(), vec![0.5, 1.0])];
        let drawn = heat_map(&rows, &["a".to_owned()], 0.5).into_string();
        assert!(!drawn.contains("<script>") && drawn.contains("&lt;script&gt;"), "{drawn}");
        assert!(drawn.contains("fill-opacity=\"0.10\"") && drawn.contains("fill-opacity=\"1.00\""), "{drawn}");
    }
}
