//! `kiln image prune`, `kiln builder prune`

use std::io::BufRead;

use super::command::Run;
use super::error::Result;
use super::filter::Filter;
use super::session::Session;
use super::{units, value};
use crate::base::clock::Time;
use crate::store::{CacheFilter, CacheItem, CacheKind, ImageFilter, Removed};

/// Remove unused images
#[derive(clap::Parser)]
pub struct ImageArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=<timestamp>")
    #[arg(long, value_name = "filter", value_parser = value::filter)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// Remove build cache
#[derive(clap::Parser)]
pub struct BuilderArgs {
    /// Remove all unused build cache, not just dangling ones
    #[arg(short, long)]
    all: bool,
    /// Provide filter values (e.g. "until=24h")
    #[arg(long, value_name = "filter", value_parser = value::filter)]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Amount of disk space to keep for cache
    #[arg(long, value_name = "bytes", value_parser = units::parse_size, alias = "reserved-space")]
    keep_storage: Option<u64>,
}

impl Run for ImageArgs {
    fn run(mut self, session: &mut Session) -> Result<u8> {
        // `dangling=false` is another way to say `--all`.
        if let Some(at) = self.filter.iter().rposition(|(name, _)| name == "dangling") {
            let (_, value) = self.filter.remove(at);
            self.all |= matches!(value.as_str(), "false" | "0");
        }
        let what = match self.all {
            true => "all images without at least one container associated to them",
            false => "all dangling images",
        };
        if !self.force && !confirm(session, &format!("WARNING! This will remove {what}.\n"))? {
            return Ok(0);
        }
        let store = session.store()?;
        let filter = Filter::read(&self.filter, &["label", "label!", "until"], store.clock().now(), never)?;
        let filter = ImageFilter {
            all: self.all,
            until: filter.before.map(|time| time.seconds),
            labels: filter.labels,
            without_labels: filter.without,
        };
        let pruned = store.prune_images(&filter, &|_| false)?;
        let mut text = String::new();
        if !pruned.removed.is_empty() {
            text.push_str("Deleted Images:\n");
            for removed in &pruned.removed {
                text.push_str(&match removed {
                    Removed::Untagged(name) => format!("untagged: {name}\n"),
                    Removed::Deleted(id) => format!("deleted: {id}\n"),
                });
            }
            text.push('\n');
        }
        text.push_str(&reclaimed(pruned.bytes));
        session.print(&text).map(|()| 0)
    }
}

impl Run for BuilderArgs {
    fn run(self, session: &mut Session) -> Result<u8> {
        let what = if self.all { "all build cache" } else { "all dangling build cache" };
        if !self.force && !confirm(session, &format!("WARNING! This will remove {what}. "))? {
            return Ok(0);
        }
        let store = session.store()?;
        let filter = Filter::read(&self.filter, &["until", "unused-for"], store.clock().now(), never)?;
        let until = filter.before.map(|time| time.seconds);
        let pruned =
            store.prune_build_cache(&CacheFilter { all: self.all, until, keep: self.keep_storage })?;
        let mut text = String::new();
        if !pruned.items.is_empty() {
            text.push_str("Deleted build cache objects:\n");
            pruned.items.iter().for_each(|item| text.push_str(&format!("{}\n", cache_id(item))));
            text.push('\n');
        }
        text.push_str(&reclaimed(pruned.bytes));
        session.print(&text).map(|()| 0)
    }
}

/// Images are not looked up by the filters of pruning.
fn never(_: &str) -> Result<Time> {
    Ok(Time::default())
}

fn reclaimed(bytes: u64) -> String {
    format!("Total reclaimed space: {}\n", units::size(bytes, 4))
}

/// What a piece of the build cache is called.
pub fn cache_id(item: &CacheItem) -> String {
    match &item.kind {
        CacheKind::Layer(id) => id.0.hex(),
        CacheKind::Record(key) => key.0.hex(),
        CacheKind::Exported(digest) => digest.hex(),
        CacheKind::Form(name) | CacheKind::Mount(name) => name.clone(),
    }
}

/// Whether the user says yes. The end of the input says no.
fn confirm(session: &Session, warning: &str) -> Result<bool> {
    session.print(&format!("{warning}Are you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Ok(read.is_ok() && answer.trim().eq_ignore_ascii_case("y"))
}
