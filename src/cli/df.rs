//! `kiln system df`

use serde_json::Value;

use super::command::Run;
use super::error::Result;
use super::images::NONE;
use super::listing::{self, Columns, Row};
use super::progress::one_line;
use super::session::Session;
use super::{images, prune, table, units};
use crate::base::clock::Time;
use crate::store::{CacheItem, CacheKind, DiskUsage, Store};

/// Show kiln disk usage
#[derive(clap::Parser)]
pub struct Args {
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true, help = listing::TABLE_HELP)]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

const COLUMNS: Columns = Columns {
    headings: &[
        ("Type", "TYPE"),
        ("TotalCount", "TOTAL"),
        ("Active", "ACTIVE"),
        ("Size", "SIZE"),
        ("Reclaimable", "RECLAIMABLE"),
    ],
    table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}",
};

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let store = session.store()?;
        let usage = store.disk_usage()?;
        let text = match self.verbose {
            true => verbose(&usage, &store)?,
            false => listing::rows(&self.format, COLUMNS, &rows(&usage))?,
        };
        session.print(&text).map(|()| 0)
    }
}

fn rows(usage: &DiskUsage) -> Vec<Row> {
    let in_use = usage.cache.iter().filter(|item| item.in_use).count();
    let size = usage.images_size;
    let cache: u64 = usage.cache.iter().map(|item| item.size).sum();
    let share = |part: u64, all: u64| match all {
        0 => units::size(part, 4),
        all => format!("{} ({}%)", units::size(part, 4), u128::from(part) * 100 / u128::from(all)),
    };
    [
        ("Images", usage.images.len(), 0, size, share(size, size)),
        ("Containers", 0, 0, 0, units::size(0, 4)),
        ("Local Volumes", 0, 0, 0, units::size(0, 4)),
        ("Build Cache", usage.cache.len(), in_use, cache, units::size(usage.cache_size, 4)),
    ]
    .into_iter()
    .map(|(kind, total, active, size, reclaimable)| {
        let fields: [(&str, Value); 5] = [
            ("Active", active.to_string().into()),
            ("Reclaimable", reclaimable.into()),
            ("Size", units::size(size, 4).into()),
            ("TotalCount", total.to_string().into()),
            ("Type", kind.into()),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    })
    .collect()
}

fn verbose(usage: &DiskUsage, store: &Store) -> Result<String> {
    let now = store.clock().now();
    let mut list =
        String::from("REPOSITORY\tTAG\tIMAGE ID\tCREATED\tSIZE\tSHARED SIZE\tUNIQUE SIZE\tCONTAINERS\n");
    for entry in &usage.images {
        let Some(image) = store.image(entry.id)? else { continue };
        let unnamed = [format!("{NONE}:{NONE}")];
        for name in if image.names.is_empty() { &unnamed[..] } else { &image.names[..] } {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, NONE));
            list.push_str(&format!(
                "{repository}\t{tag}\t{}\t{}\t{}\t{}\t{}\t0\n",
                images::shown_id(&image, false),
                images::since(&image, now),
                units::size(entry.size, 3),
                units::size(entry.shared, 3),
                units::size(entry.size.saturating_sub(entry.shared), 3),
            ));
        }
    }
    let cache: u64 = usage.cache.iter().map(|item| item.size).sum();
    let mut items = String::from("CACHE ID\tCACHE TYPE\tSIZE\tCREATED\tLAST USED\tSHARED\tDESCRIPTION\n");
    usage.cache.iter().for_each(|item| items.push_str(&cache_line(item, now)));
    Ok(format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\nLocal Volumes space usage:\n\n\
         Build cache usage: {}\n\n{}",
        table::align(&list),
        units::size(cache, 4),
        table::align(&items),
    ))
}

fn cache_line(item: &CacheItem, now: Time) -> String {
    let kind = match item.kind {
        CacheKind::Layer(_) => "regular",
        CacheKind::Record(_) => "internal",
        CacheKind::Form(_) => "form",
        CacheKind::Exported(_) => "exported",
        CacheKind::Mount(_) => "exec.cachemount",
    };
    let id: String = prune::cache_id(item).chars().take(12).collect();
    format!(
        "{}\t{kind}\t{}\t{}\t{}\t{}\t{}\n",
        one_line(&id),
        units::size(item.size, 3),
        units::ago(Time::from_seconds(item.created), now),
        units::ago(Time::from_seconds(item.used), now),
        item.shared,
        one_line(&item.description.replace('\t', " ")),
    )
}
