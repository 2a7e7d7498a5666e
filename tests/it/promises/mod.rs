//! What README's section "What is promised" says, sentence by sentence.

mod created_once;
mod race;
