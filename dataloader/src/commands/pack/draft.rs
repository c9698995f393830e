//! The index of a data set that is being made, part by part.

use std::collections::HashSet;

use anyhow::{Context, bail};
use clips::index::INDEX_OBJECT;
use clips::{Clip, Index};
use runtime::store::Store;

use super::journal::{self, Part};
use super::plan::{Item, Plan};
use super::report::{REPORT_OBJECT, Report};
use super::write::put;
use crate::sources::LeftOut;

/// What will be the index.
pub struct Draft {
    /// The part that is not in the journal yet.
    open: Part,
    parts: usize,
    clips: Vec<Clip>,
    left_out: Vec<LeftOut>,
}

impl Draft {
    /// Goes on where `parts` end.
    pub fn new(plan: &Plan, parts: Vec<Part>) -> Self {
        let open = Part {
            identity: plan.identity.clone(),
            plan: plan.describe(),
            until: parts.last().map_or(0, |last| last.until),
            clips: Vec::new(),
            left_out: Vec::new(),
        };
        let mut draft = Self { open, parts: parts.len(), clips: Vec::new(), left_out: Vec::new() };
        for part in parts {
            draft.clips.extend(part.clips);
            draft.left_out.extend(part.left_out);
        }
        draft
    }

    /// How many videos of the list are done with.
    pub fn position(&self) -> usize {
        self.open.until
    }

    /// How many parts are cut.
    pub fn parts(&self) -> usize {
        self.parts
    }

    /// How many videos of the list the open part has seen.
    pub fn open_len(&self) -> usize {
        self.open.clips.len() + self.open.left_out.len()
    }

    /// Notes a clip.
    pub fn add(&mut self, clip: Clip) {
        self.open.clips.push(clip);
        self.open.until += 1;
    }

    /// Notes a video that is not in the data set.
    pub fn leave_out(&mut self, item: Item, reason: String) {
        self.open.left_out.push(LeftOut { name: item.entry.name, listed: item.listed, reason });
        self.open.until += 1;
    }

    /// Ends a part, whose clips are all in `object`, if one is named. Returns its number, and what the journal keeps.
    pub fn cut(&mut self, object: Option<&str>) -> (usize, Part) {
        if let Some(object) = object {
            self.open.clips.iter_mut().for_each(|clip| object.clone_into(&mut clip.object));
        }
        let part = self.open.clone();
        self.clips.append(&mut self.open.clips);
        self.left_out.append(&mut self.open.left_out);
        self.parts += 1;
        (self.parts - 1, part)
    }

    /// Writes the report, then the index, and removes the journal. Every clip must be in its object by now.
    pub async fn seal(mut self, store: &Store, plan: Plan) -> anyhow::Result<Report> {
        self.clips.append(&mut self.open.clips);
        self.left_out.append(&mut self.open.left_out);
        let left_out: Vec<LeftOut> = plan.passed_over.into_iter().chain(self.left_out).collect();
        if let (true, Some(LeftOut { name, reason, .. })) = (self.clips.is_empty(), left_out.first()) {
            bail!("none of the {} files can be packed; the first is {name}: {reason}", left_out.len());
        }
        let objects: HashSet<&str> = self.clips.iter().map(|clip| clip.object.as_str()).collect();
        let shards = objects.len();
        let index = Index::new(plan.classes, self.clips).context("the new index is refused")?;
        let report = Report {
            identity: self.open.identity,
            plan: self.open.plan,
            digest: index.digest(),
            clips: index.clips.len(),
            shards,
            bytes: index.clips.iter().map(|clip| clip.length_bytes).sum(),
            left_out,
        };
        let text = serde_json::to_vec_pretty(&report).context("can't write the report as JSON")?;
        put(store, REPORT_OBJECT, text).await?;
        put(store, INDEX_OBJECT, index.to_bytes()).await?;
        journal::clear(store).await?;
        Ok(report)
    }
}
