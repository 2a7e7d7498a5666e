//! The client of the PassFort API.
