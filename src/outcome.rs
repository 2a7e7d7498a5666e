//! What became of one call to the API.
