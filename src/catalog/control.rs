//! The proxy's own connection to its node: one, made when it is needed, made again when it broke.

use std::future::poll_fn;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls, Notification};

use crate::config::{ConnInfo, PassfileError};
use crate::journal::unhex;
use crate::wire::scram::Verifier;
use crate::wire::stream::{Liveness, Stream};
use crate::wire::tls::TlsError;
use crate::wire::upstream::{Upstream, UpstreamError};

/// Questions that wait for the connection; past that the asker waits.
const WAITING: usize = 64;

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(10);

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("control connection: {0}")]
    Connect(#[from] UpstreamError),
    #[error("control connection: {0}")]
    Passfile(#[from] PassfileError),
    #[error("control connection: {}", server_words(.0))]
    Query(#[from] tokio_postgres::Error),
    #[error("control connection: no answer within {ANSWER:?}")]
    Timeout,
    #[error("the proxy is shutting down")]
    Gone,
}

/// The server's own words, with the SQLSTATE; where it said nothing, what is wrong, and why.
pub(crate) fn server_words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(e), _) => format!("{} ({})", e.message(), e.code().code()),
        (None, Some(why)) => format!("{error}: {why}"),
        (None, None) => error.to_string(),
    }
}

/// How to connect.
pub struct ControlSettings {
    conninfo: ConnInfo,
    upstream: Upstream,
}

impl ControlSettings {
    pub fn load(conninfo: &ConnInfo, connect_timeout: Duration, liveness: Liveness) -> Result<Self, TlsError> {
        Ok(Self { upstream: Upstream::load(conninfo, connect_timeout, liveness)?, conninfo: conninfo.clone() })
    }

    /// Connects once, and asks for the server's version.
    pub async fn server_version(&self) -> Result<String, ControlError> {
        Ok(self.connect().await?.query_one("SHOW server_version", &[]).await?.get(0))
    }

    /// Connects once, and asks whether its role may read what `auth = "scram"` needs.
    pub async fn can_read_verifiers(&self) -> Result<bool, ControlError> {
        let sql = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
        Ok(self.connect().await?.query_one(sql, &[]).await?.get(0))
    }

    /// Opens one more connection; its task runs on the current runtime.
    pub(crate) async fn connect(&self) -> Result<Client, ControlError> {
        self.connect_hearing(|_| ()).await
    }

    /// Opens one more connection that also gives the PIDs of the sessions whose notifications come, and ends when it does.
    ///
    /// Of notifications that nobody takes in time, some are dropped: that one has come is all that they say.
    pub(crate) async fn connect_listening(&self) -> Result<(Client, mpsc::Receiver<i32>), ControlError> {
        let (sender, notified) = mpsc::channel(WAITING);
        let client = self
            .connect_hearing(move |n| {
                let _ = sender.try_send(n.process_id());
            })
            .await?;
        Ok((client, notified))
    }

    /// Opens one more connection; `hear` gets what it is notified of, is dropped with it, and must not block.
    pub(crate) async fn connect_hearing(
        &self,
        mut hear: impl FnMut(Notification) + Send + 'static,
    ) -> Result<Client, ControlError> {
        let (stream, config) = self.begin().await?;
        let (client, mut connection) = config.connect_raw(stream, NoTls).await?;
        tokio::spawn(async move {
            while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
                match message {
                    Ok(AsyncMessage::Notification(notification)) => hear(notification),
                    Ok(_) => {}
                    Err(e) => {
                        tracing::warn!(error = %server_words(&e), "control connection lost");
                        return;
                    }
                }
            }
        });
        Ok(client)
    }

    /// A connection that is logged in, and idle, for a caller that speaks the protocol itself.
    pub async fn log_in(&self, application_name: &str) -> Result<Stream, ControlError> {
        let (mut stream, mut config) = self.begin().await?;
        config.application_name(application_name);
        // What the library has read ends with ReadyForQuery; its handles are dropped without a word on the wire.
        let (client, connection) = config.connect_raw(&mut stream, NoTls).await?;
        drop((client, connection));
        Ok(stream)
    }

    /// A stream to the server, and what logs in over it.
    async fn begin(&self) -> Result<(Stream, tokio_postgres::Config), ControlError> {
        let mut config = tokio_postgres::Config::new();
        config.user(self.conninfo.user.as_deref().unwrap_or("postgres"));
        config.application_name(self.conninfo.application_name.as_deref().unwrap_or("pgcanon"));
        // The stream is encrypted already where it has to be.
        config.ssl_mode(tokio_postgres::config::SslMode::Disable);
        if let Some(dbname) = self.conninfo.dbname() {
            config.dbname(dbname);
        }
        for endpoint in self.upstream.endpoints() {
            if let Some(password) = self.conninfo.password_for(endpoint)? {
                config.password(password.expose());
            }
        }
        Ok((self.upstream.connect().await?, config))
    }
}

/// What became of a transaction that was to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its backend is still at it.
    Running,
    /// It left nothing.
    RolledBack,
    /// It is durable; its journal row holds this data.
    Committed(Vec<u8>),
}

#[derive(Debug)]
enum Question {
    /// What became of this backend's transaction, which was to commit the journal row with this meta.
    Fate { pid: i32, meta: Vec<u8> },
    /// The stored secret of this role.
    Verifier(String),
    /// Nothing but an answer.
    Ready,
    /// What this query says: one row of one text, or none.
    Text(&'static str),
    /// The same, of these.
    TextOf(&'static str, Vec<Box<dyn ToSql + Send + Sync>>),
}

type Answer = Result<Option<String>, ControlError>;

/// A handle to the connection, for any thread.
#[derive(Debug, Clone)]
pub struct Control {
    questions: mpsc::Sender<(Question, oneshot::Sender<Answer>)>,
    mock_secret: [u8; 32],
}

impl Control {
    /// Starts the task that owns the connection, on the current runtime; it ends with the last handle.
    pub fn start(mut settings: tokio::sync::watch::Receiver<std::sync::Arc<ControlSettings>>) -> Self {
        let (questions, mut waiting) = mpsc::channel::<(Question, oneshot::Sender<Answer>)>(WAITING);
        tokio::spawn(async move {
            let mut client = None;
            while let Some((question, answer)) = waiting.recv().await {
                if settings.has_changed().unwrap_or(false) {
                    client = None;
                }
                let now = settings.borrow_and_update().clone();
                // An asker that has gone away needs no answer.
                let _ = answer.send(ask(&now, &mut client, &question).await);
            }
        });
        let mut mock_secret = [0; 32];
        // Zeros would only let one tell an unknown user from a known one.
        let _ = SystemRandom::new().fill(&mut mock_secret);
        Self { questions, mock_secret }
    }

    /// The role's stored SCRAM secret, as text; `None` when there is no such role, or it has no password.
    pub async fn scram_verifier(&self, user: &str) -> Result<Option<String>, ControlError> {
        self.ask(Question::Verifier(user.to_owned())).await
    }

    /// Whether the server answers.
    pub async fn ready(&self) -> Result<(), ControlError> {
        self.ask(Question::Ready).await.map(drop)
    }

    /// What a query says that returns one text, or nothing.
    pub async fn text(&self, sql: &'static str) -> Result<Option<String>, ControlError> {
        self.ask(Question::Text(sql)).await
    }

    /// What a query says that returns one text, or nothing.
    pub async fn text_of(
        &self,
        sql: &'static str,
        params: Vec<Box<dyn ToSql + Send + Sync>>,
    ) -> Result<Option<String>, ControlError> {
        self.ask(Question::TextOf(sql, params)).await
    }

    /// Stands for the verifier of a user who has none.
    pub fn mock_verifier(&self, user: &str) -> Verifier {
        Verifier::mock(&self.mock_secret, user)
    }

    /// What became of the transaction of backend `pid` that was to commit the journal row with this meta (§4.7).
    pub async fn fate(&self, pid: i32, meta: &[u8]) -> Result<Fate, ControlError> {
        let answer = self.ask(Question::Fate { pid, meta: meta.to_vec() }).await?;
        Ok(match answer.as_deref() {
            Some("running") => Fate::Running,
            Some(data) => Fate::Committed(unhex(data.as_bytes()).unwrap_or_default()),
            None => Fate::RolledBack,
        })
    }

    async fn ask(&self, question: Question) -> Answer {
        let (sender, answer) = oneshot::channel();
        self.questions.send((question, sender)).await.map_err(|_| ControlError::Gone)?;
        answer.await.map_err(|_| ControlError::Gone)?
    }
}

/// Asks over the connection; if that turns out to be broken, over a new one.
async fn ask(settings: &ControlSettings, client: &mut Option<Client>, question: &Question) -> Answer {
    if let Some(old) = client.take_if(|c| !c.is_closed()) {
        let answer = ask_over(&old, question).await;
        if !old.is_closed() {
            // One that does not answer is not worth asking again.
            *client = Some(old).filter(|_| !matches!(answer, Err(ControlError::Timeout)));
            return answer;
        }
    }
    let new = timeout(ANSWER, settings.connect()).await.map_err(|_| ControlError::Timeout)??;
    ask_over(client.insert(new), question).await
}

async fn ask_over(client: &Client, question: &Question) -> Answer {
    let work = async {
        match question {
            Question::Ready => client.batch_execute("").await.map(|()| None),
            Question::Text(sql) => Ok(client.query_opt(*sql, &[]).await?.and_then(|row| row.get(0))),
            Question::TextOf(sql, params) => {
                let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| &**param as _).collect();
                Ok(client.query_opt(*sql, &params).await?.and_then(|row| row.get(0)))
            }
            Question::Fate { pid, meta } => {
                // The backend first: once it is gone, what it has not committed it never will.
                let running = "SELECT 'running' FROM pg_catalog.pg_stat_activity WHERE pid = $1 AND state IS NOT NULL";
                if let Some(row) = client.query_opt(running, &[pid]).await? {
                    return Ok(row.get(0));
                }
                let data =
                    "SELECT '\\x' || encode(data, 'hex') FROM pgcanon.journal WHERE pid = $1 AND meta = $2 LIMIT 1";
                Ok(client.query_opt(data, &[pid, meta]).await?.and_then(|row| row.get(0)))
            }
            Question::Verifier(user) => {
                let sql = "SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = $1";
                Ok(client.query_opt(sql, &[user]).await?.and_then(|row| row.get(0)))
            }
        }
    };
    Ok(timeout(ANSWER, work).await.map_err(|_| ControlError::Timeout)??)
}
