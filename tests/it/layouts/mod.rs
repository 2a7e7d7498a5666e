//! Partners' own lists in drops, read by the operator's layout. The folders beside this file are archives as teams have
//! them; `commands::layouts` reads those.

mod drops;
