//! What sessions need of the configuration, with its files read.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use crate::config::{Allow, Auth, Config, Listen, Node, TlsMode};
use crate::wire::message::{AuthRequest, back};
use crate::wire::startup;
use crate::wire::stream::Liveness;
use crate::wire::tls::{ServerTls, ServerTlsFiles, TlsError};
use crate::wire::upstream::{Upstream, UpstreamError};

/// What a session is served with; replaced as a whole when the configuration is reloaded.
pub struct Settings {
    pub upstream: Upstream,
    pub(crate) tls: Option<ServerTls>,
    /// TCP clients without TLS are refused.
    pub(crate) require_tls: bool,
    pub(crate) auth: Auth,
    pub(crate) allow: Vec<Allow>,
    pub(crate) max_connections: Option<NonZeroUsize>,
    pub(crate) login_timeout: Duration,
    pub(crate) liveness: Liveness,
    /// By database: whether the server lets in anybody from where the proxy is, and when it was asked.
    open: Mutex<HashMap<String, (bool, Instant)>>,
}

/// Databases whose answer is remembered; clients can ask for any number of names.
const OPEN_DATABASES: usize = 64;

/// How long an answer is good for: pg_hba.conf may change at any time, and the proxy is not told.
const OPEN_FOR: Duration = Duration::from_secs(1);

impl Settings {
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let node = &config.node;
        let liveness = liveness(node);
        let tls = match (&config.tls.mode, &config.tls.cert, &config.tls.key) {
            (TlsMode::Disable, ..) | (_, None, _) | (_, _, None) => None,
            (mode, Some(cert), Some(key)) => Some(ServerTls::load(&ServerTlsFiles {
                cert: cert.clone(),
                key: key.clone(),
                client_ca: config.tls.ca.clone(),
                require_client_cert: *mode == TlsMode::VerifyClient,
            })?),
        };
        Ok(Self {
            upstream: Upstream::load(&node.server, node.connect_timeout, liveness)?,
            tls,
            require_tls: matches!(config.tls.mode, TlsMode::Require | TlsMode::VerifyClient),
            auth: node.auth,
            allow: config.allow.clone(),
            max_connections: node.max_connections,
            login_timeout: node.login_timeout,
            liveness,
            open: Mutex::default(),
        })
    }

    /// Whether the server lets in anybody who comes from where the proxy is: found out by asking as a user that does
    /// not exist, which `trust` lets through and `peer` or `cert` do not.
    pub async fn server_is_open(&self, database: &str) -> Result<bool, UpstreamError> {
        if let Some((open, asked)) = self.remembered().get(database)
            && asked.elapsed() < OPEN_FOR
        {
            return Ok(*open);
        }
        let mut random = [0; 8];
        // Without randomness the name is still one that nobody has.
        let _ = SystemRandom::new().fill(&mut random);
        let user = format!("pgcanon_probe_{:016x}", u64::from_be_bytes(random));
        let packet = startup::packet(&[("user", &user), ("database", database), ("application_name", "pgcanon")]);
        let asked = Instant::now();
        let answered = self.upstream.start(&packet).await?;
        let open = answered.first.is_some_and(|first| {
            first.tag() == back::AUTHENTICATION && matches!(AuthRequest::parse(first.body()), Ok(AuthRequest::Ok))
        });
        let mut remembered = self.remembered();
        if remembered.len() >= OPEN_DATABASES {
            remembered.clear();
        }
        remembered.insert(database.to_owned(), (open, asked));
        Ok(open)
    }

    fn remembered(&self) -> std::sync::MutexGuard<'_, HashMap<String, (bool, Instant)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the kernel watches this node's connections.
pub fn liveness(node: &Node) -> Liveness {
    Liveness {
        keepalive_idle: node.keepalive.idle,
        keepalive_interval: node.keepalive.interval,
        keepalive_count: node.keepalive.count,
        user_timeout: node.user_timeout.filter(|t| !t.is_zero()),
    }
}

/// Whether the proxy listens where clients beyond this machine can reach it.
pub fn listens_beyond_this_machine(config: &Config) -> bool {
    !config.node.listen.iter().all(Listen::is_local)
}
