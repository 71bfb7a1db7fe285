//! `/metrics`, `/healthz` and `/readyz`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;

use crate::admin::conflicts::Conflicts;
use crate::admin::peers::Peers;

/// Connections served at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is asked for when it is to be shown.
#[derive(Clone)]
pub struct Looks {
    pub peers: Peers,
    pub conflicts: Conflicts,
}

/// Answers whether the node can serve sessions now, and if not, why.
pub trait Readiness: Send + Sync + 'static {
    fn check(&self) -> impl Future<Output = Result<(), String>> + Send;
}

/// Serves until the future is dropped.
pub async fn serve<R: Readiness>(listener: TcpListener, registry: Arc<Registry>, readiness: Arc<R>, looks: Looks) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (socket, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                debug!(error = %e, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (registry, readiness, looks) = (registry.clone(), readiness.clone(), looks.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, &registry, &*readiness, &looks));
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(HEAD);
            if let Err(e) = http.serve_connection(TokioIo::new(socket), answer).await {
                log_failure(from, &e);
            }
            drop(place);
        });
    }
}

fn log_failure(from: SocketAddr, error: &hyper::Error) {
    debug!(client = %from, %error, "HTTP connection failed");
}

async fn answer<R: Readiness>(
    request: Request<Incoming>,
    registry: &Registry,
    readiness: &R,
    looks: &Looks,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into()));
    }
    Ok(match request.uri().path() {
        "/metrics" => {
            tokio::join!(looks.peers.look(), looks.conflicts.look());
            let mut text = String::new();
            match prometheus_client::encoding::text::encode(&mut text, registry) {
                Ok(()) => {
                    let mut response = plain(StatusCode::OK, text);
                    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(OPENMETRICS));
                    response
                }
                Err(e) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n")),
            }
        }
        "/healthz" => plain(StatusCode::OK, "ok\n".into()),
        "/readyz" => match readiness.check().await {
            Ok(()) => plain(StatusCode::OK, "ready\n".into()),
            Err(why) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        },
        _ => plain(StatusCode::NOT_FOUND, "here are /metrics, /healthz and /readyz\n".into()),
    })
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
