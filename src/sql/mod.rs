//! What can be known of a statement from its bytes alone: pure functions that know no sockets.
