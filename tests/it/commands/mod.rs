//! What each command prints, writes and ends with.

mod adopt;
mod alerts;
mod beside_a_daemon;
mod causes;
mod check;
mod demo;
mod doctor;
mod guides;
mod http;
mod import;
mod import_folders;
mod import_run;
mod import_stages;
mod layouts;
mod monitoring;
mod plan;
mod queue_control;
mod readme;
mod rehearse;
mod reload;
mod run_once;
mod snapshots;
mod verify;
mod verify_heals;
