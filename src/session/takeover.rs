//! `auth = "scram"`: the proxy checks the client against the server's own verifier, and logs in with the key that the
//! client's proof reveals. No password is known, kept or needed; each leg binds to its own certificate.

use crate::session::login::{Leg, Login, Stop, server_gone};
use crate::wire::error::{Report, WireError, describe_error, sqlstate};
use crate::wire::message::{back, front};
use crate::wire::scram::{ClientKey, ScramClient, ScramClientError, ScramError, ScramServer, Step, Verifier};
use crate::wire::tls::tls_server_end_point;

/// Answers the server's AuthenticationSASL (`offer`) in place of the client, after the client has answered ours.
///
/// The client learns that it is in only when the server has let the proxy in.
pub(super) async fn authenticate(login: &mut Login<'_>, server: &mut Leg, offer: &[u8]) -> Result<(), Stop> {
    let verifier = verifier(login).await?;
    let (key, farewell) = check_client(login, verifier.clone()).await?;
    enter(login, server, offer, key, verifier).await?;
    login.client.send_frame(back::AUTHENTICATION, &farewell).await.map_err(Stop::ClientGone)
}

/// The user's verifier, or one that nothing satisfies: whether a user exists is not told before it is proven.
async fn verifier(login: &Login<'_>) -> Result<Verifier, Stop> {
    let user = &login.params.user;
    let Some(control) = login.control else {
        return Err(broken("there is no control connection to read SCRAM verifiers with"));
    };
    let secret = control.scram_verifier(user).await.map_err(|e| {
        tracing::error!(error = %e, "cannot read SCRAM verifiers; auth = \"scram\" needs: GRANT SELECT ON pg_catalog.pg_authid TO the control role");
        broken("the proxy cannot read SCRAM verifiers from the server")
    })?;
    Ok(secret.as_deref().and_then(|s| Verifier::parse(s).ok()).unwrap_or_else(|| control.mock_verifier(user)))
}

async fn check_client(login: &mut Login<'_>, verifier: Verifier) -> Result<(ClientKey, Vec<u8>), Stop> {
    let binding = match &login.settings.tls {
        Some(tls) if login.client.stream.is_tls() => tls.channel_binding().ok().map(<[u8]>::to_vec),
        _ => None,
    };
    let user = login.params.user.clone();
    let refuse = |e: ScramError| refused(&user, &e);
    let mut scram = ScramServer::new(verifier, binding).map_err(&refuse)?;
    let mut question = scram.offer();
    loop {
        login.client.send_frame(back::AUTHENTICATION, &question).await.map_err(Stop::ClientGone)?;
        let answer = login.client.next().await.map_err(Stop::ClientGone)?;
        if answer.tag() != front::PASSWORD {
            return Err(Stop::ClientGone(WireError::Malformed("SASLResponse")));
        }
        match scram.on_response(answer.body()).map_err(&refuse)? {
            Step::Challenge(body) => question = body,
            Step::Done { final_body, client_key } => return Ok((client_key, final_body)),
        }
    }
}

async fn enter(
    login: &mut Login<'_>,
    server: &mut Leg,
    offer: &[u8],
    key: ClientKey,
    verifier: Verifier,
) -> Result<(), Stop> {
    let refuse = |e: ScramClientError| broken(&e.to_string());
    // A certificate whose signature names no hash cannot be bound to; the server then offers no binding either.
    let binding = server.stream.peer_certificate().and_then(|der| tls_server_end_point(der).ok());
    let mut scram = ScramClient::new(key, verifier, binding).map_err(refuse)?;
    let first = scram.on_offer(offer).map_err(refuse)?;
    server.send_frame(front::PASSWORD, &first).await.map_err(server_gone)?;
    let body = next_question(login, server).await?;
    let proof = scram.on_continue(&body).map_err(|e| match e {
        // For a password that has expired the server makes up a verifier, which no proof satisfies.
        ScramClientError::VerifierChanged => {
            tracing::info!(reason = %e, "password authentication failed");
            refused(&login.params.user, &ScramError::WrongProof)
        }
        e => refuse(e),
    })?;
    server.send_frame(front::PASSWORD, &proof).await.map_err(server_gone)?;
    let body = next_question(login, server).await?;
    scram.on_final(&body).map_err(refuse)
}

/// The body of the server's next Authentication message; its error goes to the client as it is.
async fn next_question(login: &mut Login<'_>, server: &mut Leg) -> Result<Vec<u8>, Stop> {
    loop {
        let frame = server.next().await.map_err(server_gone)?;
        match frame.tag() {
            back::AUTHENTICATION => return Ok(frame.body().to_vec()),
            back::ERROR => {
                login.tell(frame.bytes()).await?;
                return Err(Stop::Server(describe_error(frame.body())));
            }
            _ => login.tell(frame.bytes()).await?,
        }
    }
}

/// What the server itself would say.
fn refused(user: &str, error: &ScramError) -> Stop {
    let mut fatal = Report::fatal(error.sqlstate(), error.message(user));
    fatal.detail = error.detail();
    Stop::Own("password", fatal)
}

fn broken(message: &str) -> Stop {
    Stop::Own(
        "scram",
        Report::fatal(sqlstate::INVALID_AUTHORIZATION, format!("SCRAM authentication failed: {message}")),
    )
}
