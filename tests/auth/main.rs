//! Who gets in through the proxy, how, and what those are told who do not: real servers, real libpq, and every mode of TLS.

#[path = "../common/mod.rs"]
mod common;

mod cancel;
mod client_leg;
mod guard;
mod relayed;
mod reload;
mod requests;
mod rules;
mod scram_oracle;
mod server_leg;
mod site;
mod startup;
mod stub;
mod takeover;
