//! One console's conversation in PostgreSQL's protocol: the simple one, and the extended one with parameters.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Sink, SinkExt, stream};
use pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use pgwire::api::portal::{Format, Portal};
use pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use pgwire::api::results::{DataRowEncoder, FieldInfo, QueryResponse, Response, Tag};
use pgwire::api::stmt::QueryParser;
use pgwire::api::store::PortalStore;
use pgwire::api::{
    ClientInfo, ClientPortalStore, METADATA_USER, PgWireConnectionState, PgWireServerHandlers, PidSecretKeyGenerator,
    RandomPidSecretKeyGenerator, Type,
};
use pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use pgwire::messages::startup::PasswordMessageFamily;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};

use crate::admin::console::access::{Access, Door, Guest, Reply};
use crate::admin::console::args::{self, Value};
use crate::admin::console::command::{Arg, Command, Function, parse};
use crate::admin::console::node::{self, Bound, Described};
use crate::admin::console::view::{Cell, columns, rows};
use crate::admin::console::{Console, field_format, queue, refusal};
use crate::wire::extended::BINARY;

/// One console.
struct Attendant {
    console: Arc<Console>,
    access: Access,
    parser: Arc<Parser>,
}

/// What one console's messages go to.
pub(super) struct Handlers(Arc<Attendant>);

impl Handlers {
    pub(super) fn new(door: Door, console: Arc<Console>) -> Self {
        let parser = Arc::new(Parser(console.clone()));
        Self(Arc::new(Attendant { console, access: Access::new(door), parser }))
    }
}

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

/// A command, with what is known of it before it runs.
#[derive(Clone)]
struct Prepared {
    command: Command,
    described: Arc<Described>,
}

// === impl Attendant ===

impl Attendant {
    /// Does what was said; `bound` are the client's parameters.
    async fn answer(&self, command: &Command, bound: Bound<'_>, formats: &Format) -> PgWireResult<Response> {
        let guest = self.access.guest(command.needs()).map_err(PgWireError::UserError)?;
        match command {
            Command::Begin(tag) => Ok(Response::TransactionStart(Tag::new(tag))),
            Command::End(tag) => Ok(Response::TransactionEnd(Tag::new(tag))),
            Command::Nothing(tag) => Ok(Response::Execution(Tag::new(tag))),
            Command::Select(sql) => self.ask(sql, bound, formats).await,
            Command::Call(Function::Export, args) => {
                let value = self.values(Function::Export, args, &bound).map_err(PgWireError::UserError)?;
                let peer = value.iter().find_map(|value| match value {
                    Value::Text(peer) => Some(peer.as_bytes()),
                    Value::Number(_) => None,
                });
                let bound = Bound { types: vec![Type::TEXT.oid()], formats: Vec::new(), values: vec![peer] };
                self.ask(queue::EXPORT, bound, formats).await
            }
            _ => self.own(command, guest, &bound, formats).await,
        }
    }

    /// The node answers.
    async fn ask(&self, sql: &str, bound: Bound<'_>, formats: &Format) -> PgWireResult<Response> {
        let (fields, rows) = node::run(&self.console, sql, bound, formats).await.map_err(PgWireError::UserError)?;
        Ok(Response::Query(QueryResponse::new(Arc::new(fields), rows)))
    }

    /// The console itself answers.
    async fn own(
        &self,
        command: &Command,
        guest: &Guest,
        bound: &Bound<'_>,
        formats: &Format,
    ) -> PgWireResult<Response> {
        let values = match command {
            Command::Call(function, args) => self.values(*function, args, bound).map_err(PgWireError::UserError)?,
            _ => Vec::new(),
        };
        let rows = rows(command, &values, guest, &self.console).await.map_err(PgWireError::UserError)?;
        let tag = match command {
            Command::Pause(_) => return Ok(Response::Execution(Tag::new("PAUSE"))),
            Command::Resume(_) => return Ok(Response::Execution(Tag::new("RESUME"))),
            Command::Reload => "RELOAD",
            Command::Call(..) => "SELECT",
            _ => "SHOW",
        };
        let fields = Arc::new(fields(command, formats));
        let mut encoder = DataRowEncoder::new(fields.clone());
        let mut encoded = Vec::with_capacity(rows.len());
        for row in rows {
            for cell in row {
                match cell {
                    Cell::Text(text) => encoder.encode_field(&text)?,
                    Cell::Number(number) => encoder.encode_field(&number)?,
                    Cell::Float(number) => encoder.encode_field(&number)?,
                    Cell::Bool(truth) => encoder.encode_field(&truth)?,
                    Cell::Moment(moment) => encoder.encode_field(&moment)?,
                    Cell::Null => encoder.encode_field(&None::<String>)?,
                }
            }
            encoded.push(Ok(encoder.take_row()));
        }
        let mut response = QueryResponse::new(fields, stream::iter(encoded));
        response.set_command_tag(tag);
        Ok(Response::Query(response))
    }

    /// What a function is called with; nothing where any of it is null, as the server's strict functions have it.
    fn values(&self, function: Function, args: &[Arg], bound: &Bound<'_>) -> Result<Vec<Value>, Box<ErrorInfo>> {
        let mut values = Vec::new();
        for (arg, kind) in args.iter().zip(function.parameters()) {
            match args::value(arg, kind, bound)? {
                Some(value) => values.push(value),
                None => return Ok(Vec::new()),
            }
        }
        Ok(values)
    }
}

/// The fields of what the console itself answers.
fn fields(command: &Command, formats: &Format) -> Vec<FieldInfo> {
    let field = |(index, (name, kind)): (usize, &(&str, Type))| {
        FieldInfo::new((*name).to_owned(), None, None, kind.clone(), field_format(formats, index))
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
        let reply = match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                let name = client.metadata().get(METADATA_USER).cloned().unwrap_or_default();
                self.access.begin(&name, &self.console).await
            }
            PgWireFrontendMessage::PasswordMessageFamily(PasswordMessageFamily::Raw(body)) => {
                self.access.answer(&body).await
            }
            _ => return Ok(()),
        };
        match reply.map_err(PgWireError::UserError)? {
            Reply::Ask(question) => {
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                client.send(PgWireBackendMessage::Authentication(question)).await?;
                return Ok(());
            }
            Reply::Enter(Some(last)) => client.feed(PgWireBackendMessage::Authentication(last)).await?,
            Reply::Enter(None) => {}
        }
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
            match self.answer(&command, Bound::default(), &Format::UnifiedText).await {
                Ok(response) => responses.push(response),
                // What was done before is told all the same.
                Err(PgWireError::UserError(error)) => {
                    responses.push(Response::Error(error));
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if responses.is_empty() {
            responses.push(Response::EmptyQuery);
        }
        Ok(responses)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Attendant {
    type Statement = Prepared;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        self.parser.clone()
    }

    async fn do_query<C>(&self, _client: &mut C, portal: &Portal<Prepared>, _max_rows: usize) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Prepared>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let bound = Bound {
            types: oids(&portal.statement.parameter_types),
            formats: match &portal.parameter_format {
                Format::UnifiedText => Vec::new(),
                Format::UnifiedBinary => vec![BINARY],
                Format::Individual(codes) => codes.iter().map(|code| u16::from(*code == 1)).collect(),
            },
            values: portal.parameters.iter().map(|value| value.as_deref()).collect(),
        };
        self.answer(&portal.statement.statement.command, bound, &portal.result_column_format).await
    }
}

/// Reads one command for the extended protocol, for one who has logged in.
struct Parser(Arc<Console>);

impl Parser {
    /// What a command takes and answers; the node is asked where it is the one to answer.
    async fn prepare(&self, command: Command, types: &[Option<Type>]) -> Result<Prepared, Box<ErrorInfo>> {
        let described = match &command {
            Command::Select(sql) => node::describe(&self.0, sql, &oids(types)).await?,
            Command::Call(Function::Export, args) => {
                let described = node::describe(&self.0, queue::EXPORT, &[Type::TEXT.oid()]).await?;
                described.taking(args::types(Function::Export, args))
            }
            Command::Call(function, args) => Described::default().taking(args::types(*function, args)),
            _ => Described::default(),
        };
        Ok(Prepared { command, described: Arc::new(described) })
    }
}

#[async_trait]
impl QueryParser for Parser {
    type Statement = Prepared;

    async fn parse_sql<C>(&self, _client: &C, sql: &str, types: &[Option<Type>]) -> PgWireResult<Option<Prepared>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        let mut commands = parse(sql).map_err(PgWireError::UserError)?.into_iter();
        let Some(command) = commands.next() else { return Ok(None) };
        if commands.next().is_some() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(PgWireError::UserError(refusal("42601", message, None)));
        }
        self.prepare(command, types).await.map(Some).map_err(PgWireError::UserError)
    }

    fn get_parameter_types(&self, prepared: &Prepared) -> PgWireResult<Vec<Type>> {
        Ok(prepared.described.params.clone())
    }

    fn get_result_schema(&self, prepared: &Prepared, formats: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        let formats = formats.unwrap_or(&Format::UnifiedText);
        let of_node = prepared.described.fields(formats);
        Ok(if of_node.is_empty() { fields(&prepared.command, formats) } else { of_node })
    }
}

/// Types as the protocol has them: 0 is for the server to find out.
fn oids(types: &[Option<Type>]) -> Vec<u32> {
    types.iter().map(|kind| kind.as_ref().map_or(0, Type::oid)).collect()
}
