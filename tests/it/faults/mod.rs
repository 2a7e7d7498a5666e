//! What goes wrong outside the program: the API, the network, the disk, the clock, the database.

mod api_faults;
mod api_limits;
mod backup_and_restore;
mod clock_jumps;
mod damaged_database;
mod disk;
mod lineage;
mod refusals;
mod stopped_accounts;
mod table;
mod tls;
