//! Transactions that the peer has before their turn (`delivery = "atomic"`, §7): ended as the node has decided, passed over when
//! their turn comes.

use std::collections::HashSet;

use crate::apply::{Applier, Prepared};
use crate::journal::Xid;

use super::ForwardError;
use super::store::Store;

/// Ends what the peer has prepared, where the node has decided; all that the peer has before its turn.
pub(super) async fn resolve(applier: &mut Applier, store: &Store) -> Result<HashSet<Xid>, ForwardError> {
    let mut early = HashSet::new();
    for Prepared { xid, gid } in applier.early().await? {
        let committed = match &gid {
            None => true,
            Some(gid) => match store.decision(gid).await? {
                None => continue,
                Some(committed) => {
                    applier.finish(gid, committed).await?;
                    committed
                }
            },
        };
        if committed {
            early.insert(xid);
        }
    }
    Ok(early)
}
