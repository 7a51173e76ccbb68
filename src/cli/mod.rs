//! The `sendpath` command: one file per subcommand.

// These macros panic where the stream cannot be written; `output` has what does not.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod ab;
mod allocator;
mod answer;
mod client;
mod compare;
mod doctor;
mod history;
mod interrupt;
mod next_command;
mod output;
mod progress;
mod report;
mod run;
mod stack;
mod sweep;
mod tune;
mod worker;

use std::process::ExitCode;
use std::str::FromStr;

pub use allocator::Allocator;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Parser, Subcommand};
use strum::{EnumMessage, VariantArray};

use crate::ab::format::Conclusion;
use crate::error::Error;
use crate::settings::{self, Settings};
use sendpath_report::error::Error as Stored;

/// Everything was measured.
const DONE: u8 = 0;
/// A case failed.
const FAILED: u8 = 1;
/// The input makes no sense; nothing was set up.
const BAD_INPUT: u8 = 2;
/// What `doctor` was told to require is not there.
const MISSING: u8 = 3;
/// `ab` cannot tell.
const UNDECIDED: u8 = 3;
/// `tune` has not found a size that it looked for.
const NOT_FOUND: u8 = 3;
/// `ab` could not measure, or has no value for a service.
const NOT_MEASURED: u8 = 4;
/// Ended by Ctrl-C or SIGTERM; what had been measured was printed.
const INTERRUPTED: u8 = 130;

const ABOUT: &str = "Which of Linux's ways to send a structured message is the cheapest, on this machine?";

const AFTER_HELP: &str = "\
Examples:
  sendpath run                                     64 KiB by two_copy, one pair, one second
  sendpath run --path zero_copy --layout page      the same by MSG_ZEROCOPY, fields on pages of their own
  sendpath run --size 256K --threads 4 --json      one JSON object on stdout
  sendpath sweep                                   all paths by size, interleaved, in a minute
  sendpath tune                                    the size from which on each path pays
  sendpath report target-reports/…                 a page of what a sweep says
  sendpath sweep --peer 'ssh bob sendpath client'  the same to a receiver on another machine
  sendpath doctor                                  what this machine can measure, and what it cannot
  cargo bench                                      all cases, with charts

Exit codes: 0 measured, 1 a case failed or a file could not be written, 2 bad input (nothing was set
up), 3 doctor --require found something missing, 130 interrupted.";

#[derive(Parser)]
#[command(name = "sendpath", version, about = ABOUT, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Options),
    Sweep(sweep::Options),
    Tune(tune::Options),
    Report(report::Options),
    Ab(ab::Options),
    Compare(compare::Options),
    History(history::Options),
    Doctor(doctor::Options),
    Client(client::Options),
    /// Be one side of a comparison; `ab` starts it.
    #[command(hide = true)]
    Worker(worker::Options),
}

/// The exit code that says what a comparison comes to.
fn code_of(conclusion: Conclusion) -> u8 {
    match conclusion {
        Conclusion::None => DONE,
        Conclusion::Regression => FAILED,
        Conclusion::Undecided | Conclusion::Nothing => UNDECIDED,
    }
}

/// Reads one of an enum's words, which `--help` lists with what they mean.
fn word<T>() -> impl TypedValueParser<Value = T>
where
    T: Copy
        + Send
        + Sync
        + FromStr<Err = strum::ParseError>
        + EnumMessage
        + VariantArray
        + Into<&'static str>,
{
    let values = T::VARIANTS.iter().map(|&value| {
        // A line break of the source is none of the help.
        let about = value.get_documentation().unwrap_or_default().replace('\n', " ");
        PossibleValue::new(value.into()).help(about.trim_end_matches('.').to_owned())
    });
    PossibleValuesParser::new(values).try_map(|word| word.parse())
}

/// The link and the sockets, as every command takes them.
type SetupOptions = Settings<settings::Link>;

/// This program, as it is started once more.
const PROGRAM: &str = "/proc/self/exe";

/// Reads the command line, does what it says, and returns the exit code.
pub fn main() -> ExitCode {
    // Before anything that needs more of the stack.
    let prepared =
        stack::grow().and_then(|()| interrupt::let_large_files_fail().map_err(|errno| errno.to_string()));
    if let Err(problem) = prepared {
        output::note(&format!("sendpath: {problem}"));
        return ExitCode::from(FAILED);
    }
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return usage(&error),
    };
    let is_brought_to_an_end =
        matches!(command, Command::Run(_) | Command::Sweep(_) | Command::Tune(_) | Command::Ab(_));
    if !is_brought_to_an_end && let Err(errno) = interrupt::end_by_cpu_limit() {
        output::note(&format!("sendpath: sigaction(2): {errno}"));
        return ExitCode::from(FAILED);
    }
    let outcome = match command {
        Command::Run(options) => run::run(&options),
        Command::Sweep(options) => sweep::run(&options),
        Command::Tune(options) => tune::run(&options),
        Command::Report(options) => report::run(&options),
        Command::Ab(options) => ab::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::History(options) => history::run(&options),
        Command::Worker(options) => worker::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::Client(options) => client::run(&options),
    };
    let code = outcome.unwrap_or_else(|error| {
        output::note(&format!("sendpath: {error:#}"));
        let bad_input = error.downcast_ref::<Error>().is_some_and(Error::is_bad_input)
            || error.downcast_ref::<Stored>().is_some_and(Stored::is_bad_input);
        if bad_input { BAD_INPUT } else { FAILED }
    });
    ExitCode::from(code)
}

/// Help and version as clap prints them; an error as one line.
fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe is no reason to fail.
            let _ = error.print();
            ExitCode::from(if error.use_stderr() { BAD_INPUT } else { DONE })
        }
        _ => {
            let text = error.to_string();
            // What is wrong stands before the first empty line; what is missing on lines of its
            // own.
            let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
            let text = lines.join(" ");
            let text = text.trim_start_matches("error: ");
            ab::comment_on_usage(std::env::args_os(), text);
            output::note(&format!("sendpath: {text} (see --help)"));
            ExitCode::from(BAD_INPUT)
        }
    }
}
