//! `kiln history`

use serde_json::Value;

use super::command::Run;
use super::error::{Error, Result};
use super::listing::{self, Columns, Row};
use super::progress::one_line;
use super::session::Session;
use super::units;
use crate::base::clock::Time;
use crate::image::config::History;
use crate::store::{Image, Store};

/// Show the history of an image
#[derive(clap::Parser)]
pub struct Args {
    #[arg(long, value_name = "string", default_value = "", hide_default_value = true, help = listing::TABLE_HELP)]
    format: String,
    /// Print sizes and dates in human readable format
    #[arg(short = 'H', long, default_value = "true")]
    human: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,
    image: String,
}

const COLUMNS: Columns = Columns {
    headings: &[
        ("ID", "IMAGE"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("CreatedBy", "CREATED BY"),
        ("Size", "SIZE"),
        ("Comment", "COMMENT"),
    ],
    table: "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}",
};
const WITH_DATES: &str = "{{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";
/// What stands for the ID of a step that is no image of its own.
const MISSING: &str = "<missing>";
/// How much of a command is shown unless all is asked for.
const COMMAND_WIDTH: usize = 45;

impl Run for Args {
    fn run(self, session: &mut Session) -> Result<u8> {
        let store = session.store()?;
        let image = store.image(store.find(&self.image)?)?;
        let image = image.ok_or_else(|| Error::Gone { name: self.image.clone() })?;
        let rows = self.rows(&image, &store)?;
        let columns = if self.human { COLUMNS } else { Columns { table: WITH_DATES, ..COLUMNS } };
        let format = if self.quiet { "{{.ID}}" } else { &self.format };
        session.print(&listing::rows(format, columns, &rows)?).map(|()| 0)
    }
}

impl Args {
    /// The newest step first. Only the last is an image; the others have no ID.
    fn rows(&self, image: &Image, store: &Store) -> Result<Vec<Row>> {
        let mut layers = image.layers.iter();
        let mut rows = Vec::new();
        for step in &image.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            let layer = layer.map(|layer| store.layer(*layer)).transpose()?.flatten();
            rows.push(self.row(step, layer.map_or(0, |layer| layer.size), store.clock().now()));
        }
        // An image without a history has one step for each layer.
        for layer in layers {
            let size = store.layer(*layer)?.map_or(0, |layer| layer.size);
            rows.push(self.row(&History::default(), size, store.clock().now()));
        }
        rows.reverse();
        if let Some(first) = rows.first_mut() {
            let id = if self.no_trunc { image.id.to_string() } else { image.id.0.short() };
            first.insert("ID".to_owned(), id.into());
        }
        Ok(rows)
    }

    fn row(&self, step: &History, size: u64, now: Time) -> Row {
        let created = step.created.as_deref().and_then(Time::parse_rfc3339);
        let since = created.map_or_else(|| "N/A".to_owned(), |created| units::ago(created, now));
        let at = created.map_or_else(|| "N/A".to_owned(), |created| created.rfc3339());
        let size = if self.human { units::size(size, 3) } else { size.to_string() };
        let fields: [(&str, Value); 6] = [
            ("Comment", one_line(&step.comment).into()),
            ("CreatedAt", at.into()),
            ("CreatedBy", self.command(&step.created_by).into()),
            ("CreatedSince", since.into()),
            ("ID", MISSING.into()),
            ("Size", size.into()),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    fn command(&self, text: &str) -> String {
        let text = one_line(&text.replace('\t', " "));
        if self.no_trunc || text.chars().count() <= COMMAND_WIDTH {
            return text;
        }
        let mut shown: String = text.chars().take(COMMAND_WIDTH - 1).collect();
        shown.push('…');
        shown
    }
}
