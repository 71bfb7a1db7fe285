//! The SQL console: `psql` and scripts ask the proxy itself, in PostgreSQL's protocol, and tell it to reload.
//!
//! It answers from what it is handed and keeps nothing. Everybody who reaches its socket is let in, which is why the
//! configuration takes loopback addresses only.

mod command;
mod view;

use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{Sink, stream};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{
    ClientInfo, ClientPortalStore, PgWireServerHandlers, PidSecretKeyGenerator, RandomPidSecretKeyGenerator, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use pgwire::tokio::process_socket;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::capture::lanes::Lanes;
use crate::catalog::Control;
use crate::config::{Changes, Config};
use crate::session::SessionMetrics;

use command::{Command, parse};
use view::{Cell, columns, rows};

/// Consoles open at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long accepting pauses that fails, for want of file descriptors say.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks for a reload; the answer is what changed, or why everything stays as it was.
pub type Reload = oneshot::Sender<Result<Changes, String>>;

/// What the console tells about, and whom it tells to reload.
pub struct Console {
    pub lanes: Arc<Lanes>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    pub sessions: SessionMetrics,
    /// The node's own database, for what stands there.
    pub control: Option<Control>,
    pub reload: mpsc::Sender<Reload>,
}

/// Serves until the future is dropped, which ends the open consoles, too.
pub async fn serve(listener: TcpListener, console: Arc<Console>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS => match accepted {
                Ok((socket, from)) => drop(open.spawn(attend(socket, from, console.clone()))),
                Err(e) => {
                    warn!(error = %e, "cannot accept a connection for the console");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(ended) = open.join_next() => {
                // Bytes that are no messages can be the end of one console, and of nothing else.
                if let Err(e) = ended {
                    warn!(error = %e, "a console ended unexpectedly");
                }
            }
        }
    }
}

async fn attend(socket: TcpStream, from: SocketAddr, console: Arc<Console>) {
    if let Err(e) = process_socket(socket, None, Handlers(Arc::new(Attendant(console)))).await {
        debug!(client = %from, error = %e, "console lost");
    }
}

/// An error as the client reads it.
fn refusal(code: &str, message: &str, hint: Option<String>) -> Box<ErrorInfo> {
    let mut error = ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message.to_owned());
    error.hint = hint;
    Box::new(error)
}

/// One console.
struct Attendant(Arc<Console>);

struct Handlers(Arc<Attendant>);

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.0.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.0.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.0.clone()
    }
}

// === impl Attendant ===

impl Attendant {
    async fn answer(&self, command: Command, formats: &Format) -> PgWireResult<Response> {
        let rows = rows(command, &self.0).await.map_err(PgWireError::UserError)?;
        let tag = match command {
            Command::Begin(tag) => return Ok(Response::TransactionStart(Tag::new(tag))),
            Command::End(tag) => return Ok(Response::TransactionEnd(Tag::new(tag))),
            Command::Set => return Ok(Response::Execution(Tag::new("SET"))),
            Command::Show(_) => "SHOW",
            Command::Reload => "RELOAD",
        };
        let fields = Arc::new(fields(command, formats));
        let mut encoder = DataRowEncoder::new(fields.clone());
        let mut encoded = Vec::with_capacity(rows.len());
        for row in rows {
            for cell in row {
                match cell {
                    Cell::Text(text) => encoder.encode_field(&text)?,
                    Cell::Number(number) => encoder.encode_field(&number)?,
                    Cell::Null => encoder.encode_field(&None::<String>)?,
                }
            }
            encoded.push(Ok(encoder.take_row()));
        }
        let mut response = QueryResponse::new(fields, stream::iter(encoded));
        response.set_command_tag(tag);
        Ok(Response::Query(response))
    }
}

fn fields(command: Command, formats: &Format) -> Vec<FieldInfo> {
    let format = |index: usize| match formats {
        Format::UnifiedText => FieldFormat::Text,
        Format::UnifiedBinary => FieldFormat::Binary,
        // Not `format_for`, which panics where the client named too few.
        Format::Individual(codes) => codes.get(index).map_or(FieldFormat::Text, |code| FieldFormat::from(*code)),
    };
    let field = |(index, (name, kind)): (usize, &(&str, Type))| {
        FieldInfo::new((*name).to_owned(), None, None, kind.clone(), format(index))
    };
    columns(command).iter().enumerate().map(field).collect()
}

#[async_trait]
impl StartupHandler for Attendant {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let PgWireFrontendMessage::Startup(startup) = message else { return Ok(()) };
        protocol_negotiation(client, &startup).await?;
        save_startup_parameters_to_metadata(client, &startup);
        let (pid, key) = RandomPidSecretKeyGenerator::default().generate(client);
        client.set_pid_and_secret_key(pid, key);
        let mut parameters = DefaultServerParameterProvider::default();
        // Clients read a number at its beginning and hold it for the server's.
        parameters.server_version = concat!("15.0 (pgcanon ", env!("CARGO_PKG_VERSION"), ")").to_owned();
        parameters.is_superuser = false;
        finish_authentication(client, &parameters).await
    }
}

#[async_trait]
impl SimpleQueryHandler for Attendant {
    async fn do_query<C>(&self, _client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let mut responses = Vec::new();
        for command in parse(query).map_err(PgWireError::UserError)? {
            responses.push(self.answer(command, &Format::UnifiedText).await?);
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Attendant {
    type Statement = Command;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        Arc::new(Parser)
    }

    async fn do_query<C>(&self, _client: &mut C, portal: &Portal<Command>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Command>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.answer(portal.statement.statement, &portal.result_column_format).await
    }
}

/// Reads one command for the extended protocol.
struct Parser;

#[async_trait]
impl QueryParser for Parser {
    type Statement = Command;

    async fn parse_sql<C>(&self, _client: &C, sql: &str, _types: &[Option<Type>]) -> PgWireResult<Option<Command>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        match parse(sql).map_err(PgWireError::UserError)?.as_slice() {
            [] => Ok(None),
            [command] => Ok(Some(*command)),
            _ => {
                let message = "cannot insert multiple commands into a prepared statement";
                Err(PgWireError::UserError(refusal("42601", message, None)))
            }
        }
    }

    fn get_parameter_types(&self, _command: &Command) -> PgWireResult<Vec<Type>> {
        Ok(Vec::new())
    }

    fn get_result_schema(&self, command: &Command, formats: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        Ok(fields(*command, formats.unwrap_or(&Format::UnifiedText)))
    }
}
