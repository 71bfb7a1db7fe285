//! Asks the node's server what binary values look like: whatever it cannot say is told with the reason and stops nothing.

use std::collections::HashMap;
use std::error::Error;

use bytes::BytesMut;
use futures_util::future::join_all;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Row, Statement};

use super::RenderError;
use super::literal::Shown;
use crate::catalog::server_words;
use crate::journal::entry::Head;
use crate::sql::quote::quoted;

/// The values are shown so that they mean the same in every session.
const SETUP: &str = "SET search_path = ''; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres'; \
    SET TimeZone = 'UTC'; SET bytea_output = 'hex'; SET extra_float_digits = 1; SET quote_all_identifiers = off; \
    SET statement_timeout = 0; SET lock_timeout = 0; SET idle_session_timeout = 0; SET client_encoding = 'UTF8'";
const UTF8: &str = "UTF8";
/// Of each cache; past that it begins anew.
const CACHED: usize = 256;

/// What the server says, or its words for why it does not.
pub(super) type Said<T> = Result<T, String>;

/// A connection whose answers are cached.
pub(super) struct Values {
    client: Client,
    ready: bool,
    /// `client_encoding` of the session: values come in it, and answers in UTF-8 whatever it is.
    encoding: String,
    /// Characters of a value that are asked for.
    pub(super) limit: Option<usize>,
    /// By the types of a row.
    questions: HashMap<Vec<String>, Statement>,
    /// The types of a text's parameters.
    inferred: HashMap<String, Vec<Type>>,
    idents: HashMap<String, String>,
    /// Whether a table has an identity that is always generated.
    always: HashMap<(String, String, [u8; 8]), bool>,
}

/// A value just as it came.
#[derive(Debug)]
struct Raw<'a>(Option<&'a [u8]>);

// === impl Values ===

impl Values {
    pub(super) fn new(client: Client, limit: Option<usize>) -> Self {
        Self {
            client,
            ready: false,
            encoding: UTF8.to_owned(),
            limit,
            questions: HashMap::new(),
            inferred: HashMap::new(),
            idents: HashMap::new(),
            always: HashMap::new(),
        }
    }

    /// What the values of several rows look like, each of the type in its place.
    pub(super) async fn rows(
        &mut self,
        encoding: &str,
        types: &[String],
        rows: &[Vec<Option<&[u8]>>],
    ) -> Result<Vec<Vec<Shown>>, RenderError> {
        let question = match self.question(types).await? {
            Ok(question) => self.encode(encoding).await?.map(|()| question),
            Err(why) => Err(why),
        };
        let answers = match &question {
            Ok(question) => {
                let values: Vec<Vec<Raw<'_>>> = rows.iter().map(|row| row.iter().copied().map(Raw).collect()).collect();
                // Sent together: one way there and back for all of them.
                join_all(values.iter().map(|row| one(&self.client, question, row))).await
            }
            Err(_) => Vec::new(),
        };
        let mut shown = Vec::with_capacity(rows.len());
        let mut answers = answers.into_iter();
        for row in rows {
            let answer = answers.next().map(|answer| self.said(answer)).transpose()?;
            let read = answer.and_then(Result::ok).and_then(|answer| self.read(&answer, row));
            shown.push(match read {
                Some(read) => read,
                None => self.one_by_one(encoding, types, row).await?,
            });
        }
        Ok(shown)
    }

    /// A value that the server does not understand hides no other.
    async fn one_by_one(
        &mut self,
        encoding: &str,
        types: &[String],
        row: &[Option<&[u8]>],
    ) -> Result<Vec<Shown>, RenderError> {
        let mut shown = Vec::with_capacity(row.len());
        for (type_name, value) in types.iter().zip(row) {
            let Some(bytes) = value else {
                shown.push(Shown::Null);
                continue;
            };
            shown.push(match self.ask(encoding, type_name, bytes).await? {
                Ok(text) => Shown::text(text, self.limit),
                Err(why) => Shown::raw(bytes, self.limit, &why),
            });
        }
        Ok(shown)
    }

    async fn ask(&mut self, encoding: &str, type_name: &String, bytes: &[u8]) -> Result<Said<String>, RenderError> {
        let question = match self.question(std::slice::from_ref(type_name)).await? {
            Ok(question) => question,
            Err(why) => return Ok(Err(why)),
        };
        if let Err(why) = self.encode(encoding).await? {
            return Ok(Err(why));
        }
        let answer = one(&self.client, &question, &[Raw(Some(bytes))]).await;
        Ok(self.said(answer)?.and_then(|row| text_of(&row)))
    }

    /// What a value of a type that the server told us looks like.
    pub(super) async fn of_type(
        &mut self,
        encoding: &str,
        ty: &Type,
        bytes: &[u8],
    ) -> Result<Said<String>, RenderError> {
        if let Err(why) = self.encode(encoding).await? {
            return Ok(Err(why));
        }
        let sql = format!("SELECT {}", self.shown(1, ""));
        let answer = self.client.query_typed(&sql, &[(&Raw(Some(bytes)), ty.clone())]).await;
        let row = answer.map(|rows| rows.into_iter().next());
        Ok(self.said(row)?.and_then(|row| row.ok_or_else(|| "no answer".to_owned())).and_then(|row| text_of(&row)))
    }

    /// A value as its type's output function writes it, as long as is needed, in UTF-8.
    fn shown(&self, number: usize, cast: &str) -> String {
        let text = format!("pg_catalog.format('%s', ${number}{cast})");
        let cut = match self.limit {
            // One more tells that there is more.
            Some(limit) => format!("pg_catalog.left({text}, {})", limit.saturating_add(1)),
            None => text,
        };
        format!("pg_catalog.convert_to({cut}, 'UTF8')")
    }

    async fn question(&mut self, types: &[String]) -> Result<Said<Statement>, RenderError> {
        if let Some(question) = self.questions.get(types) {
            return Ok(Ok(question.clone()));
        }
        // The names of types, and what the server says of them, are in UTF-8.
        self.encode_utf8().await?;
        let shown: Vec<_> = (1..).zip(types).map(|(n, type_name)| self.shown(n, &format!("::{type_name}"))).collect();
        let prepared = self.client.prepare(&format!("SELECT {}", shown.join(", "))).await;
        let question = self.said(prepared)?;
        if let Ok(question) = &question {
            make_room(&mut self.questions);
            self.questions.insert(types.to_vec(), question.clone());
        }
        Ok(question)
    }

    fn read(&self, answer: &Row, row: &[Option<&[u8]>]) -> Option<Vec<Shown>> {
        let shown = |(at, value): (usize, &Option<&[u8]>)| match value {
            None => Some(Shown::Null),
            Some(_) => {
                let text = std::str::from_utf8(answer.try_get(at).ok()?).ok()?;
                Some(Shown::text(text.to_owned(), self.limit))
            }
        };
        row.iter().enumerate().map(shown).collect()
    }

    /// Bytes of an encoding in UTF-8.
    pub(super) async fn converted(
        &mut self,
        encoding: &str,
        pieces: &[&[u8]],
    ) -> Result<Said<Vec<String>>, RenderError> {
        let readable = matches!(encoding, UTF8 | "SQL_ASCII") || pieces.iter().all(|piece| piece.is_ascii());
        if readable {
            let text = |piece: &&[u8]| std::str::from_utf8(piece).map(str::to_owned).map_err(|e| e.to_string());
            return Ok(pieces.iter().map(text).collect());
        }
        self.encode_utf8().await?;
        let sql = "SELECT pg_catalog.convert(piece, $2::text::name, 'UTF8') \
            FROM pg_catalog.unnest($1::bytea[]) WITH ORDINALITY AS pieces (piece, n) ORDER BY n";
        let answer = self.client.query(sql, &[&pieces, &encoding]).await;
        let text = |row: &Row| text_of(row);
        Ok(self.said(answer)?.and_then(|rows| rows.iter().map(text).collect()))
    }

    /// The types of a text's parameters, as this node sees them.
    pub(super) async fn parameters(&mut self, sql: &str) -> Result<Said<Vec<Type>>, RenderError> {
        if let Some(types) = self.inferred.get(sql) {
            return Ok(Ok(types.clone()));
        }
        self.encode_utf8().await?;
        let prepared = self.client.prepare(sql).await;
        let types = self.said(prepared)?.map(|prepared| prepared.params().to_vec());
        if let Ok(types) = &types {
            make_room(&mut self.inferred);
            self.inferred.insert(sql.to_owned(), types.clone());
        }
        Ok(types)
    }

    /// Makes sure of [`ident`](Self::ident) for these names.
    pub(super) async fn know(&mut self, names: impl Iterator<Item = &str>) -> Result<(), RenderError> {
        let new: Vec<&str> = names.filter(|name| !self.idents.contains_key(*name)).collect();
        if new.is_empty() {
            return Ok(());
        }
        self.encode_utf8().await?;
        let sql = "SELECT name, pg_catalog.quote_ident(name) FROM pg_catalog.unnest($1::text[]) AS names (name)";
        let rows = self.client.query(sql, &[&new]).await?;
        if self.idents.len() > CACHED.saturating_mul(16) {
            // Not the ones that were asked for with these.
            let keep: Vec<_> = new.iter().map(|name| (*name).to_owned()).collect();
            self.idents.retain(|name, _| keep.contains(name));
        }
        for row in rows {
            self.idents.insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(())
    }

    /// A name as SQL, with quotes where it needs them.
    pub(super) fn ident(&self, name: &str) -> String {
        self.idents.get(name).cloned().unwrap_or_else(|| quoted(name))
    }

    /// Whether a value is only taken for the table's identity column where OVERRIDING says so.
    pub(super) async fn is_always(&mut self, head: &Head) -> Result<bool, RenderError> {
        let table = (head.schema.clone(), head.table.clone(), head.shape);
        if let Some(always) = self.always.get(&table) {
            return Ok(*always);
        }
        self.encode_utf8().await?;
        let sql = "SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname = $1::text AND c.relname = $2::text AND a.attidentity = 'a')";
        let always = self.client.query_one(sql, &[&head.schema, &head.table]).await?.try_get(0)?;
        make_room(&mut self.always);
        self.always.insert(table, always);
        Ok(always)
    }

    async fn encode_utf8(&mut self) -> Result<(), RenderError> {
        self.encode(UTF8).await?.map_err(RenderError::Encoding)
    }

    async fn encode(&mut self, encoding: &str) -> Result<Said<()>, RenderError> {
        if !self.ready {
            self.client.batch_execute(SETUP).await?;
            self.ready = true;
        }
        if self.encoding == encoding {
            return Ok(Ok(()));
        }
        let sql = format!("SET client_encoding = '{}'", encoding.replace('\'', "''"));
        let set = self.client.batch_execute(&sql).await;
        let said = self.said(set)?;
        if said.is_ok() {
            encoding.clone_into(&mut self.encoding);
        }
        Ok(said)
    }

    /// What goes wrong while the connection lives is about the question.
    fn said<T>(&self, answer: Result<T, tokio_postgres::Error>) -> Result<Said<T>, RenderError> {
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(e) if self.client.is_closed() => Err(e.into()),
            Err(e) => Ok(Err(server_words(&e))),
        }
    }
}

/// One row for one row of values.
async fn one(client: &Client, question: &Statement, values: &[Raw<'_>]) -> Result<Row, tokio_postgres::Error> {
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    client.query_one(question, &values).await
}

fn text_of(row: &Row) -> Said<String> {
    let bytes: &[u8] = row.try_get(0).map_err(|e| e.to_string())?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| e.to_string())
}

fn make_room<K, V>(cache: &mut HashMap<K, V>) {
    if cache.len() >= CACHED {
        cache.clear();
    }
}

/// A type's name as SQL has it.
pub(super) fn type_name(ty: &Type) -> String {
    match ty.kind() {
        Kind::Array(element) => format!("{}[]", type_name(element)),
        _ if ty.schema() == "pg_catalog" && ty.name() == "char" => "\"char\"".to_owned(),
        _ if ty.schema() == "pg_catalog" => ty.name().to_owned(),
        _ => {
            format!("{}.{}", quoted(ty.schema()), quoted(ty.name()))
        }
    }
}

// === impl Raw ===

impl ToSql for Raw<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        Ok(match self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Binary
    }

    to_sql_checked!();
}
