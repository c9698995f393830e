//! What `worker eval` found, read back and checked field by field, and the table of it.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// Average, least and most over the held-out clips, in billions of multiply-adds a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    avg: f64,
    min: f64,
    max: f64,
}

/// One network on the held-out clips.
#[derive(Debug)]
struct Network {
    top1: f64,
    paper: Cost,
    all_in: Cost,
    clips_per_second: f64,
}

/// The dynamic network under policies that are not its own.
#[derive(Debug)]
struct Control {
    top1: f64,
    all_in_avg: f64,
}

/// How much of the backbone's cost one class of clips keeps.
#[derive(Debug)]
struct Share {
    class: String,
    temporal: f64,
    channel: f64,
}

/// The comparison of one dynamic run with its backbone.
#[derive(Debug)]
pub struct Summary {
    backbone: Network,
    dynamic: Network,
    shuffled: Control,
    fixed: Control,
    shares: Vec<Share>,
}

impl Summary {
    /// Reads the summary at `path`; the error names the field that is missing or senseless.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading the summary {}", path.display()))?;
        let json: Value = serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))?;
        Self::parse(&json).with_context(|| format!("{} is not a summary of the demo", path.display()))
    }

    fn parse(json: &Value) -> Result<Self> {
        let shares = json["share"].as_object().context("`share` is missing")?;
        ensure!(!shares.is_empty(), "`share` names no class");
        Ok(Self {
            backbone: network(json, "backbone")?,
            dynamic: network(json, "dynamic")?,
            shuffled: control(json, "shuffled")?,
            fixed: control(json, "fixed")?,
            shares: shares.keys().map(|class| share(json, class)).collect::<Result<_>>()?,
        })
    }

    /// The table for people, with a sentence on what it shows.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.write_networks(&mut text).expect("writing to a text cannot fail");
        self.write_shares(&mut text).expect("writing to a text cannot fail");
        text.push_str(&self.verdict());
        text
    }

    fn write_networks(&self, text: &mut String) -> std::fmt::Result {
        let head = ["held-out", "GFLOPs a clip, paper count", "GFLOPs a clip, all in", "clips/s"];
        writeln!(text, "{:<20} {:>8}   {:^26}   {:^26}   {:>8}", "", head[0], head[1], head[2], head[3])?;
        let columns = format!("{:>8} {:>8} {:>8}", "average", "min", "max");
        writeln!(text, "{:<20} {:>8}   {columns}   {columns}   {:>8}", "network", "top-1", "batch 1")?;
        for (name, network) in [("backbone", &self.backbone), ("dynamic", &self.dynamic)] {
            let (paper, all_in) = (spell_cost(network.paper), spell_cost(network.all_in));
            let (top1, speed) = (percent(network.top1), network.clips_per_second);
            writeln!(text, "{name:<20} {top1:>8}   {paper}   {all_in}   {speed:>8.1}")?;
        }
        for (name, control) in [("policies shuffled", &self.shuffled), ("best fixed policy", &self.fixed)] {
            let (top1, cost) = (percent(control.top1), control.all_in_avg);
            writeln!(text, "{name:<20} {top1:>8}   {:26}   {cost:>8.4}", "")?;
        }
        Ok(())
    }

    fn write_shares(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "\n{:<20} {:>8} {:>8}", "share computed", "temporal", "channel")?;
        for share in &self.shares {
            writeln!(text, "{:<20} {:>8} {:>8}", share.class, percent(share.temporal), percent(share.channel))?;
        }
        Ok(())
    }

    /// What the numbers show, for and against: nothing here is known before they are measured.
    fn verdict(&self) -> String {
        let points = |a: f64, b: f64| (a - b) * 100.0;
        let (dynamic, backbone) = (&self.dynamic, &self.backbone);
        format!(
            "\nThe dynamic network spends {} of the backbone's multiply-adds, all in, at {:+.1} points of top-1 and {:.2} \
             times its clips per second.\n\
             Its own policies are worth {:+.1} points against the same policies shuffled between clips, and {:+.1} points \
             against one fixed policy\nfor all clips at {} of its cost: that difference, not the saving, is what looking at \
             the clip is worth here.\n",
            percent(dynamic.all_in.avg / backbone.all_in.avg),
            points(dynamic.top1, backbone.top1),
            dynamic.clips_per_second / backbone.clips_per_second,
            points(dynamic.top1, self.shuffled.top1),
            points(dynamic.top1, self.fixed.top1),
            percent(self.fixed.all_in_avg / dynamic.all_in.avg),
        )
    }
}

fn network(json: &Value, name: &str) -> Result<Network> {
    Ok(Network {
        top1: fraction(json, &[name, "top1"])?,
        paper: cost(json, name, "gmacs_paper")?,
        all_in: cost(json, name, "gmacs_all_in")?,
        clips_per_second: positive(json, &["timing", name, "clips_per_second"])?,
    })
}

fn control(json: &Value, name: &str) -> Result<Control> {
    let top1 = fraction(json, &["controls", name, "top1"])?;
    Ok(Control { top1, all_in_avg: positive(json, &["controls", name, "gmacs_all_in", "avg"])? })
}

fn share(json: &Value, class: &str) -> Result<Share> {
    let temporal = fraction(json, &["share", class, "temporal"])?;
    Ok(Share { class: class.to_owned(), temporal, channel: fraction(json, &["share", class, "channel"])? })
}

fn cost(json: &Value, network: &str, count: &str) -> Result<Cost> {
    let at = |key| positive(json, &[network, count, key]);
    let cost = Cost { avg: at("avg")?, min: at("min")?, max: at("max")? };
    // A mean of equal floats may differ from them in the last digit.
    let slack = 1.0 + 1e-6;
    ensure!(
        cost.min <= cost.avg * slack && cost.avg <= cost.max * slack,
        "`{network}.{count}` is out of order: min {}, avg {}, max {}",
        cost.min,
        cost.avg,
        cost.max
    );
    Ok(cost)
}

fn fraction(json: &Value, path: &[&str]) -> Result<f64> {
    let value = number(json, path)?;
    ensure!((0.0..=1.0).contains(&value), "`{}` is {value}, not between 0 and 1", path.join("."));
    Ok(value)
}

fn positive(json: &Value, path: &[&str]) -> Result<f64> {
    let value = number(json, path)?;
    ensure!(value > 0.0, "`{}` is {value}, not above 0", path.join("."));
    Ok(value)
}

fn number(json: &Value, path: &[&str]) -> Result<f64> {
    let value = path.iter().fold(json, |json, key| &json[key]);
    value.as_f64().with_context(|| format!("`{}` is missing or no number", path.join(".")))
}

fn percent(fraction: f64) -> String {
    format!("{:.1} %", fraction * 100.0)
}

fn spell_cost(cost: Cost) -> String {
    format!("{:>8.4} {:>8.4} {:>8.4}", cost.avg, cost.min, cost.max)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        let cost = |avg: f64, min: f64, max: f64| json!({ "avg": avg, "min": min, "max": max });
        json!({
            "backbone": { "top1": 0.9, "gmacs_paper": cost(0.08, 0.08, 0.08), "gmacs_all_in": cost(0.08, 0.08, 0.08) },
            "dynamic": { "top1": 0.885, "gmacs_paper": cost(0.05, 0.04, 0.08), "gmacs_all_in": cost(0.056, 0.045, 0.084) },
            "timing": { "backbone": { "clips_per_second": 40.0 }, "dynamic": { "clips_per_second": 50.0 } },
            "controls": { "shuffled": { "top1": 0.8, "gmacs_all_in": { "avg": 0.056 } },
                "fixed": { "top1": 0.86, "gmacs_all_in": { "avg": 0.056 } } },
            "share": { "still": { "temporal": 0.5, "channel": 0.9 }, "fast_play": { "temporal": 1.0, "channel": 0.95 } },
        })
    }

    #[test]
    fn the_table_shows_every_row_and_says_what_it_means() {
        let table = Summary::parse(&sample()).expect("it is whole").table();
        let row = |start: &str| {
            let line = table.lines().find(|line| line.starts_with(start)).expect("the row is there");
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row("backbone"), "backbone 90.0 % 0.0800 0.0800 0.0800 0.0800 0.0800 0.0800 40.0");
        assert_eq!(row("dynamic"), "dynamic 88.5 % 0.0500 0.0400 0.0800 0.0560 0.0450 0.0840 50.0");
        assert_eq!(row("policies shuffled"), "policies shuffled 80.0 % 0.0560");
        assert_eq!(row("best fixed policy"), "best fixed policy 86.0 % 0.0560");
        assert_eq!(row("fast_play"), "fast_play 100.0 % 95.0 %");
        assert!(table.contains("spends 70.0 % of the backbone's multiply-adds, all in, at -1.5 points"), "{table}");
        assert!(table.contains("worth +8.5 points") && table.contains("+2.5 points"), "{table}");
    }

    #[test]
    fn a_missing_or_senseless_field_is_named() {
        for (path, value, said) in [
            ("/dynamic/top1", json!(null), "`dynamic.top1` is missing or no number"),
            ("/dynamic/top1", json!(88.5), "`dynamic.top1` is 88.5, not between 0 and 1"),
            ("/timing/backbone/clips_per_second", json!(0.0), "`timing.backbone.clips_per_second` is 0, not above 0"),
            ("/dynamic/gmacs_all_in/min", json!(0.07), "`dynamic.gmacs_all_in` is out of order"),
            ("/controls/fixed", json!({}), "`controls.fixed.top1` is missing"),
            ("/share/still/channel", json!("all"), "`share.still.channel` is missing or no number"),
            ("/share", json!({}), "`share` names no class"),
        ] {
            let mut json = sample();
            *json.pointer_mut(path).expect("the sample is whole") = value;
            let error = Summary::parse(&json).expect_err(path).to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
