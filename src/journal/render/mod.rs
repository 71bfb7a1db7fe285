//! Entries as SQL that a person can read and, where nothing was cut, a server can run: the values are spelled by the node's own
//! server, in UTF-8, and whatever it does not understand is shown for what it is.

mod copy;
mod literal;
mod rows;
mod text;
mod values;

use tokio_postgres::Client;

use super::codec::Entry;
use super::entry::{Extra, Head, Lane, Op};
use super::image::{BadImage, Image};
use crate::catalog::server_words;
use crate::config::TableName;

pub(crate) use literal::one_line;

/// Rows whose values are asked for together.
const ROWS: usize = 128;
/// And their bytes, at most, unless one alone has more.
const BYTES: usize = 256 << 10;

/// Why nothing can be rendered any more.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("asking the node how values are spelled: {}", server_words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("asking the node how values are spelled: client_encoding cannot be set to UTF8: {0}")]
    Encoding(String),
    #[error(transparent)]
    Image(#[from] BadImage),
}

/// A piece of SQL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Of one line each.
    pub notes: Vec<String>,
    /// One statement with its semicolon; of a COPY with its data, maybe in several pieces; empty where there are only notes.
    pub sql: String,
    /// Running it does what the entry says: nothing was cut, and every value was understood.
    pub whole: bool,
}

/// Makes SQL of entries, in the order of the journal.
pub struct Renderer {
    values: values::Values,
    /// The COPY of which another part is to come.
    copying: Option<copy::Copying>,
}

// === impl Renderer ===

impl Renderer {
    /// Takes over a connection to the node whose entries they are; not within a transaction.
    ///
    /// Of a constant and of a line of COPY data no more than `limit` characters are shown, and of the lines the first few.
    pub fn new(client: Client, limit: Option<usize>) -> Self {
        Self { values: values::Values::new(client, limit), copying: None }
    }

    /// Gives each statement of an entry to `each`; with `table`, as it is to be run on a peer where that is its name.
    ///
    /// # Cancel safety
    /// Not cancel-safe: after a dropped call the renderer is of no more use.
    pub async fn render<E: From<RenderError>>(
        &mut self,
        entry: &Entry,
        table: Option<&TableName>,
        mut each: impl FnMut(Rendered) -> Result<(), E>,
    ) -> Result<(), E> {
        let own = TableName { schema: entry.head.schema.clone(), table: entry.head.table.clone() };
        let table = table.unwrap_or(&own);
        let (lane, text) = entry.travels();
        if lane != Lane::Copy {
            self.copying = None;
        }
        match text {
            None if lane == Lane::Row => self.rows(entry, table, &mut each).await,
            None => each(Rendered::note("an entry without its text".to_owned())),
            Some(text) if lane == Lane::Copy => {
                self.copy(entry, text, table).await?.into_iter().try_for_each(&mut each)
            }
            Some(text) => each(self.text(&entry.head, text, table).await?),
        }
    }

    async fn rows<E: From<RenderError>>(
        &mut self,
        entry: &Entry,
        table: &TableName,
        each: &mut impl FnMut(Rendered) -> Result<(), E>,
    ) -> Result<(), E> {
        let head = &entry.head;
        let mut images = entry.images().peekable();
        while images.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0_usize);
            while batch.len() < ROWS
                && bytes < BYTES
                && let Some(image) = images.next()
            {
                let image = image.map_err(RenderError::from)?;
                bytes = image.values.iter().filter_map(|v| v.bytes).fold(bytes, |n, b| n.saturating_add(b.len()));
                batch.push(image);
            }
            self.batch(head, table, &batch).await?.into_iter().try_for_each(&mut *each)?;
        }
        Ok(())
    }

    async fn batch(
        &mut self,
        head: &Head,
        table: &TableName,
        images: &[Image<'_>],
    ) -> Result<Vec<Rendered>, RenderError> {
        let name = self.table(table).await?;
        self.values.know(head.columns.iter().map(|c| c.name.as_str())).await?;
        let always = self.values.is_always(head).await?;
        let names: Vec<String> = head.columns.iter().map(|c| self.values.ident(&c.name)).collect();
        let spelled = |c: &super::entry::ImageColumn| {
            if c.text { "pg_catalog.text".to_owned() } else { c.type_name.clone() }
        };
        let types: Vec<String> = head.columns.iter().map(spelled).collect();
        let extra = head.extra.width();
        if images.iter().any(|image| image.values.len() != types.len().saturating_add(extra)) {
            return Ok(vec![Rendered::note(format!("rows of {name} that are not what their head says"))]);
        }
        let bytes: Vec<Vec<Option<&[u8]>>> =
            images.iter().map(|image| image.values.iter().skip(extra).map(|value| value.bytes).collect()).collect();
        let shown = self.values.rows(&head.encoding, &types, &bytes).await?;
        let written = rows::Written { name: &name, always };
        let mut rendered = Vec::new();
        for (image, shown) in images.iter().zip(shown) {
            let whole = shown.iter().all(literal::Shown::is_whole);
            let columns = head.columns.iter().zip(&names);
            let cells: Vec<_> =
                columns.zip(shown).map(|((column, name), shown)| rows::Cell { column, name, shown }).collect();
            let (op, within) = asked(head, image);
            let statements = rows::statements(op, within, written, &cells);
            if statements.is_empty() {
                let why = if within == Some(false) { "outside the rule's filter" } else { "with nothing to set" };
                rendered.push(Rendered::note(format!("a row of {name} {why}: nothing to do")));
            }
            rendered.extend(statements.into_iter().map(|sql| Rendered { notes: vec![], sql: sql + ";", whole }));
        }
        Ok(rendered)
    }

    /// A table's name as SQL.
    async fn table(&mut self, table: &TableName) -> Result<String, RenderError> {
        self.values.know([table.schema.as_str(), table.table.as_str()].into_iter()).await?;
        Ok(format!("{}.{}", self.values.ident(&table.schema), self.values.ident(&table.table)))
    }

    /// A table's schema as SQL.
    async fn schema(&mut self, table: &TableName) -> Result<String, RenderError> {
        self.values.know([table.schema.as_str()].into_iter()).await?;
        Ok(self.values.ident(&table.schema))
    }
}

// === impl Rendered ===

impl Rendered {
    fn note(note: String) -> Self {
        Self { notes: vec![one_line(&note)], sql: String::new(), whole: true }
    }
}

/// What an image asks for, and whether its row meets the rule's filter.
fn asked(head: &Head, image: &Image<'_>) -> (Op, Option<bool>) {
    let value = |at: usize| image.values.get(at).and_then(|value| value.bytes);
    let filter = |at: usize| Some(value(at) == Some(&[1]));
    let action = || match value(0) {
        Some(b"INSERT") => Op::Insert,
        Some(b"DELETE") => Op::Delete,
        _ => Op::Update,
    };
    match head.extra {
        Extra::None | Extra::Version | Extra::Told => (head.op, None),
        Extra::Filter => (head.op, filter(0)),
        Extra::Action => (action(), None),
        Extra::ActionAndFilter => (action(), filter(1)),
    }
}
