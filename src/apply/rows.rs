//! Rows onto a peer (§4.3, §6): those of one entry that have the same fate together, as arrays, built of the images' bytes.

use std::sync::Arc;

use super::applier::Applier;
use super::error::{ApplyError, Rejection};
use super::line::{Expect, Param};
use super::route::Destination;
use super::session::{is_true, number, odd, text_array};
use super::settle::Ground;
use super::shape::{Act, Form, OwnColumn, Shape, TEXT_ARRAY, Type};
use crate::journal::Entry;
use crate::journal::entry::Head;
use crate::journal::image::Image;
use crate::wire::array::array;

/// Rows of one statement at most.
const ROWS: usize = 1000;
/// Bytes of one statement's images, about.
const BYTES: usize = 1 << 20;
/// Shapes of one table that are remembered.
const SHAPES: usize = 64;

/// Images that wait for others that can go with them.
struct Run<'a> {
    act: Act,
    images: Vec<Image<'a>>,
    /// Their numbers: those between them may have nothing to be done.
    rows: Vec<u32>,
    bytes: usize,
}

impl Applier {
    pub(super) async fn rows(&mut self, to: &Destination, entry: &Entry) -> Result<(), ApplyError> {
        if to.conflict.is_some() {
            return self.settle_rows(to, entry).await;
        }
        let shape = self.shape(to, &entry.head).await?;
        let mut run: Option<Run<'_>> = None;
        for (row, image) in (0_u32..).zip(entry.images()) {
            let act = image.map_err(|e| e.to_string()).and_then(|image| Ok((shape.act(&image)?, image)));
            let (act, image) = act.map_err(|why| self.malformed_row(row, why))?;
            let Some(act) = act else { continue };
            if let Some(full) = run.take_if(|run| run.act != act || run.is_full()) {
                self.put_run(&shape, &entry.head, &full)?;
                self.line.room(true).await?;
            }
            run.get_or_insert_with(|| Run { act, images: Vec::new(), rows: Vec::new(), bytes: 0 }).add(row, image);
        }
        match run {
            Some(last) => self.put_run(&shape, &entry.head, &last),
            None => Ok(()),
        }
    }

    fn put_run(&mut self, shape: &Shape, head: &Head, run: &Run<'_>) -> Result<(), ApplyError> {
        // Without a form there is nothing to be set.
        let Some(form) = shape.form(run.act) else {
            return if matches!(run.act, Act::Update | Act::Move) {
                Ok(())
            } else {
                Err(self.malformed("rows without a key"))
            };
        };
        let together = form.many.as_ref().filter(|_| run.images.len() > 1 && !self.row_by_row());
        let Some(many) = together else {
            let name = self.prepare(&form.one)?;
            self.encode(&head.encoding)?;
            for (row, image) in run.rows.iter().copied().zip(&run.images) {
                let params = form.params.iter().map(|p| Param { value: value(image, p.at), binary: !p.text });
                let params: Vec<Param<'_>> = params.collect();
                let at = self.at(row);
                self.line.execute(&name, &params, expect(form, 1), at);
            }
            return Ok(());
        };
        let name = self.prepare(many)?;
        self.encode(&head.encoding)?;
        let arrays = form.params.iter().map(|p| {
            let mut out = Vec::with_capacity(run.bytes / form.params.len().max(1));
            array(&mut out, p.element, run.images.iter().map(|image| value(image, p.at)));
            out
        });
        let arrays: Vec<Vec<u8>> = arrays.collect();
        let params: Vec<Param<'_>> = arrays.iter().map(|a| Param::binary(a)).collect();
        let at = self.at(run.rows.first().copied().unwrap_or_default());
        self.line.execute(&name, &params, expect(form, run.images.len()), at);
        Ok(())
    }

    fn row_by_row(&mut self) -> bool {
        self.opened().is_ok_and(|open| open.mode.row_by_row)
    }

    /// The statements for rows of this head; the peer is asked once what its table is like.
    pub(super) async fn shape(&mut self, to: &Destination, head: &Head) -> Result<Arc<Shape>, ApplyError> {
        let known = self.shapes.get(&to.table).and_then(|shapes| shapes.iter().find(|s| s.fits(to, head)));
        if let Some(shape) = known {
            return Ok(Arc::clone(shape));
        }
        self.encode("UTF8")?;
        let types = self.types(head).await?;
        let own = self.own_columns(to).await?;
        let (peer, bringer) = (self.route().peer().clone(), self.origin().clone());
        let ground = match &to.conflict {
            Some(conflict) => {
                let (partitioned, rivals) = (self.is_partitioned(to).await?, self.rivals(to).await?);
                let keeps_times = self.keeps_times();
                Some(Ground { conflict, peer: &peer, bringer: &bringer, keeps_times, partitioned, rivals })
            }
            None => None,
        };
        let shape =
            Shape::new(to, head, &types, &own, ground.as_ref(), || self.new_id()).map_err(|why| self.malformed(why))?;
        let shape = Arc::new(shape);
        let shapes = self.shapes.entry(to.table.clone()).or_default();
        if shapes.len() >= SHAPES {
            shapes.clear();
        }
        shapes.push(Arc::clone(&shape));
        Ok(shape)
    }

    /// The peer's types of the names that the head's columns have.
    async fn types(&mut self, head: &Head) -> Result<Vec<Type>, ApplyError> {
        // A cast by a function need not read a text as the type does: that of regclass does not know `-`, and users make others.
        // Those to a domain are those to what it is over.
        let sql = "SELECT t.oid, t.typarray, pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(t.typname), \
            t.typtype = 'd' OR EXISTS (SELECT FROM pg_catalog.pg_cast c WHERE c.castsource = 25 AND c.casttarget = t.oid \
            AND c.castmethod = 'f') \
            FROM unnest($1) WITH ORDINALITY AS v(name, ord) \
            LEFT JOIN pg_catalog.pg_type t ON t.oid = pg_catalog.to_regtype(v.name) \
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace ORDER BY v.ord";
        let names: Vec<&str> = head.columns.iter().map(|c| c.type_name.as_str()).collect();
        let names = text_array(&names);
        let rows = self.line.query(sql, &[TEXT_ARRAY], &[Param::binary(&names)]).await?;
        let mut types = Vec::new();
        for (column, row) in head.columns.iter().zip(&rows) {
            let [oid, array, name, casts] = row.as_slice() else { return Err(odd("a type")) };
            let Some(name) = name.clone() else {
                let message = format!("type {} of column \"{}\" does not exist", column.type_name, column.name);
                let at = self.at(0);
                return Err(self.line.fail(Rejection::own("42704", message, at)));
            };
            let array = Some(number(array)?).filter(|oid| *oid != 0);
            types.push(Type { oid: number(oid)?, array, name, casts: is_true(casts) });
        }
        Ok(types)
    }

    async fn is_partitioned(&mut self, to: &Destination) -> Result<bool, ApplyError> {
        let sql = "SELECT c.relkind = 'p' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = $2";
        let params = [Param::text(&to.table.schema), Param::text(&to.table.table)];
        let rows = self.line.query(sql, &[19, 19], &params).await?;
        Ok(rows.first().and_then(|row| row.first()).is_some_and(is_true))
    }

    /// Columns of the unique keys that the peer's table has besides its primary key, as far as values alone decide in them.
    async fn rivals(&mut self, to: &Destination) -> Result<Vec<Vec<String>>, ApplyError> {
        let sql = "SELECT i.indexrelid, a.attname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) \
            WHERE n.nspname = $1 AND c.relname = $2 AND i.indisunique AND NOT i.indisprimary AND i.indimmediate AND i.indisvalid \
            AND i.indpred IS NULL AND i.indexprs IS NULL ORDER BY 1";
        let params = [Param::text(&to.table.schema), Param::text(&to.table.table)];
        let rows = self.line.query(sql, &[19, 19], &params).await?;
        let mut all: Vec<(String, Vec<String>)> = Vec::new();
        for row in &rows {
            let [Some(index), Some(column)] = row.as_slice() else { return Err(odd("a unique key")) };
            match all.last_mut().filter(|(last, _)| last == index) {
                Some((_, columns)) => columns.push(column.clone()),
                None => all.push((index.clone(), vec![column.clone()])),
            }
        }
        Ok(all.into_iter().map(|(_, columns)| columns).collect())
    }

    /// What the peer's table fills by itself.
    async fn own_columns(&mut self, to: &Destination) -> Result<Vec<OwnColumn>, ApplyError> {
        let sql = "SELECT a.attname, a.attgenerated <> '' FROM pg_catalog.pg_attribute a \
            JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped \
            AND (a.attgenerated <> '' OR a.attidentity = 'a')";
        let params = [Param::text(&to.table.schema), Param::text(&to.table.table)];
        let rows = self.line.query(sql, &[19, 19], &params).await?;
        let own = |row: &super::line::Row| match row.as_slice() {
            [Some(name), generated] => Ok(OwnColumn { name: name.clone(), generated: is_true(generated) }),
            _ => Err(odd("a column")),
        };
        rows.iter().map(own).collect()
    }
}

impl<'a> Run<'a> {
    fn add(&mut self, row: u32, image: Image<'a>) {
        self.bytes = image.values.iter().filter_map(|v| v.bytes).fold(self.bytes, |sum, b| sum.saturating_add(b.len()));
        self.rows.push(row);
        self.images.push(image);
    }

    fn is_full(&self) -> bool {
        self.images.len() >= ROWS || self.bytes >= BYTES
    }
}

fn value<'a>(image: &Image<'a>, at: usize) -> Option<&'a [u8]> {
    image.values.get(at).and_then(|v| v.bytes)
}

fn expect(form: &Form, images: usize) -> Expect {
    match u64::try_from(images) {
        Ok(n) if form.counts => Expect::Count(n),
        _ => Expect::Done,
    }
}
