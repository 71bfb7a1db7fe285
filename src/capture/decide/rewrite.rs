//! Texts made of the client's own bytes and what is put between them; nothing of the client's is printed anew.

use crate::capture::write::{AloneForm, AloneResult, Inserted, Rewritten};

/// Copies a text piece by piece and keeps account of what was put in and left out.
pub(super) struct Weave<'a> {
    sql: &'a [u8],
    at: usize,
    out: Vec<u8>,
    inserted: Vec<Inserted>,
}

impl<'a> Weave<'a> {
    pub(super) fn new(sql: &'a [u8]) -> Self {
        Self { sql, at: 0, out: Vec::with_capacity(sql.len() + 512), inserted: Vec::new() }
    }

    /// Copies the client's bytes up to here.
    pub(super) fn copy(&mut self, end: usize) {
        self.out.extend_from_slice(self.sql.get(self.at..end).unwrap_or_default());
        self.at = self.at.max(end);
    }

    /// Leaves the client's bytes out, up to here.
    pub(super) fn skip(&mut self, end: usize) {
        let instead = end.saturating_sub(self.at);
        if instead > 0 {
            self.inserted.push(Inserted { at: self.out.len(), len: 0, instead });
            self.at = end;
        }
    }

    pub(super) fn put(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        let at = self.out.len();
        self.out.extend_from_slice(text);
        match self.inserted.last_mut() {
            Some(last) if last.at + last.len == at => last.len += text.len(),
            _ => self.inserted.push(Inserted { at, len: text.len(), instead: 0 }),
        }
    }

    /// Puts what journals all sources, in their order; where the number of the journal's child stands, which is 0 in the text.
    pub(super) fn log(&mut self, sources: &[(Source<'_>, Log)]) -> usize {
        self.put("INSERT INTO pgcanon.journal_");
        let child = self.out.len();
        let each: Vec<_> = sources.iter().map(|(source, log)| selected(*source, *log)).collect();
        self.put(format!("0 (meta, data) {}", each.join(" UNION ALL ")));
        child
    }

    pub(super) fn finish(self) -> Rewritten {
        Rewritten { sql: self.out, inserted: self.inserted }
    }
}

/// What capture appends to a `RETURNING`, behind the client's own items or as its only one.
pub(super) fn returning(own: bool, item: &str) -> String {
    if own { format!(", {item}") } else { format!(" RETURNING {item}") }
}

/// The statement with an image as its last column, to be run within a block.
pub(super) fn imaged(sql: &[u8], end: usize, own: bool, image: &str) -> Rewritten {
    let mut weave = Weave::new(sql);
    weave.copy(end);
    weave.put(returning(own, image));
    weave.copy(sql.len()); // a last comment or semicolon
    weave.finish()
}

/// What a self-journalling statement journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// The text, if the only row that there can be was changed.
    TextOfOne,
    /// The image of the only row that there can be.
    One,
    /// The text, if any row was changed.
    Text,
    /// The text if so many rows were changed, otherwise their images.
    TextIf(u64),
    /// The images of few rows, together.
    Few,
    /// The images of any number of rows, in chunks.
    Rows,
}

/// A data-modifying part of a statement as the CTE that holds its rows, and its place among the metas.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    pub(super) cte: &'a str,
    pub(super) meta: u16,
}

/// The parameter of the first meta.
pub(super) fn first_param(max_param: u16) -> Option<u16> {
    max_param.checked_add(1).filter(|first| *first < u16::MAX - 64)
}

/// Over all rows of `source`: what a journal row is made of, made when the last of them was locked (§4.7).
fn selected(source: Source<'_>, log: Log) -> String {
    let Source { cte, meta } = source;
    let images = "pg_catalog.string_agg(pgcanon_image, ''::pg_catalog.bytea)";
    let counted = |data: &str, from: &str| {
        format!(
            "SELECT ${meta}::pg_catalog.bytea AS pgcanon_meta, {data} AS pgcanon_data FROM (SELECT pg_catalog.count(*) AS \
             pgcanon_rows{from} FROM {cte}) AS pgcanon_n WHERE pgcanon_rows OPERATOR(pg_catalog.>) 0"
        )
    };
    match log {
        // There is no other row to wait for: an aggregate would only cost time.
        Log::TextOfOne => format!("SELECT ${meta}::pg_catalog.bytea, ''::pg_catalog.bytea FROM {cte}"),
        Log::One => format!("SELECT ${meta}::pg_catalog.bytea, pgcanon_image FROM {cte}"),
        Log::Text => counted("''::pg_catalog.bytea", ""),
        Log::TextIf(rows) => counted(
            &format!(
                "CASE WHEN pgcanon_rows OPERATOR(pg_catalog.=) {rows} THEN ''::pg_catalog.bytea ELSE pgcanon_images END"
            ),
            &format!(", {images} AS pgcanon_images"),
        ),
        Log::Few => counted("pgcanon_images", &format!(", {images} AS pgcanon_images")),
        Log::Rows => format!(
            "(SELECT ${meta}::pg_catalog.bytea AS pgcanon_meta, {images} AS pgcanon_data FROM (SELECT pgcanon_image, \
             pg_catalog.sum(pg_catalog.length(pgcanon_image)) OVER (ROWS UNBOUNDED PRECEDING) OPERATOR(pg_catalog./) \
             524288 AS pgcanon_chunk FROM {cte}) AS pgcanon_c GROUP BY pgcanon_chunk ORDER BY pgcanon_chunk)"
        ),
    }
}

/// One written table, whose statement journals itself.
pub(super) struct Alone<'a> {
    pub(super) sql: &'a [u8],
    pub(super) end: usize,
    pub(super) max_param: u16,
    /// The statement has a RETURNING of its own.
    pub(super) own: bool,
    /// None where the text is all that travels.
    pub(super) image: Option<&'a str>,
    pub(super) log: Log,
    /// The number of rows, where it can be no other but 0.
    pub(super) count: Option<u64>,
}

impl Alone<'_> {
    pub(super) fn form(&self) -> Option<AloneForm> {
        let first_param = first_param(self.max_param)?;
        let sources = [(Source { cte: "pgcanon_dml", meta: first_param }, self.log)];
        let image = self.image.map(|image| format!("{image} AS pgcanon_image"));
        let mut weave = Weave::new(self.sql);
        weave.put("WITH pgcanon_dml AS (");
        weave.copy(self.end);
        match (&image, self.own) {
            (Some(image), own) => weave.put(returning(own, image)),
            (None, true) => {}
            (None, false) => weave.put(" RETURNING 1"),
        }
        if let (false, Some(rows), false) = (self.own, self.count, matches!(self.log, Log::Rows)) {
            weave.put(") ");
            let child = weave.log(&sources);
            let result = AloneResult::Tag { rows };
            return Some(AloneForm { text: weave.finish(), child, first_param, result });
        }
        weave.put("), pgcanon_log AS (");
        let child = weave.log(&sources);
        let (shown, result) = match (self.own, &image) {
            (false, _) => ("pg_catalog.count(*)", AloneResult::Count),
            (true, Some(_)) => ("*", AloneResult::Rows),
            (true, None) => ("*", AloneResult::Own),
        };
        weave.put(format!(") SELECT {shown} FROM pgcanon_dml"));
        Some(AloneForm { text: weave.finish(), child, first_param, result })
    }
}
