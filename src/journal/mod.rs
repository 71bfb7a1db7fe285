//! The ordered record of a node's changes, kept in its own database (§5).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

pub mod access;
pub mod aftermath;
pub mod codec;
pub mod dump;
pub mod entry;
mod form;
pub mod image;
pub mod key;
pub mod meta;
pub mod migrate;
mod nonces;
pub mod reader;
pub mod render;
mod rowkey;
mod rows;
pub mod tick;
pub mod ticker;
pub mod trim;

pub use access::AccessError;
pub use codec::{DecodeError, EncodeError, Entries, Entry, encode_entry};
pub use form::HeadForm;
pub use image::{BadImage, Image, Images, Value, unhex, unhex_into};
pub use key::{Key, KeyError};
pub use meta::{Appender, Author, AuthorId, Forgery, Meta, MetaError, NoRandom, Nonce};
pub use reader::{Item, ReadError, Reader};
pub use render::{RenderError, Rendered, Renderer};
pub use rowkey::{key_differs, row_key, row_number};
pub use tick::{BadTick, CommitTime, Progress, Snapshot, Tick, TickId, Xid};
pub use ticker::{State, Ticker, TickerError, TickerOptions, Waker};
pub use trim::{Passed, Trim, TrimOptions};
