//! What is beside a database in files of its own, because it must work where the database does not: who works on it, how
//! others wake that process, and which uploads were in flight when it was killed.

pub mod in_doubt;
pub mod lock;
pub mod wake;
