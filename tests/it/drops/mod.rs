//! What a drop takes, when it takes it, and where the files end up.

mod archiving;
mod changed_files;
mod complete_files;
mod cumulative_lists;
mod failed_entries;
mod fair_shares;
mod fuzz_corpus;
mod ground;
mod hostile_input;
mod image_size;
mod inotify;
mod input_limits;
mod manifest_formats;
mod mounts;
mod near_paths;
mod partner_notes;
mod real_images;
mod sftp;
mod taking;
mod unclaimed;
mod warnings;
mod watching;
mod whose_file;
