//! Rise and fall: from single probe outcomes to a verdict, with `hold` and flap damping.
