//! The compiled market book: market rules as every pricing pod enforces them.
