//! The drop folder: what lies in it, read beneath its root only.
