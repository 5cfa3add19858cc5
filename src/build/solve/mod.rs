//! The scheduler: keys, records, and steps that run as soon as their inputs are there. Knows
//! operations only through its traits.
