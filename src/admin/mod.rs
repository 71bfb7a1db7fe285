//! What operators and their tools look at.

pub mod conflicts;
pub mod console;
pub mod http;
pub mod peers;
