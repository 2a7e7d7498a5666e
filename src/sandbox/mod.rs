//! A stand-in for the PassFort API, on loopback.
