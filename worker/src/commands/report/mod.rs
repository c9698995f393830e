//! The report of an evaluation: one page that needs nothing else, to be looked at, sent and kept.

mod charts;
mod strips;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::commands::eval::Seen;
use crate::commands::eval::Summary;
use crate::device::measure::Layer;
use crate::device::redundancy::{Alike, LayerRedundancy};
use charts::{Axis, Dot, Series};
pub use strips::{Entry, Extremes};

/// Clips whose features are compared.
pub const REDUNDANCY_CLIPS: usize = 32;
/// Classes that a heat map shows: half of them the cheapest, half the dearest.
const MOST_CLASSES: usize = 48;
/// Classes up to which the table of mistakes is drawn.
const MOST_CONFUSED: usize = 40;

/// What a page is made of.
pub struct Report<'a> {
    /// The evaluation.
    pub summary: &'a Summary,
    /// The dynamic layers.
    pub layers: &'a [Layer],
    /// Every video.
    pub seen: &'a [Seen],
    /// The ends of the list of costs.
    pub extremes: &'a Extremes,
    /// How alike neighbouring feature maps of the backbone are.
    pub redundancy: &'a [LayerRedundancy],
}

impl Report<'_> {
    /// The page.
    pub fn html(&self) -> anyhow::Result<String> {
        let identity = &self.summary.identity;
        let name = identity.run.as_ref().or(identity.weights.as_ref()).map_or("a network", String::as_str);
        let gallery = self.gallery()?;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (name) " – what each layer computes" }
                    style { (PreEscaped(include_str!("page.css"))) }
                }
                body { main {
                    h1 { (name) }
                    (self.tiles())
                    (self.cost())
                    (self.by_layer())
                    (self.by_class())
                    (gallery)
                    (self.redundancy())
                    (self.mistakes())
                    (self.origin())
                } }
            }
        };
        Ok(page.into_string())
    }

    fn tiles(&self) -> Markup {
        let (summary, dynamic) = (self.summary, &self.summary.dynamic);
        let against = summary.backbone.as_ref().map(|backbone| dynamic.gmacs_all_in.avg / backbone.gmacs_all_in.avg);
        html! {
            div.tiles {
                div { b { (percent(dynamic.accuracy.video1)) } span.soft { "video-1" } }
                div { b { (percent(dynamic.accuracy.video5)) } span.soft { "video-5" } }
                div { b { (percent(dynamic.accuracy.clip1)) } span.soft { "clip-1" } }
                div { b { (format!("{:.4}", dynamic.gmacs_all_in.avg)) } span.soft { "GMAC a clip, all-in" } }
                @if let Some(share) = against {
                    div { b { (percent(share)) } span.soft { "of the backbone's GMAC" } }
                }
                div { b { (format!("{:.1}", summary.timing.dynamic.clips_per_second)) } span.soft { "clips/s, batch 1" } }
            }
        }
    }

    fn cost(&self) -> Markup {
        let dots = self.dots();
        let costs = || dots.iter().map(|dot| dot.at.0);
        let (across, up) = (
            Axis { from: 0.0, to: costs().fold(0.0, f64::max) * 1.1, title: "GMAC a clip, all-in", digits: 3 },
            Axis { digits: 1, ..Axis::around(dots.iter().map(|dot| dot.at.1), "video-1, %", 1) },
        );
        let looks = || self.seen.iter().flat_map(|video| &video.looks);
        let of = |is_right: bool| -> Vec<f64> {
            looks().filter(|look| look.is_right == is_right).map(|look| look.gmacs_all_in).collect()
        };
        let spread = Axis::around(looks().map(|look| look.gmacs_all_in), "GMAC a clip, all-in", 3);
        html! {
            h2 { "Cost against accuracy" }
            p { "GMAC are 10⁹ multiply-adds. Left, each policy at its average cost; right, what single clips cost." }
            div.pair {
                figure { (charts::scatter((across, up), &dots)) }
                figure {
                    (charts::histogram(spread, &of(true), &of(false)))
                    figcaption { span.key.a { "right" } span.key.b { "wrong" } }
                }
            }
        }
    }

    fn dots(&self) -> Vec<Dot> {
        let summary = self.summary;
        let dot = |name: &str, class, (cost, right): (f64, f64)| Dot {
            name: name.to_owned(),
            at: (cost, 100.0 * right),
            class,
        };
        let mut dots = vec![dot("dynamic", "a", (summary.dynamic.gmacs_all_in.avg, summary.dynamic.top1))];
        if let Some(backbone) = &summary.backbone {
            dots.push(dot("backbone", "c", (backbone.gmacs_all_in.avg, backbone.top1)));
        }
        if let Some(controls) = &summary.controls {
            dots.push(dot("shuffled policies", "b", (controls.shuffled.gmacs_all_in.avg, controls.shuffled.top1)));
            dots.push(dot("one fixed policy", "b", (controls.fixed.gmacs_all_in.avg, controls.fixed.top1)));
        }
        dots
    }

    fn by_layer(&self) -> Markup {
        if self.layers.is_empty() {
            return html! { p { "The network is a plain backbone: every layer computes everything." } };
        }
        let all: Vec<&Seen> = self.seen.iter().collect();
        let [frames, channels, _] = self.shares(&all);
        let some = |values: Vec<f64>| values.into_iter().map(Some).collect::<Vec<_>>();
        let (frames, channels) = (some(frames), some(channels));
        let up = Axis { from: 0.0, to: 1.0, title: "share computed", digits: 1 };
        let series = [
            Series { name: "frames", class: "a", values: &frames },
            Series { name: "channels", class: "b", values: &channels },
        ];
        html! {
            h2 { "What each layer computes" }
            p { "Mean over all clips: 1/R of the frames, r of the channels. The rest is rebuilt from what is computed." }
            figure {
                (charts::lines(&self.names(), up, &series))
                figcaption { span.key.a { "frames" } span.key.b { "channels" } }
            }
        }
    }

    fn by_class(&self) -> Markup {
        if self.layers.is_empty() {
            return html! {};
        }
        let classes = &self.summary.classes;
        let mut rows: Vec<(String, [Vec<f64>; 3], f64)> = classes
            .iter()
            .enumerate()
            .filter_map(|(label, class)| {
                let own: Vec<&Seen> = self.seen.iter().filter(|video| video.label == label).collect();
                let cost = self.summary.share.get(class)?.both;
                (!own.is_empty()).then(|| (class.clone(), self.shares(&own), cost))
            })
            .collect();
        rows.sort_by(|a, b| a.2.total_cmp(&b.2));
        let left_out = rows.len().saturating_sub(MOST_CLASSES);
        rows.drain(rows.len().min(MOST_CLASSES / 2)..(MOST_CLASSES / 2 + left_out).min(rows.len()));
        let map = |axis: usize, floor: f64| {
            let rows: Vec<(String, Vec<f64>)> =
                rows.iter().map(|(class, shares, _)| (class.clone(), shares[axis].clone())).collect();
            charts::heat_map(&rows, &self.names(), floor)
        };
        let least = |of: fn(&Layer) -> &Vec<f64>| self.layers.iter().flat_map(of).copied().fold(1.0, f64::min);
        let (least_frames, least_channels) = (least(|layer| &layer.time_shares), least(|layer| &layer.channel_shares));
        html! {
            h2 { "By class and layer" }
            p {
                "A row a class, from the cheapest to the dearest; a column a layer, from the first to the last. Full colour: all \
                 is computed; palest: the least that the layer can."
                @if left_out > 0 { " " (left_out) " classes between the ends are left out." }
            }
            div.pair {
                figure { figcaption { "frames, from " (least_frames) " to 1" } (map(0, least_frames)) }
                figure { figcaption { "channels, from " (least_channels) " to 1" } (map(1, least_channels)) }
            }
        }
    }

    /// Of every layer, mean over the clips: share of the frames, of the channels, of both.
    fn shares(&self, videos: &[&Seen]) -> [Vec<f64>; 3] {
        let mut sums = [0, 1, 2].map(|_| vec![0.0; self.layers.len()]);
        let mut clips = 0.0;
        for look in videos.iter().flat_map(|video| &video.looks) {
            clips += 1.0;
            for (index, (layer, row)) in self.layers.iter().zip(&look.gates).enumerate() {
                let (frames, channels) = (layer.temporal(row), layer.channel(row));
                for (sums, share) in sums.iter_mut().zip([frames, channels, frames * channels]) {
                    sums[index] += share;
                }
            }
        }
        sums.map(|sums| sums.into_iter().map(|sum| sum / f64::max(clips, 1.0)).collect())
    }

    fn names(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.name.clone()).collect()
    }

    fn gallery(&self) -> anyhow::Result<Markup> {
        let list = |entries: &[Entry]| -> anyhow::Result<Markup> {
            let strips = entries.iter().map(|entry| self.strip(entry)).collect::<anyhow::Result<Vec<_>>>()?;
            Ok(html! { @for strip in strips { (strip) } })
        };
        let (cheapest, dearest) = (list(&self.extremes.cheapest)?, list(&self.extremes.dearest)?);
        Ok(html! {
            h2 { "The cheapest videos" }
            (cheapest)
            h2 { "The dearest videos" }
            (dearest)
        })
    }

    fn strip(&self, entry: &Entry) -> anyhow::Result<Markup> {
        let pictures = strips::pictures(&entry.clip)?;
        let class = |label: usize| self.summary.classes.get(label).map_or("?", String::as_str);
        Ok(html! {
            div.strip {
                div.frames { @for picture in pictures { img src=(picture) alt=""; } }
                span.soft { (format!("{:.4} GMAC", entry.cost)) " · " (entry.key) " · " }
                (class(entry.label))
                @if entry.taken_for != entry.label { span.wrong { ", taken for " (class(entry.taken_for)) } }
            }
        })
    }

    fn redundancy(&self) -> Markup {
        if self.redundancy.is_empty() {
            return html! {};
        }
        let names: Vec<String> = self.redundancy.iter().map(|layer| layer.name.clone()).collect();
        let values = |axis: fn(&LayerRedundancy) -> Option<Alike>, of: fn(Alike) -> f64| -> Vec<Option<f64>> {
            self.redundancy.iter().map(|layer| axis(layer).map(of)).collect()
        };
        let draw = |title: &'static str, of: fn(Alike) -> f64, floor: f64| {
            let (frames, channels) = (values(|layer| layer.frames, of), values(|layer| layer.channels, of));
            let reach = frames.iter().chain(&channels).flatten().copied();
            let up =
                Axis { from: reach.clone().fold(floor, f64::min), to: reach.fold(1.0, f64::max), title, digits: 2 };
            let series = [
                Series { name: "neighbouring frames", class: "a", values: &frames },
                Series { name: "neighbouring channels", class: "b", values: &channels },
            ];
            charts::lines(&names, up, &series)
        };
        html! {
            h2 { "Redundancy of the backbone's features" }
            p {
                "How alike neighbouring feature maps are where every layer computes everything: Pearson's correlation over the \
                 positions of a map, and the root mean square of the difference as a multiple of the layer's standard deviation. \
                 Mean over " (REDUNDANCY_CLIPS.min(self.seen.len())) " clips, norm and activation included."
            }
            div.pair {
                figure { (draw("correlation", |alike| alike.correlation, 0.0)) }
                figure { (draw("RMSE", |alike| alike.rmse, 0.0)) }
            }
            p { span.key.a { "neighbouring frames" } span.key.b { "neighbouring channels" } }
        }
    }

    fn mistakes(&self) -> Markup {
        let summary = self.summary;
        html! {
            h2 { "By class" }
            // Hundreds of classes are shown when somebody wants them.
            details open[summary.classes.len() <= MOST_CONFUSED] { summary { (summary.per_class.len()) " classes" } div.scroll { table {
                tr { th { "class" } th { "videos" } th { "video-1" } th { "video-5" } th { "frames" } th { "channels" } th { "both" } }
                @for (class, accuracy) in &summary.per_class {
                    tr {
                        td { (class) }
                        td { (accuracy.videos) }
                        td { (percent(accuracy.accuracy.video1)) }
                        td { (percent(accuracy.accuracy.video5)) }
                        @if let Some(share) = summary.share.get(class) {
                            td { (format!("{:.3}", share.temporal)) }
                            td { (format!("{:.3}", share.channel)) }
                            td { (format!("{:.3}", share.both)) }
                        }
                    }
                }
            } } }
            @if summary.classes.len() <= MOST_CONFUSED {
                h2 { "What is taken for what" }
                div.scroll { table {
                    tr { th { "is ↓ taken for →" } @for class in &summary.classes { th { (class) } } }
                    @for (label, row) in summary.confusion.iter().enumerate() {
                        tr {
                            td { (summary.classes[label]) }
                            @for (other, count) in row.iter().enumerate() {
                                td.wrong[*count > 0 && other != label] { @if *count > 0 { (count) } }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn origin(&self) -> Markup {
        let (summary, identity) = (self.summary, &self.summary.identity);
        let protocol = &identity.protocol;
        html! {
            h2 { "Where it comes from" }
            dl {
                @if let Some(step) = identity.step { dt { "step" } dd { (step) } }
                dt { "clips" }
                dd {
                    (summary.videos) " videos × " (protocol.views) " views × " (protocol.crops) " crops, " (protocol.frames) " × "
                    (protocol.stride) " frames, short side " (protocol.short_side) ", crop " (protocol.crop) "; "
                    (summary.clips_left_out) " videos could not be read"
                }
                dt { "weights" } dd { (identity.weights_digest) }
                @if let Some(digest) = &identity.recipe_digest { dt { "recipe" } dd { (digest) } }
                dt { "data" } dd { (identity.data_digest) }
                dt { "samples" } dd { (summary.sample_digest) }
            }
            @for note in &summary.notes { p.soft { (note) } }
        }
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}
