//! Files that are written once, atomically, and are on disk when the call returns.
