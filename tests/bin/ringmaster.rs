//! `ringmaster`, as the tests start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
