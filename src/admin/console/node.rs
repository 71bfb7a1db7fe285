//! Queries that the node answers itself: handed on in a read-only transaction over a connection of their own, and their rows
//! handed back as they come, in the format that was asked for.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream as Streaming, stream};
use pgwire::api::Type;
use pgwire::api::portal::Format;
use pgwire::api::results::FieldInfo;
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use pgwire::messages::response::ErrorResponse;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_postgres::Client;

use crate::admin::console::{Console, field_format, refusal};
use crate::catalog::{ControlError, ControlSettings};
use crate::wire::extended::{Bind, Parse, framed, put_execute, put_query, put_sync};
use crate::wire::message::{back, front};
use crate::wire::stream::Stream;

/// The session's own settings would decide what names mean and how values look.
const BEGIN: &[u8] = b"BEGIN READ ONLY; SET LOCAL search_path = pgcanon; SET LOCAL datestyle = 'ISO'; \
    SET LOCAL intervalstyle = 'postgres'; SET LOCAL statement_timeout = '10min'";

type Failure = Box<ErrorInfo>;

/// What a query takes and answers.
#[derive(Clone, Debug, Default)]
pub(super) struct Described {
    pub(super) params: Vec<Type>,
    columns: Vec<Column>,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    table: i32,
    number: i16,
    kind: Type,
    size: i16,
    modifier: i32,
}

/// Values for a query, as a client bound them.
#[derive(Clone, Debug, Default)]
pub(super) struct Bound<'a> {
    pub(super) types: Vec<u32>,
    pub(super) formats: Vec<u16>,
    pub(super) values: Vec<Option<&'a [u8]>>,
}

/// A connection to the node, within the transaction.
struct Line {
    stream: Stream,
    inbox: BytesMut,
}

// === impl Described ===

impl Described {
    /// The same with other parameters.
    #[must_use]
    pub(super) fn taking(self, params: Vec<Type>) -> Self {
        Self { params, ..self }
    }

    pub(super) fn fields(&self, formats: &Format) -> Vec<FieldInfo> {
        let field = |(at, c): (usize, &Column)| {
            FieldInfo::new(c.name.clone(), Some(c.table), Some(c.number), c.kind.clone(), field_format(formats, at))
                .with_type_size(c.size)
                .with_type_modifier(c.modifier)
        };
        self.columns.iter().enumerate().map(field).collect()
    }
}

/// How the console connects to its node.
fn settings(console: &Console) -> Result<Arc<ControlSettings>, Failure> {
    let Some(control) = &console.node else {
        let hint = "Set control in the [node] section of the configuration: this is in the node's database.";
        return Err(refusal("55000", "the proxy has no connection of its own", Some(hint.into())));
    };
    Ok(control.borrow().clone())
}

/// A connection for what the console itself has to ask.
pub(super) async fn client(console: &Console) -> Result<Client, Failure> {
    let failed = |e: ControlError| refusal("08006", &e.to_string(), None);
    let client = settings(console)?.connect().await.map_err(failed)?;
    client.batch_execute("SET search_path = ''").await.map_err(|e| failed(e.into()))?;
    Ok(client)
}

/// Asks what a query takes and answers; `types` are those that the client has told.
pub(super) async fn describe(console: &Console, sql: &str, types: &[u32]) -> Result<Described, Failure> {
    let mut line = Line::open(console).await?;
    line.describe(sql, types).await
}

/// Runs a query; its rows come as fast as they are taken.
pub(super) async fn run(
    console: &Console,
    sql: &str,
    bound: Bound<'_>,
    formats: &Format,
) -> Result<(Vec<FieldInfo>, impl Streaming<Item = PgWireResult<DataRow>> + use<>), Failure> {
    let mut line = Line::open(console).await?;
    let described = line.describe(sql, &bound.types).await?;
    let results = match formats {
        Format::UnifiedText => Vec::new(),
        Format::UnifiedBinary => vec![1],
        Format::Individual(codes) => codes.iter().map(|code| u16::from(*code == 1)).collect(),
    };
    let mut out = Vec::new();
    Bind { portal: b"", statement: b"", formats: bound.formats, params: bound.values, results }.put(&mut out);
    put_execute(&mut out, b"", 0);
    put_sync(&mut out);
    line.send(&out).await?;
    let fields = described.fields(formats);
    // What is wrong with the values is said before the first row.
    let first = line.row().await?;
    let rows = stream::unfold((Some(line), first), |(line, row)| async {
        let (row, mut line) = (row?, line?);
        Some(match line.row().await {
            Ok(next) => (Ok(row), (Some(line), next)),
            Err(failure) => (Err(PgWireError::UserError(failure)), (None, None)),
        })
    });
    Ok((fields, rows))
}

// === impl Line ===

impl Line {
    async fn open(console: &Console) -> Result<Self, Failure> {
        let stream = settings(console)?.log_in("pgcanon console").await;
        let stream = stream.map_err(|e| refusal("08006", &e.to_string(), None))?;
        let mut line = Self { stream, inbox: BytesMut::new() };
        let mut out = Vec::new();
        put_query(&mut out, BEGIN);
        line.send(&out).await?;
        while line.next().await?.0 != back::READY {}
        Ok(line)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.stream.write_all(bytes).await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)
    }

    /// Parses it as the unnamed statement.
    async fn describe(&mut self, sql: &str, types: &[u32]) -> Result<Described, Failure> {
        let mut out = Vec::new();
        Parse { statement: b"", sql: sql.as_bytes(), types: types.to_vec() }.put(&mut out);
        framed(&mut out, front::DESCRIBE, |out| out.extend_from_slice(b"S\0"));
        put_sync(&mut out);
        self.send(&out).await?;
        let mut described = Described::default();
        loop {
            let (tag, body) = self.next().await?;
            match tag {
                back::PARAMETER_DESCRIPTION => described.params = params(body).ok_or_else(unclear)?,
                back::ROW_DESCRIPTION => described.columns = columns(body).ok_or_else(unclear)?,
                back::READY => return Ok(described),
                _ => {}
            }
        }
    }

    /// The next row; none behind the last.
    async fn row(&mut self) -> Result<Option<DataRow>, Failure> {
        loop {
            let (tag, mut body) = self.next().await?;
            match tag {
                back::DATA_ROW => {
                    let count = body.try_get_i16().map_err(|_| unclear())?;
                    return Ok(Some(DataRow::new(body, count)));
                }
                back::READY => {
                    // The server need not wonder where its client is.
                    let mut out = Vec::new();
                    framed(&mut out, front::TERMINATE, |_| {});
                    let _ = self.send(&out).await;
                    return Ok(None);
                }
                _ => {}
            }
        }
    }

    /// The next message; the server's error is one.
    async fn next(&mut self) -> Result<(u8, BytesMut), Failure> {
        loop {
            if let Some(([tag, len @ ..], _)) = self.inbox.split_first_chunk::<5>() {
                let (tag, len) = (*tag, usize::try_from(u32::from_be_bytes(*len)).unwrap_or(usize::MAX));
                if len < 4 {
                    return Err(unclear());
                }
                let whole = len.saturating_add(1);
                if self.inbox.len() >= whole {
                    let mut frame = self.inbox.split_to(whole);
                    frame.advance(5);
                    return if tag == back::ERROR { Err(error(frame)) } else { Ok((tag, frame)) };
                }
            }
            if self.stream.read_buf(&mut self.inbox).await.map_err(lost)? == 0 {
                return Err(refusal("08006", "the node has closed the connection", None));
            }
        }
    }
}

fn lost(error: std::io::Error) -> Failure {
    refusal("08006", &format!("the connection to the node is lost: {error}"), None)
}

fn unclear() -> Failure {
    refusal("08P01", "the node has sent what is no message", None)
}

/// The server's own words; the console itself goes on, whatever they are.
fn error(mut body: BytesMut) -> Failure {
    let mut fields = Vec::new();
    while let Some((key, value)) =
        body.split_first().filter(|(key, _)| **key != 0).map(|(key, _)| *key).zip(text(&mut body, 1))
    {
        let value = if matches!(key, b'S' | b'V') { "ERROR".to_owned() } else { value };
        fields.push((key, value));
    }
    Box::new(ErrorInfo::from(ErrorResponse::new(fields)))
}

/// Takes a NUL-terminated text that stands behind `skip` bytes.
fn text(body: &mut BytesMut, skip: usize) -> Option<String> {
    let end = memchr::memchr(0, body.get(skip..)?)?.saturating_add(skip);
    let taken = body.split_to(end.saturating_add(1));
    Some(String::from_utf8_lossy(taken.get(skip..end)?).into_owned())
}

fn kind(oid: u32) -> Type {
    Type::from_oid(oid).unwrap_or(Type::TEXT)
}

fn params(mut body: BytesMut) -> Option<Vec<Type>> {
    let count = body.try_get_u16().ok()?;
    (0..count).map(|_| body.try_get_u32().ok().map(kind)).collect()
}

fn columns(mut body: BytesMut) -> Option<Vec<Column>> {
    let count = body.try_get_u16().ok()?;
    let column = |body: &mut BytesMut| {
        let name = text(body, 0)?;
        let mut body: Bytes = if body.len() < 18 { return None } else { body.split_to(18).freeze() };
        Some(Column {
            name,
            table: body.get_i32(),
            number: body.get_i16(),
            kind: kind(body.get_u32()),
            size: body.get_i16(),
            modifier: body.get_i32(),
        })
    };
    (0..count).map(|_| column(&mut body)).collect()
}
