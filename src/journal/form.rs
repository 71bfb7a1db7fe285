//! A head that is written again and again: what stays the same is encoded once.

use super::codec::EncodeError;
use super::entry::{Head, Lane, Param};

/// A head but for its lane, its number of rows and its text's parameters.
#[derive(Clone, Debug)]
pub struct HeadForm {
    /// Up to the lane.
    fixed: Vec<u8>,
    /// The text up to its parameters.
    text: Option<Vec<u8>>,
}

impl HeadForm {
    pub fn new(head: &Head) -> Result<Self, EncodeError> {
        let Head { op, schema, table, rule, encoding, shape, columns, extra, .. } = head;
        let fixed = postcard::to_stdvec(&(op, schema, table, rule, encoding, shape, columns, extra))?;
        let text = head.text.as_ref().map(|text| postcard::to_stdvec(&(&text.sql, &text.names, &text.settings)));
        Ok(Self { fixed, text: text.transpose()? })
    }

    /// The whole head, as [`encode_head`](super::codec::encode_head) makes it; in lane R without the text.
    pub fn encode(&self, lane: Lane, rows: Option<u64>, params: &[Param]) -> Result<Vec<u8>, EncodeError> {
        let text = self.text.as_deref().filter(|_| lane != Lane::Row);
        let mut room = [0; 16];
        let middle = postcard::to_slice(&(lane, rows, text.is_some()), &mut room)?;
        let params = text.map(|_| postcard::to_stdvec(params)).transpose()?;
        Ok([&self.fixed, &*middle, text.unwrap_or_default(), params.as_deref().unwrap_or_default()].concat())
    }
}
