//! Controller of Markets: compiles all rules of an environment to one market book and puts it in force.
//!
//! It works by namespace, not by Market: an environment without Markets has an (empty) book too, and the end of the last Market is
//! a change like any other. Every change is written to ConfigMap `market-book` first and then told to every pod that follows it.

pub mod book;
pub mod build;
pub mod drive;
pub mod push;
pub mod status;
pub mod validate;

pub use drive::start;
