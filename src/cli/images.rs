//! `kiln images`

use serde_json::Value;

use super::command::Run;
use super::error::Result;
use super::filter::{self, Filter};
use super::listing::{self, Columns, Row};
use super::session::Session;
use super::{units, value};
use crate::base::clock::Time;
use crate::store::Image;

/// What stands for something that is not there.
pub const NONE: &str = "<none>";

/// List images
#[derive(clap::Parser)]
pub struct Args {
    /// Show all images (default hides intermediate images)
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "filter", value_parser = value::filter)]
    filter: Vec<(String, String)>,
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true, help = listing::TABLE_HELP)]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    repository: Option<String>,
}

const COLUMNS: Columns = Columns {
    headings: &[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ],
    table: "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}",
};
const WITH_DIGESTS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";
const FILTERS: [&str; 6] = ["before", "dangling", "label", "reference", "since", "until"];

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let store = session.store()?;
        let now = store.clock().now();
        let created = |name: &str| -> Result<Time> {
            let id = store.find(name)?;
            Ok(store.image(id)?.map(|image| filter::created(&image)).unwrap_or_default())
        };
        let mut filter = Filter::read(&self.filter, &FILTERS, now, created)?;
        filter.references.extend(self.repository.clone());
        let images = store.images()?;
        let images = images.iter().filter(|image| filter.takes(image));
        let digests = self.digests || self.format.contains(".Digest") || self.format == "json";
        let rows: Vec<Row> = images
            .flat_map(|image| {
                let lines = lines(image, &filter, digests);
                lines.into_iter().map(|line| row(image, line, now, self.no_trunc)).collect::<Vec<_>>()
            })
            .collect();
        let columns = if self.digests { Columns { table: WITH_DIGESTS, ..COLUMNS } } else { COLUMNS };
        let format = if self.quiet && self.format.is_empty() { "{{.ID}}" } else { &self.format };
        session.print(&listing::rows(format, columns, &rows)?).map(|()| 0)
    }
}

/// Repository, tag and digest of one line of the list.
type Line = (String, String, String);

/// The lines of an image: one for each of its names that is asked for.
fn lines(image: &Image, filter: &Filter, digests: bool) -> Vec<Line> {
    let none = || NONE.to_owned();
    if filter::is_dangling(image) {
        return if filter.references.is_empty() { vec![(none(), none(), none())] } else { Vec::new() };
    }
    let digests_of: Vec<(&str, &str)> =
        image.digests.iter().filter_map(|name| name.split_once('@')).collect();
    let mut lines = Vec::new();
    for name in image.names.iter().filter(|name| filter.takes_name(name)) {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, NONE));
        let known = digests_of.iter().filter(|(of, _)| digests && *of == repository);
        let before = lines.len();
        lines.extend(known.map(|(_, digest)| (repository.to_owned(), tag.to_owned(), (*digest).to_owned())));
        if lines.len() == before {
            lines.push((repository.to_owned(), tag.to_owned(), none()));
        }
    }
    for (repository, digest) in digests_of {
        let tagged =
            image.names.iter().any(|name| name.rsplit_once(':').is_some_and(|(of, _)| of == repository));
        if !tagged && filter.takes_name(&format!("{repository}@{digest}")) {
            lines.push((repository.to_owned(), none(), digest.to_owned()));
        }
    }
    lines
}

/// The ID as lists show it.
pub fn shown_id(image: &Image, whole: bool) -> String {
    if whole { image.id.to_string() } else { image.id.0.short() }
}

fn row(image: &Image, (repository, tag, digest): Line, now: Time, whole: bool) -> Row {
    let created = filter::created(image);
    let size = units::size(image.size, 3);
    let not_known = || Value::from("N/A");
    [
        ("Containers", not_known()),
        ("CreatedAt", units::timestamp(created).into()),
        ("CreatedSince", since(image, now).into()),
        ("Digest", digest.into()),
        ("ID", shown_id(image, whole).into()),
        ("Repository", repository.into()),
        ("SharedSize", not_known()),
        ("Size", size.clone().into()),
        ("Tag", tag.into()),
        ("UniqueSize", not_known()),
        ("VirtualSize", size.into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
    .collect()
}

/// How long ago an image was made; `N/A` where it does not say.
pub fn since(image: &Image, now: Time) -> String {
    match image.config.created {
        Some(_) => units::ago(filter::created(image), now),
        None => "N/A".to_owned(),
    }
}
