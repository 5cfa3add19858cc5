//! The command line: arguments, printers and progress. The only room that prints.
