//! What can be known of a statement from its bytes alone: pure functions that know no sockets.
// Statements come from outside (I6: whatever they hold, the relay goes on). Offsets never pass the length of a slice,
// which is at most `isize::MAX`, so adding to them cannot wrap and arithmetic is not denied here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod effect;
pub mod encoding;
pub mod ident;
pub mod lexer;
pub mod name;
pub mod quote;
pub mod script;
pub mod shape;
pub mod split;
pub mod statement;
pub mod token;

pub use effect::{Effect, Effects, effect, effects};
pub use encoding::ClientEncoding;
pub use lexer::{LexOptions, Lexer};
pub use name::Name;
pub use shape::shape;
pub use split::{Piece, Split};
pub use token::{Fault, Open, Token, TokenKind};
